"""Changing the protocol of a connection: which requests may, and what a WebSocket handshake must say (RFC 6455, 4.2).

Only for programs that dial in on purpose. A browser adds `Origin` to every handshake and would let any page speak in
the name of whoever looks at it, so a request that carries one is refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection
from typing import Protocol

import msgspec

from intertie.api.edge.rules import Header
from intertie.core.errors import BadCall
from intertie.core.wire.websocket import VERSION, accept_key


class Handshake(msgspec.Struct, frozen=True):
    """A proper request for a WebSocket, whose head has passed every check of the edge."""

    path: str
    headers: dict[bytes, bytes]
    """Lower-case names; of names that came twice, the last."""
    key: str
    """`Sec-WebSocket-Key`."""
    client: str = ""
    """Address of the client, without a port: the peer's, or what a trusted proxy says."""
    forwarded: bytes = b""
    """See `Framing.forwarded`."""
    scheme: str = "http"


class Upgrades(Protocol):
    """Takes over connections that ask for a WebSocket."""

    @property
    def paths(self) -> Collection[str]:
        """Where WebSockets begin."""
        ...

    @property
    def subprotocol(self) -> str:
        """What a client must offer and gets."""
        ...

    def accept(self, handshake: Handshake) -> asyncio.Protocol:
        """Who speaks on the connection from now on. Raises a `GatewayError` to refuse; must not block."""
        ...


def asks(method: bytes, headers: Collection[Header]) -> bool:
    """True if a request that wishes to change the protocol could be a WebSocket handshake."""
    if method != b"GET":
        return False
    wishes = [value for name, value in headers if name == b"upgrade"]
    return len(wishes) == 1 and wishes[0].strip().lower() == b"websocket"


def read_handshake(path: str, version: str, headers: Collection[Header], subprotocol: str) -> Handshake:
    """Raises `BadCall` unless the request is a handshake of a program that offers `subprotocol`."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _ONCE and name in found:
            raise _bad(f"There must be one {name.decode()} header, not several.")
        found[name] = value
    if b"origin" in found:
        raise BadCall(
            "Pages in a browser may not connect here: only agents dial in, and they send no Origin.",
            status=403,
            code="origin_refused",
        )
    if version != "1.1":
        raise _bad("A WebSocket begins with HTTP/1.1.")
    if found.get(b"sec-websocket-version") != VERSION.encode():
        raise _bad(f"The only WebSocket version spoken here is {VERSION}.")
    key = found.get(b"sec-websocket-key", b"")
    try:
        random = base64.b64decode(key, validate=True)
    except binascii.Error:
        random = b""
    if len(random) != 16:
        raise _bad("Sec-WebSocket-Key must be 16 bytes in base64.")
    offered = [name.strip() for name in found.get(b"sec-websocket-protocol", b"").split(b",")]
    if subprotocol.encode() not in offered:
        raise _bad(f"The WebSocket protocol spoken here is {subprotocol}; update the agent.")
    return Handshake(path, found, key.decode("ascii"))


def switching(handshake: Handshake, subprotocol: str, defaults: bytes) -> bytes:
    """The answer after which the other protocol begins. `defaults`: header lines of every answer."""
    lines = f"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept_key(handshake.key)}\r\n"
    lines += f"sec-websocket-protocol: {subprotocol}\r\n\r\n"
    return b"HTTP/1.1 101 Switching Protocols\r\n" + defaults + lines.encode("ascii")


_ONCE = frozenset({b"sec-websocket-key", b"sec-websocket-version", b"authorization", b"origin"})


def _bad(text: str) -> BadCall:
    return BadCall(text, code="bad_handshake")
