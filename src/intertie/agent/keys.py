"""A node's own key: Ed25519, made on the node, kept in a file that only its owner reads, never printed or sent.

Signs with `cryptography` where it is installed, else with `ecdsa`, which is pure Python and comes inside the agent's
single file. Both give the same bytes.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

SEED: Final = 32
"""Bytes of a private key."""
PUBLIC: Final = 32
SIGNATURE: Final = 64


class KeyUnusable(Exception):
    """A key file that is missing, damaged or open to others; the message names the file and the remedy."""


class Curve(NamedTuple):
    """One implementation of Ed25519."""

    public: Callable[[bytes], bytes]
    """Seed -> public key."""
    sign: Callable[[bytes, bytes], bytes]
    """Seed, message -> signature."""
    verify: Callable[[bytes, bytes, bytes], bool]
    """Public key, message, signature -> whether it is good."""


class SigningKey:
    """An Ed25519 private key. `public` is what others may know of it."""

    __slots__ = ("_seed", "public")

    def __init__(self, seed: bytes) -> None:
        """Raises `ValueError` unless `seed` has 32 bytes."""
        if len(seed) != SEED:
            raise ValueError(f"a private key has {SEED} bytes")
        self._seed = seed
        self.public: Final = curve().public(seed)

    def __repr__(self) -> str:
        return f"SigningKey(public={encode(self.public)!r})"

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(secrets.token_bytes(SEED))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """The key in a file. Raises `KeyUnusable`, also when other users may read the file."""
        try:
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise KeyUnusable(f"{path} can be read by other users: run chmod 600 {path}")
            return cls(decode(path.read_text("ascii").strip()))
        except OSError as error:
            raise KeyUnusable(f"cannot read the node's key {path}: {error.strerror}") from None
        except ValueError:
            raise KeyUnusable(f"{path} is damaged: restore it from a backup, or enrol this node again") from None

    def save(self, path: Path) -> None:
        """Write the key to a file (mode 0600) that appears whole or not at all. Raises `OSError`."""
        write_private(path, encode(self._seed) + "\n")

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, 64 bytes."""
        return curve().sign(self._seed, message)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """True if `signature` is that of `message` by the key whose public part is `public`; false for any nonsense."""
    if len(public) != PUBLIC or len(signature) != SIGNATURE:
        return False
    return curve().verify(public, message, signature)


def encode(raw: bytes) -> str:
    """Bytes as they stand in JSON: base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes again. Raises `ValueError`."""
    try:
        if set(text) & {"+", "/", "="}:
            raise ValueError
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise ValueError("not base64url without padding") from None


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 that is whole after any crash, also one of the machine. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a crash of the machine, where the system can."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@cache
def curve() -> Curve:
    """The fastest implementation there is here. Raises `ImportError` if there is none."""
    try:
        return native()
    except ImportError:
        return portable()


def native() -> Curve:
    """Ed25519 by `cryptography`. Raises `ImportError`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def public(seed: bytes) -> bytes:
        # Not `public_bytes_raw`: distributions carry versions that do not have it yet.
        key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(seed: bytes, message: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(seed).sign(message)

    def good(public: bytes, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    return Curve(public, sign, good)


def portable() -> Curve:
    """Ed25519 by `ecdsa`, in pure Python: some milliseconds a signature, and there is one for each connection."""
    import ecdsa

    broken = (ecdsa.BadSignatureError, ecdsa.MalformedPointError, ValueError, AssertionError)

    def private(seed: bytes) -> Any:
        return ecdsa.SigningKey.from_string(seed, curve=ecdsa.Ed25519)

    def public(seed: bytes) -> bytes:
        return bytes(private(seed).verifying_key.to_string())

    def sign(seed: bytes, message: bytes) -> bytes:
        return bytes(private(seed).sign(message))

    def good(public: bytes, message: bytes, signature: bytes) -> bool:
        try:
            return bool(ecdsa.VerifyingKey.from_string(public, curve=ecdsa.Ed25519).verify(signature, message))
        except broken:
            return False

    return Curve(public, sign, good)
