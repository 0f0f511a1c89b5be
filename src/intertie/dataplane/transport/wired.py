"""What all WebSockets of a link have in common at the gateway's end: control frames, signs of life, and closing."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from intertie.core.wire.link import DEAD, SILENCE, CloseCode, Say, write
from intertie.core.wire.websocket import (
    MAX_MESSAGE,
    TEXT,
    FrameReader,
    FrameViolation,
    Opcode,
    close_payload,
    encode,
    read_close,
)

LOOK_SECONDS: Final = 1.0
"""How often silent connections are looked at: one timer for all, which reads a flag that every packet sets."""
PONG_SECONDS: Final = 5.0
"""An answer to a PING takes no longer on a connection that is still worth new work."""
LINGER_SECONDS: Final = 3.0
"""A closed connection is read and dropped for this long, so that the peer gets to see why."""
MOST_CONTROLS: Final = 32
"""Control frames between two looks; more are a flood."""


class Watch(Protocol):
    """Looks at connections now and then; see `Links.watch`."""

    def now(self) -> float:
        """Monotonic seconds, the clock of `Wired.look`."""
        ...

    def watch(self, one: Wired) -> None:
        """Call `one.look` every `LOOK_SECONDS` from now on."""
        ...

    def forget(self, one: Wired) -> None:
        """It is gone."""
        ...


class Wired(asyncio.Protocol):
    """Subclasses call `_wire` first, and `_control` for all but texts and bytes. Times are the watch's."""

    __slots__ = (
        "_closed_at",
        "_controls",
        "_frames",
        "_silent_since",
        "_transport",
        "_watch",
        "closed",
        "heard",
        "pinged",
        "said",
    )

    _transport: Any
    _frames: FrameReader
    _watch: Watch
    _silent_since: float
    _closed_at: float
    _controls: int
    heard: bool
    """Something arrived since the last look."""
    pinged: bool
    closed: bool
    """Nothing is sent or read any more."""
    said: tuple[int, str]
    """Why the peer closed, once it has: code and reason."""

    def _wire(self, watch: Watch, limit: int = MAX_MESSAGE) -> None:
        self._watch = watch
        self._transport = None
        self._frames = FrameReader(masked=True, limit=limit)
        self._silent_since = self._closed_at = 0.0
        self._controls = 0
        self.heard = True
        self.pinged = self.closed = False
        self.said = (1006, "")

    # -- for those who watch -----------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """What silence calls for at `now`: a PING, or the end."""
        if self.closed:
            if now - self._closed_at >= LINGER_SECONDS:
                self.abort()
            return
        if self.heard or self.patient:
            self.heard = self.pinged = False
            self._silent_since = now
            self._controls = 0
            return
        silent = now - self._silent_since
        if silent >= DEAD - 2 * LOOK_SECONDS:
            self.abort("it fell silent")
        elif silent >= SILENCE and not self.pinged:
            self.pinged = True
            self._transport.write(encode(Opcode.PING, b""))

    def spare(self, seconds: float) -> None:
        """The process itself was held up for so long: what was sent meanwhile is still unread."""
        self._silent_since += seconds

    def suspect(self, now: float) -> bool:
        """A PONG is overdue: no new work, but no end either."""
        return self.pinged and not self.heard and now - self._silent_since > SILENCE + PONG_SECONDS

    @property
    def patient(self) -> bool:
        """Silence means nothing now, because we do not read."""
        return False

    # -- talking -----------------------------------------------------------------------------------------------------

    def say(self, kind: Say, **members: object) -> None:
        """Send a text message, unless it is closed."""
        if not self.closed:
            self._transport.write(encode(TEXT, write(kind, **members).encode()))

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Say why and send nothing more; what still arrives is dropped. Closing twice does nothing."""
        if self.closed:
            return
        self.closed = True
        self._closed_at = self._watch.now()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(encode(Opcode.CLOSE, close_payload(code, reason)))
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def abort(self, why: str = "aborted") -> None:  # noqa: ARG002 (for those who have someone to tell)
        """Close at once, whatever is under way."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # -- for the event loop ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self._watch.watch(self)

    def eof_received(self) -> bool:
        """The peer has nothing more to say; close our side as well."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the signature is asyncio's)
        """The end."""
        self.closed = True
        self._watch.forget(self)

    def _control(self, opcode: int, payload: bytes) -> None:
        """Raises `FrameViolation` for too many of them."""
        self._controls += 1
        if self._controls > MOST_CONTROLS:
            raise FrameViolation("too many control frames")
        if opcode == Opcode.PING:
            if not self._transport.get_write_buffer_size():
                self._transport.write(encode(Opcode.PONG, payload))
        elif opcode == Opcode.CLOSE and not self.closed:
            self.said = read_close(payload)
            self.close(CloseCode.NORMAL)


class Farewell(Wired):
    """A connection that is let in only to be told why it may not stay."""

    __slots__ = ("_code", "_reason")

    def __init__(self, watch: Watch, code: CloseCode, reason: str) -> None:
        self._wire(watch)
        self._code = code
        self._reason = reason

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        super().connection_made(transport)
        self.close(self._code, self._reason)

    def data_received(self, data: bytes) -> None:
        """Nothing it says matters."""
