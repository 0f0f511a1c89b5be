"""A node's end of a connection, without a socket: what it was sent, and what it sends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from intertie.core.wire.link import write
from intertie.core.wire.websocket import BINARY, TEXT, FrameReader, Message, Opcode, encode, read_close
from intertie.dataplane.transport.wired import Wired

MASK = b"\x01\x02\x03\x04"


class Wire:
    """The transport below a connection."""

    def __init__(self) -> None:
        self.reading = True
        self.aborted = False
        self.ended = False
        self.unsent = 0
        self._frames = FrameReader(masked=False, limit=1 << 30)
        self.messages: list[Message] = []

    def write(self, data: bytes) -> None:
        assert not self.ended, "after the end"
        self.messages += self._frames.feed(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


class FarEnd:
    """The node behind one connection of the gateway."""

    def __init__(self, near: Wired) -> None:
        self.near: Any = near
        self.wire = Wire()
        wire: Any = self.wire
        near.connection_made(wire)

    def say(self, kind: str, **members: object) -> None:
        """Send a text message."""
        self.frame(TEXT, write(kind, **members).encode())

    def piece(self, content: bytes) -> None:
        """Send bytes."""
        self.frame(BINARY, content)

    def head(self, status: int = 200, **headers: str) -> None:
        """Begin an answer."""
        self.say("head", status=status, headers=headers)

    def frame(self, opcode: int, content: bytes = b"") -> None:
        """Send one frame."""
        self.near.data_received(encode(opcode, content, MASK))

    def leave(self, error: Exception | None = None) -> None:
        """The connection is lost."""
        self.wire.aborted = True
        self.near.connection_lost(error)

    def heard(self) -> list[dict[str, Any]]:
        """Text messages received since the last question."""
        texts = [json.loads(message.payload) for message in self.wire.messages if message.opcode == TEXT]
        self.wire.messages = [message for message in self.wire.messages if message.opcode != TEXT]
        return texts

    def body(self) -> bytes:
        """Bytes received."""
        return b"".join(message.payload for message in self.wire.messages if message.opcode == BINARY)

    def count(self, opcode: int) -> int:
        """Frames of that kind received."""
        return sum(1 for message in self.wire.messages if message.opcode == opcode)

    @property
    def told(self) -> int:
        """The code with which the gateway closed; 0 if it did not."""
        closes = [message for message in self.wire.messages if message.opcode == Opcode.CLOSE]
        return read_close(closes[-1].payload)[0] if closes else 0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def turn(times: int = 3) -> None:
    """Let tasks go on."""
    for _ in range(times):
        await asyncio.sleep(0)
