"""One connection: uvicorn's protocol with our reading, our order of answers, and deadlines in both directions."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from intertie.api.edge.cycle import Cycle, Scope
from intertie.api.edge.intake import NEVER, Intake, Request
from intertie.api.edge.rules import refusal
from intertie.api.edge.state import EdgeConfig
from intertie.api.edge.upgrade import Handshake, switching
from intertie.core.errors import BadCall, GatewayError, Overloaded

_LOG: Final = logging.getLogger("intertie.edge")
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class EdgeProtocol(HttpToolsProtocol):
    """Starts the application only for whole, accepted requests; everything before that happens without a task.

    The end of the client's sending side counts as its leaving, although a client could still listen (F48): a closed
    client looks exactly like a half-closed one, no HTTP client half-closes before its answer, and a model must not keep
    computing for nobody.
    """

    def __init__(
        self,
        config: EdgeConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = None  # type: ignore[assignment]  # the intake has its own
        self.read_deadline = NEVER
        self.write_deadline = NEVER
        self._edge = config.edge
        self._intake = Intake(config.edge, self)
        self._current: Cycle | None = None
        self._queue: deque[tuple[Cycle, Scope]] = deque()
        self._refusal: GatewayError | None = None
        self._deaf = False
        self._proxied = False
        """The peer is a proxy whose word is taken."""

    def __repr__(self) -> str:
        return f"<EdgeProtocol {self.client} {self._intake} {self._current or 'idle'}, {self.waiting} waiting>"

    @property
    def receiving(self) -> bool:
        """Part of a request has arrived, not all of it."""
        return self._intake.receiving

    @property
    def waiting(self) -> int:
        """Requests that wait for the answer to an earlier one."""
        return len(self._queue)

    # -- the transport's calls ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it if there are too many."""
        super().connection_made(transport)
        self._proxied = self.client is not None and self._edge.proxies.trusts(self.client[0])
        if self._edge.watch(self, self.loop):
            self.read_deadline = self.loop.time() + self._edge.limits.silent_seconds
        else:
            self._write_refusal(Overloaded("Too many connections.", code="too_many_connections", retry_after=1.0))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, and give everything back."""
        _LOG.debug("connection lost: %s", exc or "closed")
        self.connections.discard(self)
        self._edge.connections.discard(self)
        self._deaf = True
        self._intake.close()
        for cycle, _ in self._queue:
            self.ended(cycle)
        self._queue.clear()
        if self._current is not None:
            self._current.leave()
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read, and set the deadline for what is still missing."""
        if self._deaf:
            return
        intake = self._intake
        try:
            intake.feed(data)
            if intake.receiving:
                self.read_deadline = intake.await_rest(self.loop.time())
                self._ask_for_body()
        except GatewayError as error:
            self._refuse(error)

    def pause_writing(self) -> None:
        """64 KiB are unread: from now on the client has `stall_seconds`."""
        self.write_deadline = self.loop.time() + self._edge.limits.stall_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read most of it."""
        if not self.transport.is_closing():
            self.write_deadline = NEVER
        super().resume_writing()

    # -- requests and answers, in order ------------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        """Start the application, or put the request in line."""
        self.read_deadline = NEVER
        cycle = Cycle(self, request)
        target = request.target
        scope: Scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": request.version,
            "server": self.server,
            "client": self._client(request.forwarded),
            "scheme": self.scheme,
            "root_path": "",
            "method": request.method,
            "path": target.path,
            "raw_path": target.raw_path,
            "query_string": target.query,
            "headers": request.headers,
            "state": self.app_state.copy(),
            "extensions": {"intertie": cycle},
        }
        if self._current is None:
            self._begin(cycle, scope)
        else:
            self._queue.append((cycle, scope))

    def _client(self, forwarded: bytes) -> tuple[str, int] | None:
        """Who asks: the peer, or whom a trusted proxy names; of that one the port is not known."""
        if not self._proxied or not forwarded or self.client is None:
            return self.client
        return self._edge.proxies.client(self.client[0], forwarded), 0

    def _begin(self, cycle: Cycle, scope: Scope) -> None:
        self._current = cycle
        if self._edge.draining and not self._queue:
            cycle.keep_alive = False
        task = self.loop.create_task(cycle.run(self.app, scope))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def answered(self, cycle: Cycle) -> None:
        """Go on with the next request in line, a refusal that waits, or the wait for another request."""
        self.server_state.total_requests += 1
        self._current = None
        if not cycle.keep_alive:
            self.close()
        elif self._queue:
            self._begin(*self._queue.popleft())
        elif self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self._intake.receiving:
            self._ask_for_body()
        else:
            self.read_deadline = self.loop.time() + self._edge.limits.idle_seconds

    def ended(self, cycle: Cycle) -> None:
        """Give the body's bytes back to the budget."""
        self._edge.body_bytes -= len(cycle.body)
        cycle.body = b""

    def _ask_for_body(self) -> None:
        """Send `100 Continue` if the client waits for it and no answer is in the way."""
        if self._current is None and self._intake.wants_continue():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answer_defaults(self) -> bytes:
        """Date and the like, as header lines."""
        return self._edge.answer_defaults(self.server_state.default_headers)

    def new_request_id(self) -> str:
        """An id for an answer that the application did not make."""
        return f"req_{secrets.token_hex(12)}"

    def hand_over(self, handshake: Handshake, rest: bytes) -> None:
        """Leave the connection to another protocol, which gets `rest` first. Raises `GatewayError` if it may not be."""
        upgrades = self._edge.upgrades
        assert upgrades is not None
        if self._current is not None:
            raise BadCall("A WebSocket may not begin before the answer to an earlier request.", code="bad_handshake")
        client = self._client(handshake.forwarded) or ("", 0)
        successor = upgrades.accept(msgspec.structs.replace(handshake, client=client[0], scheme=self.scheme or "http"))
        self._deaf = True
        self.read_deadline = self.write_deadline = NEVER
        self.connections.discard(self)
        self._edge.connections.discard(self)
        self._intake.close()
        self.transport.write(switching(handshake, upgrades.subprotocol, self.answer_defaults()))
        self.transport.set_protocol(successor)
        successor.connection_made(self.transport)
        if rest:
            successor.data_received(rest)

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _refuse(self, error: GatewayError) -> None:
        """Listen no more, and answer `error` after the answers that come before it."""
        self._deaf = True
        self._intake.forget()
        self.read_deadline = NEVER
        if self._current is None:
            self._send_refusal(error)
        else:
            self._refusal = error

    def _send_refusal(self, error: GatewayError) -> None:
        """Refuse, then read and drop for a moment what still arrives: to close at once could destroy the answer."""
        self._write_refusal(error)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.write_deadline = self.loop.time() + self._edge.limits.linger_seconds
        else:
            self.close()

    def _write_refusal(self, error: GatewayError) -> None:
        self._edge.refusals[error.code] += 1
        request_id = self.new_request_id()
        _LOG.info("refused a request: %s", error, extra={"request_id": request_id, "client": self.client})
        self.transport.write(refusal(error, request_id, self.answer_defaults()))

    # -- ending ------------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """A deadline has passed at `now`, loop time."""
        if self.write_deadline <= now:
            if self._current is not None:
                self._edge.refusals["write_stalled"] += 1
            self.abort()
        elif not self._intake.receiving and not self._intake.silent:
            self.close()
        else:
            try:
                self._intake.expire(now)
            except GatewayError as error:
                self._refuse(error)

    def close(self) -> None:
        """Close once everything written is delivered, or after `stall_seconds`."""
        self._deaf = True
        self.read_deadline = NEVER
        self.write_deadline = self.loop.time() + self._edge.limits.stall_seconds
        self.transport.close()

    def abort(self) -> None:
        """Close at once. A request under way is told by `on_disconnect`."""
        self.read_deadline = self.write_deadline = NEVER
        if self._current is not None:
            self._current.leave()
        self.transport.abort()

    def finish_up(self) -> None:
        """Close after the last answer that is being worked on."""
        last = self._queue[-1][0] if self._queue else self._current
        if last is not None:
            last.keep_alive = False

    def shutdown(self) -> None:
        """Close now if idle, else after the last answer. What is half received is still answered."""
        if self._current is None and not self._intake.receiving and not self._deaf:
            self.close()
        else:
            self.finish_up()
