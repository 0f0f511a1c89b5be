"""One request and its answer on a connection: the ASGI side of the edge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from intertie.api.edge.intake import Request
from intertie.api.edge.rules import Header
from intertie.core.errors import Bug
from intertie.core.wire.openai_errors import error_object

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]

_LOG: Final = logging.getLogger("intertie.edge")
_COPIED: Final = 64 << 10
"""Larger bodies are written by themselves rather than copied behind the head."""
_WATCHED: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class Connection(Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport
    flow: FlowControl

    def answer_defaults(self) -> bytes:
        """Header lines of every answer, each ending in CR LF."""
        ...

    def answered(self, cycle: Cycle) -> None:
        """The last byte of the answer was handed to the transport."""
        ...

    def ended(self, cycle: Cycle) -> None:
        """The application has returned; nothing of the request is used any more."""
        ...

    def close(self) -> None:
        """Close once everything written is delivered."""
        ...

    def new_request_id(self) -> str:
        """An id for an answer that the application did not make."""
        ...


class Cycle:
    """Receives nothing but a whole message, sends one answer, and tells who asked when the client leaves.

    The application finds it as `scope["extensions"]["intertie"]`. It does not hold the scope, so that a request leaves
    no reference cycle behind for the garbage collector.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_flow",
        "_head",
        "_head_only",
        "_left",
        "_listeners",
        "_old",
        "_received",
        "_remaining",
        "_transport",
        "body",
        "complete",
        "disconnected",
        "keep_alive",
        "started",
    )

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self._head_only = request.method == "HEAD"
        self._old = request.version == "1.0"
        self._head = b""
        self._chunked = False
        self._remaining: int | None = 0
        self._received = False
        self._left: asyncio.Event | None = None
        self._listeners: list[Callable[[], None]] | None = None
        self.keep_alive = request.keep_alive
        self.body = request.body
        self.started = False
        self.complete = False
        self.disconnected = False

    def __repr__(self) -> str:
        state = "answered" if self.complete else "gone" if self.disconnected else "open"
        return f"<Cycle {state}, {len(self.body)} bytes received>"

    # -- for the application -----------------------------------------------------------------------------------------

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, in the event loop, if the client leaves before the answer is complete.

        Leaving is: connection reset, end of the client's sending side, or an answer unread for `stall_seconds`. No task
        watches for it, so it costs a list. Called soon if the client has left already.
        """
        if self.disconnected:
            asyncio.get_running_loop().call_soon(callback)
        elif not self.complete:
            self._listeners = [callback] if self._listeners is None else [*self._listeners, callback]

    def abort(self) -> None:
        """Close without completing the answer, so that the client cannot take it for a whole one."""
        self.disconnected = True
        self._listeners = None
        self._connection.close()

    def begin(self, status: int, head: bytes, length: int | None) -> None:
        """Begin the answer with header lines that cannot split it: `http.response.start` without the message.

        `head` has no framing headers; `length` is of the body, None if it is not known yet.
        """
        if self.disconnected:
            return
        if self.started:
            raise RuntimeError("the answer has begun already")
        framing = b"".join(self._framing(status, length))
        if length is not None:
            framing += b"content-length: %d\r\n" % length
        self._hold(status, head + framing, length)

    def end(self, body: bytes) -> None:
        """Send the last part of a begun answer's body."""
        if not (self.disconnected or self.complete):
            self._write(body, more=False)

    def put(self, body: bytes) -> bool:
        """Send a part of a begun answer's body without waiting. False if more than 64 KiB are unread: see `drained`.

        ASGI's `send` for each token of a stream is a message, a coroutine and a turn of the loop too many.
        """
        if self.disconnected or self.complete:
            return True
        if self._chunked and not self._head:
            if not body:
                return not self._flow.write_paused  # as a chunk, nothing is the end of the answer
            self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            self._write(body, more=True)
        return not self._flow.write_paused

    async def drained(self) -> None:
        """Return once the client has read enough for more to be sent, or has left."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()

    async def receive(self) -> Message:
        """The whole body at the first call; after that `http.disconnect`, once the client left or has its answer."""
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        if not self.disconnected and not self.complete:
            if self._left is None:
                self._left = asyncio.Event()
            await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send head or body. Waits while more than 64 KiB are unread; does nothing once the client has left.

        Raises `RuntimeError` for messages out of order, a body of another length than announced, or a header that would
        split the answer.
        """
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.started:
            if kind != "http.response.start":
                raise RuntimeError(f"expected http.response.start, got {kind}")
            self._start(message["status"], message.get("headers", ()))
        elif self.complete:
            raise RuntimeError(f"{kind} after the end of the answer")
        elif kind != "http.response.body":
            raise RuntimeError(f"expected http.response.body, got {kind}")
        else:
            self._write(message.get("body", b""), more=message.get("more_body", False))

    # -- for the connection ------------------------------------------------------------------------------------------

    async def run(self, app: App, scope: Scope) -> None:
        """Run the application and see to it that the client gets a whole answer or a closed connection."""
        try:
            await app(scope, self.receive, self.send)
            if not self.complete and not self.disconnected:
                _LOG.error("the application returned without completing its answer")
                await self._fail()
        except asyncio.CancelledError:
            if not self.complete and not self.disconnected:
                self.abort()
            raise
        except Exception:  # noqa: BLE001 - border: whatever the application raises becomes an answer and a log line
            _LOG.exception("the application failed")
            await self._fail()
        finally:
            self._listeners = None
            self._connection.ended(self)

    def leave(self) -> None:
        """The client is gone: tell those who asked, and drop whatever is sent from now on."""
        if self.complete or self.disconnected:
            return
        self.disconnected = True
        if self._left is not None:
            self._left.set()
        for callback in self._listeners or ():
            # Through the loop: a failing callback is reported there and keeps nobody else from being told.
            asyncio.get_running_loop().call_soon(callback)
        self._listeners = None

    # -- the answer --------------------------------------------------------------------------------------------------

    def _framing(self, status: int, length: int | None) -> list[bytes]:
        """Decide how the body is delimited; the header lines that say so beside Content-Length."""
        lines = [] if self.keep_alive else [b"connection: close\r\n"]
        self._remaining = length
        self._head_only = self._head_only or status in (204, 304)
        if length is None and not self._head_only and not self._old:
            # HTTP/1.0 knows no chunks: there, a body without a length ends with the connection.
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        return lines

    def _start(self, status: int, headers: Iterable[Header]) -> None:
        lines = []
        length: int | None = None
        closes = False
        for name, value in headers:
            lowered = name.lower()
            if lowered in _WATCHED:
                if lowered == b"content-length":
                    length = int(value)
                elif lowered == b"transfer-encoding":
                    continue  # framing is ours: chunked exactly when there is no length
                else:
                    closes = b"close" in value.lower()
                    continue
            lines.append(b"%b: %b\r\n" % (lowered, value))
        self.keep_alive = self.keep_alive and not closes
        lines += self._framing(status, length)
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            # T09: one pass over the head instead of two regular expressions per header.
            raise RuntimeError("a header would split the answer")
        self._hold(status, head, length)

    def _hold(self, status: int, head: bytes, length: int | None) -> None:
        # Kept until the body begins, to leave in one packet with it; a stream may take its time, so it gets one turn.
        self._head = b"%b%b%b\r\n" % (STATUS_LINE[status], self._connection.answer_defaults(), head)
        self.started = True
        if length is None:
            asyncio.get_running_loop().call_soon(self._send_head)

    def _send_head(self) -> None:
        if self._head and not self.disconnected:
            self._put(b"")

    def _put(self, content: bytes) -> None:
        head, self._head = self._head, b""
        if len(content) > _COPIED:
            self._transport.write(head)
            self._transport.write(content)
        else:
            self._transport.write(head + content)

    def _write(self, body: bytes, *, more: bool) -> None:
        if self._head_only:
            self._put(b"")
            self._remaining = None
        elif self._chunked:
            if body:
                body = b"%x\r\n%b%b" % (len(body), body, b"\r\n" if more else b"\r\n0\r\n\r\n")
            elif not more:
                body = b"0\r\n\r\n"
            if self._head:
                self._put(body)
            else:
                self._transport.write(body)
        else:
            if self._remaining is not None:
                self._remaining -= len(body)
                if self._remaining < 0:
                    raise RuntimeError("the body is longer than its Content-Length")
            self._put(body)
        if not more:
            if self._remaining:
                raise RuntimeError("the body is shorter than its Content-Length")
            self.complete = True
            self._listeners = None
            if self._left is not None:
                self._left.set()
            self._connection.answered(self)

    async def _fail(self) -> None:
        """An internal error if nothing was sent, a visibly broken answer otherwise."""
        if self.complete or self.disconnected:
            return
        if self.started and not self._head:
            self.abort()
            return
        self.started = self._chunked = False
        self._head = b""
        request_id = self._connection.new_request_id()
        body = error_object(Bug("The gateway failed; its log has the details."), request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-request-id", request_id.encode("ascii")),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
