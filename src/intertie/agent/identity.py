"""Who this machine is to its gateway: `node.json` (no secret in it), the key beside it, and how the key is replaced.

`node.json` names the public key in force, so whichever file holds its private part is the node's key. A new key waits
in `key.next` until the gateway has it; the step that counts is the atomic replacement of `node.json`, and a crash
before or after it leaves a key that works. If the gateway's answer was lost, nobody here knows which key it expects:
then `retry_with_pending` swaps to the waiting one, and `accepted` settles it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from intertie.agent.keys import KeyUnusable, SigningKey, decode, encode, sync_folder, write_private
from intertie.core.wire.enrolment import origin as origin_of

NODE: Final = "node.json"
KEY: Final = "key"
PENDING: Final = "key.next"


class NotEnrolled(Exception):
    """This folder holds no node; `join` makes one."""


@dataclass(frozen=True)
class Enrolled:
    """What the gateway answered, and what its owner typed. Everything here may be shown."""

    node: str
    key: str
    """The gateway's id of the key in force."""
    public_key: str
    name: str
    origin: str
    """Scheme, host and port under which the owner knows the gateway: what is signed."""
    link: str
    """The address of the link, http or https."""
    gateway_keys: tuple[str, ...]
    """The gateway's own public keys; nothing else may call itself this gateway."""
    enrolled_at: str
    """UTC, by this machine's clock; nothing depends on it."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what cannot be an identity."""
        if not self.node or not self.gateway_keys or any(len(decode(key)) != 32 for key in self.gateway_keys):
            raise ValueError("a node needs an id and its gateway's public keys")
        if origin_of(self.link) != self.origin:
            raise ValueError("the link leads to another gateway")


@dataclass(frozen=True)
class NewKey:
    """A key that is not in force yet. `keep` makes it so, once the gateway has said its id."""

    public: bytes
    sign: Callable[[bytes], bytes]
    keep: Callable[[str], None]


class Identity:
    """A node's identity as the link needs it. Not for several threads; files are read once."""

    __slots__ = ("_enrolled", "_folder", "_key", "_pending", "_standing_in")

    def __init__(self, folder: Path, enrolled: Enrolled, key: SigningKey, pending: SigningKey | None = None) -> None:
        self._folder = folder
        self._enrolled = enrolled
        self._key = key
        self._pending = pending
        self._standing_in = False

    def __repr__(self) -> str:
        return f"<Identity {self.node} {self.name!r} at {self.origin}>"

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """The identity in a folder; finishes a replacement of the key that a crash cut short.

        Raises `NotEnrolled`, or `KeyUnusable` if a file is damaged or no file holds the key.
        """
        enrolled = read_enrolled(folder)
        current, waiting = _load(folder / KEY), _load(folder / PENDING)
        if waiting is not None and encode(waiting.public) == enrolled.public_key:
            _settle(folder)
            return cls(folder, enrolled, waiting)
        if current is None or encode(current.public) != enrolled.public_key:
            raise KeyUnusable(f"{folder / KEY} is not the key of {enrolled.name}: restore it, or enrol this node again")
        return cls(folder, enrolled, current, waiting)

    # -- what the link asks

    @property
    def node(self) -> str:
        """The node's id, made by the gateway."""
        return self._enrolled.node

    @property
    def key(self) -> str:
        """The gateway's id of the key in force."""
        return self._enrolled.key

    @property
    def name(self) -> str:
        """What people call the node; its name at the time it enrolled."""
        return self._enrolled.name

    @property
    def origin(self) -> str:
        """The gateway's origin, as it is signed."""
        return self._enrolled.origin

    @property
    def link(self) -> str:
        """The address of the link, http or https."""
        return self._enrolled.link

    @property
    def gateway_keys(self) -> tuple[bytes, ...]:
        """Public keys by one of which the gateway must sign its challenge."""
        return tuple(decode(key) for key in self._enrolled.gateway_keys)

    @property
    def enrolled(self) -> Enrolled:
        """All that may be shown."""
        return self._enrolled

    @property
    def pending(self) -> bool:
        """True while a new key waits for the gateway's word."""
        return self._pending is not None

    def sign(self, message: bytes) -> bytes:
        """The node's signature of `message`, 64 bytes."""
        key = self._pending if self._standing_in and self._pending is not None else self._key
        return key.sign(message)

    # -- replacing the key

    def fresh_key(self) -> NewKey:
        """A key to offer to the gateway, already on disk. Offered again if an earlier offer was never answered."""
        if self._pending is None:
            made = SigningKey.generate()
            made.save(self._folder / PENDING)
            self._pending = made
        fresh = self._pending
        return NewKey(fresh.public, fresh.sign, lambda key_id: self._keep(fresh, key_id))

    def retry_with_pending(self) -> bool:
        """The gateway refused the key: sign with the other one from now on, if a replacement was left in doubt.

        True if another key will be tried, so that dialling again makes sense at once; false when both were refused.
        """
        if self._pending is None:
            return False
        self._standing_in = not self._standing_in
        return self._standing_in

    def accepted(self, key_id: str = "") -> None:
        """The gateway took the last signature. If it was the waiting key's, that one is in force now."""
        if self._standing_in and self._pending is not None:
            self._keep(self._pending, key_id or self._enrolled.key)

    def _keep(self, fresh: SigningKey, key_id: str) -> None:
        self._enrolled = replace(self._enrolled, key=key_id, public_key=encode(fresh.public))
        _write_enrolled(self._folder, self._enrolled)
        _settle(self._folder)
        self._key, self._pending, self._standing_in = fresh, None, False


def read_enrolled(folder: Path) -> Enrolled:
    """The facts in `node.json`. Raises `NotEnrolled`, or `KeyUnusable` if the file is damaged."""
    path = folder / NODE
    try:
        members: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Enrolled(**{**members, "gateway_keys": tuple(members["gateway_keys"])})
    except FileNotFoundError:
        raise NotEnrolled(f"this machine is not a node yet ({path} does not exist)") from None
    except OSError as error:
        raise KeyUnusable(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise KeyUnusable(f"{path} is damaged: restore it from a backup, or enrol this node again") from None


def establish(folder: Path, enrolled: Enrolled, key: SigningKey) -> Identity:
    """Write a new identity, in place of one that may be there. Raises `OSError`; then the old one is still whole."""
    key.save(folder / PENDING)
    _write_enrolled(folder, enrolled)
    _settle(folder)
    return Identity(folder, enrolled, key)


def forget(folder: Path) -> None:
    """Remove the identity: first what names it, then the keys. Nothing happens if there is none."""
    for name in (NODE, PENDING, KEY):
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)


def _write_enrolled(folder: Path, enrolled: Enrolled) -> None:
    write_private(folder / NODE, json.dumps(asdict(enrolled), indent=1) + "\n")


def _settle(folder: Path) -> None:
    """`node.json` names the waiting key: give it its place."""
    (folder / PENDING).replace(folder / KEY)
    sync_folder(folder)


def _load(path: Path) -> SigningKey | None:
    return SigningKey.load(path) if path.exists() else None
