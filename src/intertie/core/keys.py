"""API keys as text: `sk-it-`, 43 base62 characters of 256 random bits, 6 base62 characters of CRC-32 over all that.

The checksum lets secret scanners and the gateway tell a mistyped key from an unknown one without a look-up. Only the
keyed hash of a key is ever stored; without the pepper a stolen database cannot confirm a guess.
"""

from __future__ import annotations

import hashlib
import hmac
import string
import zlib
from typing import Final

PREFIX: Final = "sk-it-"
ENTROPY: Final = 32
"""Random bytes in a key."""
SHORTEST: Final = 16
"""Characters an operator's own key must have."""
LONGEST: Final = 512

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_REMEMBERED: Final = 20_000
"""Hashes a `KeyHasher` keeps: wrong keys are among them, and there is no end to those."""
_BODY: Final = 43
_CHECK: Final = 6


def make_key(entropy: bytes) -> str:
    """A new API key from exactly `ENTROPY` random bytes."""
    if len(entropy) != ENTROPY:
        raise ValueError(f"a key needs {ENTROPY} random bytes, not {len(entropy)}")
    body = PREFIX + _base62(int.from_bytes(entropy), _BODY)
    return body + _checksum(body)


def checksum_ok(presented: str) -> bool:
    """True if `presented` has the form of a key made here and its checksum matches."""
    if len(presented) != len(PREFIX) + _BODY + _CHECK or not presented.startswith(PREFIX) or not presented.isascii():
        return False
    return _checksum(presented[:-_CHECK]) == presented[-_CHECK:]


def hash_key(pepper: bytes, presented: str) -> bytes:
    """HMAC-SHA-256 of a key: 32 bytes, the only form in which keys are stored and looked up. Accepts any text."""
    return hmac.digest(pepper, presented.encode("utf-8", "surrogatepass"), hashlib.sha256)


class KeyHasher:
    """`hash_key` for every request: what was hashed lately is remembered, under a quick hash whose secret `seed` (16 to
    64 random bytes) no other process has. No key itself is kept.
    """

    __slots__ = ("_known", "_pepper", "_seed")

    def __init__(self, pepper: bytes, seed: bytes) -> None:
        self._pepper = pepper
        self._seed = seed
        self._known: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"<KeyHasher {len(self._known)}>"

    def __call__(self, presented: str) -> bytes:
        """The same as `hash_key` of this text."""
        quick = hashlib.blake2b(presented.encode("utf-8", "surrogatepass"), key=self._seed, digest_size=32).digest()
        found = self._known.get(quick)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[quick] = hash_key(self._pepper, presented)
        return found


def flaw(value: str) -> str | None:
    """Why an operator's own `value` cannot be an API key, or None if it can. Never quotes the value."""
    if not SHORTEST <= len(value) <= LONGEST:
        return f"a key has {SHORTEST} to {LONGEST} characters, this one has {len(value)}"
    if not all("!" <= character <= "~" for character in value):
        return "a key has only visible ASCII characters and no spaces"
    if value.startswith(PREFIX) and not checksum_ok(value):
        return f"it begins with {PREFIX} but its checksum is wrong: a character is missing or mistyped"
    if len(set(value)) < 6:
        return "it repeats too few characters to be secret"
    return None


def hint(value: str) -> str:
    """What lists show of a key so that people can tell keys apart: at most ten characters of it."""
    if checksum_ok(value):
        return f"{value[: len(PREFIX) + 4]}…{value[-2:]}"
    return f"…{value[-4:]}" if len(value) >= 2 * SHORTEST else f"…{value[-2:]}"


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)
