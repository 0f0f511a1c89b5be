"""How a machine becomes a node: the text form of tokens, and exactly what each side signs.

Standard library only and no I/O: the agent carries this file. Signatures are Ed25519 over the bytes these functions
build; every field is length-prefixed, so no two sets of fields read alike, and begins with a purpose, so no signature
serves for another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import string
import zlib
from typing import Final, NamedTuple
from urllib.parse import urlsplit

SINGLE: Final = "itne"
"""Prefix of a token that enrols one machine."""
FLEET: Final = "itnf"
"""Prefix of a token that enrols several."""
ENTROPY: Final = 32
"""Random bytes of a token's secret."""
ID_LENGTH: Final = 10
NONCE: Final = 32
"""Bytes of every nonce."""
TOKEN_SECONDS: Final = 3600.0
"""How long a single-use token is good unless its maker says otherwise."""
SHORTEST_TOKEN_SECONDS: Final = 300.0
LONGEST_TOKEN_SECONDS: Final = 86_400.0
LONGEST_FLEET_SECONDS: Final = 90 * 86_400.0
DEVICE_SECONDS: Final = 900.0
DEVICE_INTERVAL: Final = 2.0
"""Seconds between an agent's questions whether it was approved."""
USER_CODE_DIGITS: Final = "BCDFGHJKLMNPQRSTVWXZ23456789"
"""No vowels, so no words; nothing that reads like something else."""

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET: Final = 43
_CHECK: Final = 6
_FORM: Final = re.compile(rf"({SINGLE}|{FLEET})_([0-9A-Za-z]{{{ID_LENGTH}}})_([0-9A-Za-z]{{{_SECRET + _CHECK}}})")


class Token(NamedTuple):
    """An enrolment token taken apart. `secret` goes to the gateway and nowhere else."""

    kind: str
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Token(kind={self.kind!r}, id={self.id!r}, secret='***')"


class Mistyped(ValueError):
    """The text is not a token; the message says what is wrong and never quotes it."""


def make_token(kind: str, entropy: bytes) -> str:
    """A new token from `ID_LENGTH + ENTROPY` random bytes: `itne_<id>_<secret and checksum>`."""
    if kind not in {SINGLE, FLEET} or len(entropy) != ID_LENGTH + ENTROPY:
        raise ValueError("a token needs a known kind and its random bytes")
    name = "".join(_DIGITS[byte % 62] for byte in entropy[:ID_LENGTH])
    body = f"{kind}_{name}_{_base62(int.from_bytes(entropy[ID_LENGTH:]), _SECRET)}"
    return body + _checksum(body)


def read_token(text: str) -> Token:
    """The parts of a token. Raises `Mistyped`: to be called before anything is sent anywhere."""
    text = text.strip()
    if not text:
        raise Mistyped("no token was given")
    if not text.startswith((SINGLE + "_", FLEET + "_")):
        raise Mistyped(f"an enrolment token begins with {SINGLE}_ or {FLEET}_; this is something else")
    found = _FORM.fullmatch(text)
    if found is None:
        raise Mistyped("the token is incomplete or has characters that do not belong; copy it again, whole")
    if _checksum(text[:-_CHECK]) != text[-_CHECK:]:
        raise Mistyped("the token's checksum is wrong: a character is missing or mistyped; copy it again, whole")
    return Token(found[1], found[2], found[3][:-_CHECK])


def hash_secret(pepper: bytes, secret: str) -> bytes:
    """The keyed hash in which the gateway keeps the secret of a token or a device code; 32 bytes."""
    return hmac.digest(pepper, b"intertie enrolment\0" + secret.encode(), hashlib.sha256)


def user_code(entropy: bytes) -> str:
    """A code to read aloud, `BCDF-GHJK`, from eight random bytes."""
    letters = "".join(USER_CODE_DIGITS[byte % len(USER_CODE_DIGITS)] for byte in entropy[:8])
    return f"{letters[:4]}-{letters[4:]}"


def origin(address: str) -> str:
    """`scheme://host[:port]` of a gateway's address, lower case, default port left out. Raises `ValueError`."""
    parts = urlsplit(address.strip())
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme.lower(), parts.scheme.lower())
    if scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as https://ai.example.com")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port
    return f"{scheme}://{host.lower()}" + (f":{port}" if port and port != {"http": 80, "https": 443}[scheme] else "")


DIALLED: Final = "x-intertie-origin"
"""Header by which an agent tells the origin that it dialled: a proxy may put another Host in its place. It only chooses
among the addresses that the gateway has anyway."""


# -- what is signed --------------------------------------------------------------------------------------------------


def enrol_message(*, origin: str, token_id: str, public_key: bytes, nonce: bytes) -> bytes:
    """Signed by the new node's key when it enrols. With a device code, `token_id` is empty."""
    return _fields("intertie enrol 1", origin, token_id, public_key, nonce)


def device_message(*, origin: str, device_code: str, public_key: bytes) -> bytes:
    """Signed by the new node's key each time it asks whether it was approved."""
    return _fields("intertie device 1", origin, device_code, public_key)


def challenge_message(*, origin: str, nonce: bytes, connection: str, time: int) -> bytes:
    """Signed by the gateway's key in its challenge, over the origin under which the agent reached it."""
    return _fields("intertie challenge 1", origin, nonce, connection, str(time))


def auth_message(*, origin: str, nonce: bytes, connection: str, node: str, instance: str) -> bytes:
    """Signed by the node's key in answer to a challenge: good for this connection only."""
    return _fields("intertie auth 1", origin, nonce, connection, node, instance)


def rotate_message(*, node: str, connection: str, public_key: bytes) -> bytes:
    """Signed by the old and by the new key when a node replaces its key."""
    return _fields("intertie rotate 1", node, connection, public_key)


def manifest_message(manifest: bytes) -> bytes:
    """Signed by the gateway's key: the list of agent files with their SHA-256."""
    return _fields("intertie manifest 1", manifest)


def fingerprint(machine_id: str) -> str:
    """A salted hash of the machine's own id, by which copies of a node are noticed; it authenticates nobody."""
    return hashlib.sha256(b"intertie machine\0" + machine_id.strip().encode()).hexdigest()[:32]


def _fields(*values: str | bytes) -> bytes:
    raws = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(len(raw).to_bytes(4) + raw for raw in raws)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)
