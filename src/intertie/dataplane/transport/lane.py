"""A data lane at the gateway's end: one exchange at a time with a node, then parked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from intertie.core.errors import (
    NodeBusy,
    NodeRefused,
    UpstreamError,
    UpstreamInvalid,
    UpstreamNoModel,
    UpstreamReset,
    UpstreamUnreachable,
)
from intertie.core.wire.http import Head
from intertie.core.wire.link import (
    PIECE,
    CloseCode,
    Event,
    LaneScript,
    LaneState,
    Refusal,
    Violation,
    read,
    write,
)
from intertie.core.wire.websocket import BINARY, TEXT, FrameViolation, encode
from intertie.dataplane.transport.inbox import Inbox
from intertie.dataplane.transport.wired import Watch, Wired

WIND_UP_SECONDS: Final = 5.0
"""A stream whose last event was relayed has this long until the node says that it is over."""
MOST_BEHIND: Final = 64 * 1024
"""Bytes a node may send in that time."""
MAX_FRAME: Final = 4 * PIECE
_KEPT: Final = frozenset(("content-type", "retry-after", "retry-after-ms", "date"))
"""Headers the gateway reads. Not the length: frames say where an answer ends, and a node's word does not count."""
_MAX_HEADERS: Final = 100


class Home(Protocol):
    """Where a lane belongs."""

    def park(self, lane: Lane) -> None:
        """The lane is free."""
        ...

    def lost(self, lane: Lane) -> None:
        """The lane is gone."""
        ...


class Lane(Inbox, Wired):
    """Carries one exchange at a time. What breaks the protocol closes the lane, and only that."""

    __slots__ = ("_behind", "_blocked", "_home", "_script", "_winding", "model")

    def __init__(self, home: Home, watch: Watch) -> None:
        super().__init__()
        self._wire(watch, MAX_FRAME)
        self._home = home
        self._script = LaneScript()
        self._blocked: asyncio.Future[None] | None = None
        self._winding: float | None = None
        self._behind = 0
        self.model = ""
        """What the present exchange asks for."""

    def __repr__(self) -> str:
        return f"<Lane {'closed' if self.closed else self._script.state} unread={self._unread}>"

    # -- for the transport -------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """It is parked and lives."""
        return not self.closed and self._script.state is LaneState.PARKED

    async def ask(self, members: Mapping[str, object], body: bytes, sent: Callable[[], None]) -> None:
        """Open an exchange with `members` of OPEN, call `sent`, and send the body. Raises `UpstreamReset`."""
        self._expect()
        self._error = None
        self._script.open(len(body))
        first = encode(TEXT, write(Event.OPEN, **members, length=len(body)).encode())
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            self._script.body(len(piece))
            self._transport.write(first + encode(BINARY, piece))
            if not start:
                sent()
            first = b""
            await self._let_through()
        if first:
            self._transport.write(first)
            sent()

    def release(self, *, proper: bool) -> None:
        """The exchange is over for its caller; `proper` if the caller has all it wanted. Cancels what still runs."""
        self._sink = None
        if not self.closed:
            self._chunks.clear()
            self._unread = 0
            self._resume()
        if self.usable:
            self._home.park(self)
        elif proper and not self.closed and self._script.state is LaneState.ANSWERING:
            self._winding = self._watch.now()
            self._behind = 0
        else:
            self.cancel()

    def cancel(self) -> None:
        """Close at once: this is what tells a node to stop working."""
        if self._transport.get_write_buffer_size():
            self.abort()
        else:
            self.close(CloseCode.NORMAL)

    def close(self, code: CloseCode, reason: str = "") -> None:
        """See `Wired.close`; an exchange under way ends with an error."""
        self._resume()
        super().close(code, reason)
        self._gone("the gateway closed the lane" if self.said[0] == _UNSAID else self._parting())

    def abort(self, why: str = "aborted") -> None:
        """See `Wired.abort`; an exchange under way ends with an error."""
        super().abort(why)
        self._gone(why)

    def look(self, now: float) -> None:
        """See `Wired.look`."""
        if self._winding is not None and now - self._winding > WIND_UP_SECONDS:
            self._winding = None
            self.cancel()
        super().look(now)

    @property
    def patient(self) -> bool:
        """A slow client holds up its own lane."""
        return self._paused

    # -- for the event loop ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The lane is parked at once."""
        super().connection_made(transport)
        self._home.park(self)

    def data_received(self, data: bytes) -> None:
        """Part of an answer goes to whoever waits for it, in this callback."""
        self.heard = True
        if self.closed:
            return
        try:
            for opcode, payload in self._frames.feed(data):
                if opcode == BINARY:
                    if self._script.state is not LaneState.ANSWERING:  # the table's (ANSWERING, PIECE), cheaper
                        self._script.apply(Event.PIECE)
                    if self._sink is not None:
                        self._chunks.append(payload)
                    elif self._winding is not None:
                        self._drop(payload)
                    elif payload:
                        self._keep(payload)
                elif opcode == TEXT:
                    self._told(read(payload))
                else:
                    self._control(opcode, payload)
        except (FrameViolation, Violation) as mistake:
            self._violated(str(mistake))
        sink = self._sink
        if sink is not None and self._chunks:
            self._pour(sink)
            if not self._done and self._error is None:
                return
        if self._waiter is not None:
            self._wake()
        elif self._winding is not None and self.usable:
            self._winding = None
            self._home.park(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; of the exchange as well, if one is under way."""
        super().connection_lost(exc)
        self._gone(self._parting() if exc is None else str(exc))

    def pause_writing(self) -> None:
        """The node takes the body slower than it comes."""
        if self._blocked is None:
            self._blocked = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._blocked is not None:
            if not self._blocked.done():
                self._blocked.set_result(None)
            self._blocked = None

    # -- what the node says ------------------------------------------------------------------------------------------

    def _told(self, message: Mapping[str, Any]) -> None:
        """Raises `Violation`."""
        kind = message["t"]
        if kind == Event.HEAD:
            self._script.apply(Event.HEAD)
            self._head = _read_head(message)
        elif kind == Event.END:
            self._script.apply(Event.END)
            self._done = True
            self._resume()
        elif kind == Event.REFUSED:
            self._script.apply(Event.REFUSED)
            self._fail(_refused(message))
        elif kind == Event.BROKEN:
            self._script.apply(Event.BROKEN)
            self._fail(UpstreamReset("The node's runtime failed midway.", detail=_why(message)))
            self._resume()
        else:
            raise Violation("a message that does not belong on a data lane")

    def _violated(self, why: str) -> None:
        if self._asked:
            self._fail(UpstreamInvalid("The node's answer is not valid.", detail=why))
        self.close(CloseCode.PROTOCOL_ERROR, why)

    def _gone(self, why: str) -> None:
        """Nothing more can come."""
        if self._asked:
            self._fail(UpstreamReset("The connection to the node broke.", detail=why))
        self._script.close()
        self.resume_writing()
        self._wake()
        self._home.lost(self)

    def _parting(self) -> str:
        code, reason = self.said
        return f"closed with {code} {_printable(reason)}".strip()

    @property
    def _asked(self) -> bool:
        return self._script.state not in _AT_REST

    async def _let_through(self) -> None:
        """Wait until the node has taken enough of the body. Raises what ended the exchange meanwhile."""
        while self._blocked is not None and self._error is None:
            await self._blocked
        if self._error is not None:
            raise self._error

    def _drop(self, payload: bytes) -> None:
        self._behind += len(payload)
        if self._behind > MOST_BEHIND:
            raise Violation("an answer goes on after its end")


_UNSAID: Final = 1006
_AT_REST: Final = (LaneState.PARKED, LaneState.CLOSED)


def _read_head(message: Mapping[str, Any]) -> Head:
    status, headers = message.get("status"), message.get("headers")
    if type(status) is not int or not 200 <= status <= 599:
        raise Violation("a head has no status")
    if not isinstance(headers, dict) or len(headers) > _MAX_HEADERS:
        raise Violation("a head has no headers, or too many")
    kept = {name.lower(): value for name, value in headers.items() if name.lower() in _KEPT}
    if not all(isinstance(value, str) for value in kept.values()):
        raise Violation("a header is not a text")
    return Head(status, kept)


_REFUSALS: Final[Mapping[str, tuple[type[UpstreamError], str]]] = MappingProxyType(
    {
        Refusal.NO_MODEL: (UpstreamNoModel, "The node does not serve this model."),
        Refusal.POLICY: (NodeRefused, "The node does not forward such requests."),
        Refusal.RUNTIME_GONE: (UpstreamUnreachable, "The node's runtime does not answer."),
    }
)


def _refused(message: Mapping[str, Any]) -> UpstreamError:
    """What a refusal means. Any other one, also of a newer agent's making, means no more than not now."""
    kind, public = _REFUSALS.get(str(message.get("code")), (NodeBusy, "The node takes no work now."))
    return kind(public, detail=_why(message))


def _why(message: Mapping[str, Any]) -> str:
    code, said = message.get("code"), message.get("message")
    return f"{_printable(code)}: {_printable(said)}" if said else _printable(code)


def _printable(text: object) -> str:
    return "".join(letter for letter in str(text)[:200] if letter.isprintable())
