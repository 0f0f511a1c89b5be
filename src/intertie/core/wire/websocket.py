"""WebSocket framing (RFC 6455) without I/O: what both ends of a link need of it, and nothing else.

Standard library only: the agent carries this file. No extensions, so no compression: deflating tiny events costs more
than it saves and delays their flush.
"""

from __future__ import annotations

import base64
import hashlib
from enum import IntEnum
from typing import Final, NamedTuple

VERSION: Final = "13"
MAX_MESSAGE: Final = 1 << 20
"""Bytes one message may have, in either direction. Bodies are cut into pieces well below this."""
MAX_CONTROL: Final = 125
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Opcode(IntEnum):
    """Kinds of frames."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


TEXT: Final = 0x1
BINARY: Final = 0x2
_CONTINUATION: Final = 0x0
_KNOWN: Final = frozenset(int(code) for code in Opcode)
_EMPTY: Final = b""


class Message(NamedTuple):
    """One whole message, or one control frame."""

    opcode: int
    payload: bytes


class FrameViolation(ValueError):
    """The peer broke the framing; `code` is the close code that says so."""

    def __init__(self, reason: str, code: int = 1002) -> None:
        super().__init__(reason)
        self.code = code


def accept_key(key: str) -> str:
    """`Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()).decode()


def encode(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """One whole frame. A client must give a fresh `mask` of four random bytes, a server none."""
    size = len(payload)
    high = 0 if mask is None else 0x80
    if size < 126:
        head = bytes((0x80 | opcode, high | size))
    elif size < 0x10000:
        head = bytes((0x80 | opcode, high | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, high | 127)) + size.to_bytes(8)
    if mask is None:
        return head + payload
    return head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """The payload under a mask of four bytes; masking twice gives it back."""
    size = len(payload)
    if not size:
        return _EMPTY
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a close frame; the reason is cut to what a control frame can hold."""
    text = reason.encode()[: MAX_CONTROL - 2].decode("utf-8", "ignore").encode()
    return code.to_bytes(2) + text


def read_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; 1005 where it has none. Never raises: the peer is leaving anyway."""
    if len(payload) < 2:
        return 1005, ""
    return int.from_bytes(payload[:2]), payload[2:].decode("utf-8", "replace")


class FrameReader:
    """Bytes in, messages out. `masked` says whether the peer must mask (clients must, servers must not)."""

    __slots__ = ("_held", "_masked", "_need", "_opcode", "_parts", "_size", "limit", "rest")

    def __init__(self, *, masked: bool, limit: int = MAX_MESSAGE) -> None:
        self._masked = masked
        self.limit = limit
        """Bytes a message may have; may be raised once the peer is known."""
        self._held: list[bytes] = []
        self._need = 0
        self.rest = 0
        """Bytes of an incomplete frame that are held."""
        self._parts: list[bytes] = []
        self._opcode = 0
        self._size = 0

    def __repr__(self) -> str:
        return f"<FrameReader {self.rest} bytes held>"

    def feed(self, piece: bytes) -> list[Message]:
        """Whole messages and control frames, in order. Raises `FrameViolation`; nothing more may be fed after that."""
        buffer = piece
        if self._held:
            # Joined only when it is enough: a large frame in tiny pieces would be copied again for each of them.
            self._held.append(piece)
            self.rest += len(piece)
            if self.rest < self._need:
                return []
            buffer = b"".join(self._held)
            self._held.clear()
        messages: list[Message] = []
        at, end, need = 0, len(buffer), 2
        while end - at >= 2:
            need = 2
            first, second = buffer[at], buffer[at + 1]
            size, start = second & 0x7F, at + 2
            if size == 126:
                if end - at < 4:
                    need = 4
                    break
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif size == 127:
                if end - at < 10:
                    need = 10
                    break
                size, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 10
            self._check(first, second, size)
            if second & 0x80:
                start += 4
            stop = start + size
            if stop > end:
                need = stop - at
                break
            payload = buffer[start:stop]
            if second & 0x80 and size:
                payload = masked(payload, buffer[start - 4 : start])
            at = stop
            opcode = first & 0x0F
            if first & 0x80 and opcode:
                messages.append(Message(opcode, payload))
            else:
                self._join(first, opcode, payload, messages)
        self.rest = end - at
        if at < end:
            self._held.append(buffer[at:] if at else buffer)
            self._need = need
        return messages

    def _check(self, first: int, second: int, size: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameViolation("reserved bits are set")
        if opcode not in _KNOWN:
            raise FrameViolation(f"unknown opcode {opcode}")
        if bool(second & 0x80) is not self._masked:
            raise FrameViolation("masking is wrong for this direction")
        if opcode >= 0x8:
            if size > MAX_CONTROL or not first & 0x80:
                raise FrameViolation("a control frame is too long or fragmented")
        elif size + self._size > self.limit:
            raise FrameViolation("the message is too large", 1009)
        elif (opcode == _CONTINUATION) is not bool(self._opcode):
            raise FrameViolation("a fragmented message is not continued properly")

    def _join(self, first: int, opcode: int, payload: bytes, messages: list[Message]) -> None:
        """A fragment: keep it, and give out the message with its last one."""
        if opcode:
            self._opcode = opcode
        self._parts.append(payload)
        self._size += len(payload)
        if len(self._parts) > 4096:
            raise FrameViolation("too many fragments")
        if first & 0x80:
            messages.append(Message(self._opcode, b"".join(self._parts)))
            self._parts.clear()
            self._opcode = self._size = 0
