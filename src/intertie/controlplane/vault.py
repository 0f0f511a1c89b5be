"""Secrets at rest: an AES-256-GCM envelope per secret, the pepper for key hashes, and the gateway's own signing key,
all from one master key.

Each secret is encrypted under its own random data key, which is encrypted under the master key. Both are bound to a
`Place` (organisation, kind, record id) as associated data, so a ciphertext moved to another row does not decrypt.
The master key never enters the database.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from intertie.core.errors import Misconfigured
from intertie.core.terms import Secret

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE: Final = 12
_WRAPPED: Final = KEY_BYTES + 16


class Place(NamedTuple):
    """Where a sealed secret lives."""

    organisation: str
    kind: str
    """`credential` or `headers`."""
    record: str

    def bound(self) -> bytes:
        """The place as associated data; no two places read alike."""
        return b"".join(len(raw).to_bytes(4) + raw for raw in (part.encode() for part in self))


class Signer:
    """The gateway's own Ed25519 key, by which nodes and installers know it again. Derived, never stored."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: Final = self._key.public_key().public_bytes_raw()
        """32 bytes."""

    def __repr__(self) -> str:
        return "Signer(***)"

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, 64 bytes."""
        return self._key.sign(message)


def signed_by(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if `signature` over `message` is by the holder of this Ed25519 key. Never raises."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Vault:
    """Seals and opens secrets with one master key of 32 bytes."""

    def __init__(self, master: bytes) -> None:
        if len(master) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._wrap = AESGCM(_derive(master, b"intertie wrap data keys"))
        self.pepper: Final = _derive(master, b"intertie api key pepper")
        """32 bytes for `core.keys.hash_key`."""
        self.proof: Final = _derive(master, b"intertie master key proof")
        """32 bytes that only this master key yields, stored to recognise it again; reveals nothing about it."""
        self.signer: Final = Signer(_derive(master, b"intertie gateway signing key"))
        """Signs for this gateway; the same for as long as the master key is."""
        self.answers: Final = _derive(master, b"intertie kept answers")
        """32 bytes that encrypt kept answers on disk."""
        self.salt: Final = _derive(master, b"intertie kept answers: keys").hex()
        """Part of the key of each kept answer."""

    def __repr__(self) -> str:
        return "Vault(***)"

    def seal(self, secret: Secret, place: Place) -> bytes:
        """The secret as ciphertext for `place`: version, nonce, wrapped data key, nonce, ciphertext."""
        bound, data_key = place.bound(), AESGCM.generate_key(256)
        outer, inner = os.urandom(_NONCE), os.urandom(_NONCE)
        wrapped = self._wrap.encrypt(outer, data_key, bound)
        return _VERSION + outer + wrapped + inner + AESGCM(data_key).encrypt(inner, secret.reveal().encode(), bound)

    def open(self, sealed: bytes, place: Place) -> Secret:
        """The secret again. Raises `Misconfigured` if it was sealed for another place or key, or was altered."""
        bound, at = place.bound(), len(_VERSION)
        outer, wrapped = sealed[at : at + _NONCE], sealed[at + _NONCE : at + _NONCE + _WRAPPED]
        rest = sealed[at + _NONCE + _WRAPPED :]
        try:
            if sealed[:at] != _VERSION:
                raise InvalidTag
            data_key = self._wrap.decrypt(outer, wrapped, bound)
            return Secret(AESGCM(data_key).decrypt(rest[:_NONCE], rest[_NONCE:], bound).decode())
        except (InvalidTag, ValueError):
            raise Misconfigured(
                f"the stored {place.kind} {place.record} does not decrypt: altered, or sealed with another master key"
            ) from None


class Source(NamedTuple):
    """Where the master key is looked for: `given` itself, else a mounted `file`, else our `own` file."""

    own: Path
    given: str | None = None
    file: Path | None = None

    def __repr__(self) -> str:
        return f"Source(own={self.own!r}, given={'***' if self.given else None}, file={self.file!r})"


def unlock(source: Source, *, new: bool) -> Vault:
    """The vault. Our own file is made (mode 0600) for a `new` database only: a fresh key would open nothing old.

    Our own file must stay private; the mode of `file` is the operator's affair, because mounted secrets come with their
    own. Raises `Misconfigured` for a key that is not 32 bytes in base64 or hex, or a file that cannot be used.
    """
    if source.given is not None:
        return Vault(_decode(source.given, "INTERTIE_MASTER_KEY"))
    if source.file is not None:
        return Vault(_decode(_text(source.file), str(source.file)))
    if not new and not source.own.exists():
        raise Misconfigured(
            f"{source.own} is missing, and the database needs it: restore it or set INTERTIE_MASTER_KEY"
        )
    return Vault(_decode(private_text(source.own, make=_fresh), str(source.own)))


def private_text(path: Path, make: Callable[[], str]) -> str:
    """The stripped text of a file that only its owner may read; made from `make` (mode 0600) when it does not exist.

    Raises `Misconfigured` if it cannot be made or read, is empty, or is open to other users.
    """
    try:
        if not path.exists():
            _write_private(path, make())
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise Misconfigured(f"{path} can be read by other users: run chmod 600 {path}")
    except OSError as error:
        raise Misconfigured(f"cannot use {path}: {error.strerror}") from error
    return _text(path)


def _text(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"cannot read {path}: {error}") from error
    if not text:
        raise Misconfigured(f"{path} is empty")
    return text


def _write_private(path: Path, text: str) -> None:
    """Appears whole or not at all, and survives power loss: losing a master key loses every secret under it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)  # unlike rename, never replaces a key that another process has just made
    draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fresh() -> str:
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _decode(text: str, source: str) -> bytes:
    text = text.strip()
    try:
        raw = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(_padded(text), validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise Misconfigured(
            f"{source} must hold 32 random bytes in base64 or hex; make one with: openssl rand -base64 32"
        )
    return raw


def _padded(text: str) -> str:
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return text + "=" * (-len(text) % 4)


def _derive(master: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose).derive(master)
