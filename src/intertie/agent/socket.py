"""A WebSocket once it is open, at the dialling end, and the one timer that watches all of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from intertie.core.wire.link import DEAD, SILENCE, CloseCode, Violation
from intertie.core.wire.websocket import (
    BINARY,
    FrameReader,
    FrameViolation,
    Opcode,
    close_payload,
    encode,
    read_close,
)

LOST: Final = 1006
"""Stands for a close code where the connection ended without one."""
TICK: Final = 1.0
JUMP: Final = 20.0
"""Seconds by which the clocks must disagree to say that the machine has slept."""
AFTER_JUMP: Final = 5.0
"""Seconds within which a connection must show life after that."""
STUCK: Final = 300.0
"""Seconds of silence after which a connection is dropped whose peer reads nothing: a slow caller is not a dead link."""
HIGH_WATER: Final = 64 * 1024
"""Unsent bytes at which the sender is held back."""
_MASKS: Final = 64
"""Masks drawn from the system's randomness at a time."""


class Listener(Protocol):
    """Who a socket speaks to. All are called from the event loop."""

    def met(self, socket: Socket) -> None:
        """The socket is open; its messages come after this."""

    def message(self, opcode: int, payload: bytes) -> None:
        """A text or binary message. May raise `Violation`, after which the socket is closed."""

    def lost(self, code: int, reason: str) -> None:
        """The socket is of no use any more; called once, and the last call. `LOST` if there was no close code."""

    def stuck(self) -> None:
        """The peer reads too slowly: send no more for now."""

    def flowing(self) -> None:
        """It has caught up."""


class Socket(asyncio.Protocol):
    """Frames over one connection. `heart` watches over it while it lives."""

    __slots__ = ("_closing", "_heart", "_listener", "_mask_at", "_masks", "_reader", "_transport", "quiet", "stalled")

    def __init__(self, listener: Listener, heart: Heart) -> None:
        self._listener: Listener | None = listener
        self._heart = heart
        self._reader = FrameReader(masked=False)
        self._transport: Any = None
        self._masks = b""
        self._mask_at = 0
        self._closing = False
        self.quiet = 0.0
        """Seconds since the last byte, as far as the heart has counted."""
        self.stalled = False
        """The peer reads too slowly for what is sent."""

    def __repr__(self) -> str:
        return f"<Socket {'closed' if self._closing else 'open'} quiet for {self.quiet:.0f} s>"

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer to read."""
        return int(self._transport.get_write_buffer_size())

    def send(self, opcode: int, payload: bytes) -> None:
        """Send one message; dropped if the socket is closed."""
        if self._closing:
            return
        at = self._mask_at
        if at == len(self._masks):
            self._masks, at = os.urandom(4 * _MASKS), 0
        self._mask_at = at + 4
        self._transport.write(encode(opcode, payload, self._masks[at : at + 4]))

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Say goodbye and close. The listener hears of it."""
        self.send(Opcode.CLOSE, close_payload(code, reason))
        self._end(code, reason)
        self._transport.close()

    def abort(self) -> None:
        """Close at once. The listener hears of it."""
        self._end(LOST, "")
        self._transport.abort()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.send(Opcode.PING, b"")

    # -- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self._transport.set_write_buffer_limits(HIGH_WATER)
        self._heart.add(self)
        assert self._listener is not None
        self._listener.met(self)

    def data_received(self, data: bytes) -> None:
        """Frames, in order; the first wrong one ends the connection."""
        self.quiet = 0.0
        if self._closing:
            return
        try:
            for opcode, payload in self._reader.feed(data):
                if opcode <= BINARY:
                    if self._listener is not None:
                        self._listener.message(opcode, payload)
                else:
                    self._take_control(opcode, payload)
        except FrameViolation as mistake:
            self.close(mistake.code, str(mistake))
        except Violation as mistake:
            self.close(CloseCode.PROTOCOL_ERROR, str(mistake))

    def eof_received(self) -> bool:
        """The peer has hung up; so do we."""
        return False

    def pause_writing(self) -> None:
        """The peer reads slowly."""
        self.stalled = True
        if self._listener is not None:
            self._listener.stuck()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.stalled = False
        if self._listener is not None:
            self._listener.flowing()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (every end is the same)
        """The end."""
        self._heart.discard(self)
        self._end(LOST, "")

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            if self.unsent < HIGH_WATER:  # a peer that asks and never reads gets no answer
                self.send(Opcode.PONG, payload)
        elif opcode == Opcode.CLOSE:
            code, reason = read_close(payload)
            self.send(Opcode.CLOSE, payload[:2])
            self._end(code, reason)
            self._transport.close()

    def _end(self, code: int, reason: str) -> None:
        self._closing = True
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.lost(code, reason)


class Heart:
    """One timer for all sockets of the process: asks quiet ones for life, drops dead ones, notices lost time.

    `jumped` is called when the machine seems to have slept, or the event loop stood still, for over `JUMP` seconds.
    """

    def __init__(self, jumped: Callable[[], None]) -> None:
        self._jumped = jumped
        self._sockets: set[Socket] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last = self._drift = 0.0

    def __repr__(self) -> str:
        return f"<Heart of {len(self._sockets)} sockets>"

    def start(self) -> None:
        """Begin to beat."""
        self._last, self._drift = time.monotonic(), time.time() - time.monotonic()
        self._wind()

    def stop(self) -> None:
        """Beat no more; the sockets stay as they are."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, socket: Socket) -> None:
        """Watch over a socket."""
        self._sockets.add(socket)

    def discard(self, socket: Socket) -> None:
        """It is closed."""
        self._sockets.discard(socket)

    def beat(self, steady: float, wall: float) -> None:
        """Time has passed; both clocks in seconds. Neither is believed further than the other."""
        elapsed, drift = steady - self._last, wall - steady
        slept = elapsed > JUMP or abs(drift - self._drift) > JUMP
        self._last, self._drift = steady, drift
        for socket in tuple(self._sockets):
            before = socket.quiet
            # A loop that stood still has bytes waiting to be read: that time says nothing about the peer.
            socket.quiet = max(before, DEAD - AFTER_JUMP) if slept else before + min(elapsed, 2 * TICK)
            if socket.quiet >= (STUCK if socket.stalled else DEAD):
                socket.abort()
            elif slept or before < SILENCE <= socket.quiet:
                socket.ping()
        if slept:
            self._jumped()

    def _wind(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._wind()
        self.beat(time.monotonic(), time.time())
