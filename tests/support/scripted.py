"""A scripted upstream: a plain TCP server whose every answer is a script of bytes and pauses, and which remembers all.

It speaks just enough HTTP/1.1 to find where a request ends. What it answers is decided by a `Reply`: a function from
the recorded request to a `Script`. It runs in a thread with its own event loop, so synchronous tests can use it too.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

from tests.support.steps import Close, HalfClose, Pace, Reset, Script, Send, Stall, Wait

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class Connection:
    """One accepted TCP connection. Times are `time.monotonic()` seconds."""

    number: int
    opened_at: float
    closed_at: float | None = None
    closed_by_peer: bool = False


@dataclass
class Recorded:
    """One request as it arrived, and when its script was played to the end."""

    number: int
    connection: Connection
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    answered_at: float | None = None

    @property
    def name(self) -> str:
        """The first path segment: which of the server's upstreams was called (`/name/v1/…`)."""
        return self.path.strip("/").partition("/")[0]

    @property
    def credential(self) -> str:
        """The bearer token it came with, or an empty string."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def call(self) -> dict[str, Any]:
        """The decoded JSON body; an empty one is an empty object."""
        return cast("dict[str, Any]", json.loads(self.body)) if self.body else {}

    @property
    def streamed(self) -> bool:
        """Whether the caller asked for a stream."""
        return self.call.get("stream") is True

    @property
    def left_at(self) -> float | None:
        """When the peer hung up, if it did so before the script had been played to the end."""
        connection = self.connection
        return connection.closed_at if connection.closed_by_peer and self.answered_at is None else None


Reply = Callable[[Recorded], Script]


@dataclass
class Named:
    """A `Reply` that keeps one script or reply per upstream name. May be filled after the server has started."""

    replies: dict[str, Script | Reply] = field(default_factory=dict)

    def __call__(self, request: Recorded) -> Script:
        """What the upstream called by this request answers."""
        reply = self.replies[request.name]
        return reply if isinstance(reply, tuple) else reply(request)


@dataclass
class ByModel:
    """A `Reply` like a model server with several models: a list of them, and one script or reply for each."""

    replies: dict[str, Script | Reply] = field(default_factory=dict)

    def __call__(self, request: Recorded) -> Script:
        """The list, or what the model asked for answers; 404 for everything else."""
        if request.method == "GET" and request.path == "/v1/models":
            rows = [{"id": name, "object": "model", "owned_by": "scripted"} for name in self.replies]
            return (Send(_answer(200, {"object": "list", "data": rows})),)
        reply = self.replies.get(request.call.get("model", "")) if request.method == "POST" else None
        if reply is None:
            return (Send(_answer(404, {"error": {"message": "not here", "type": "invalid_request_error"}})),)
        return reply if isinstance(reply, tuple) else reply(request)


def _answer(status: int, value: object) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Conversation(asyncio.Protocol):
    """One connection: parses requests, plays their scripts one after the other."""

    def __init__(self, server: ScriptedUpstream, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._path = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._waiting: deque[Recorded] = deque()
        self._now: Recorded | None = None
        self._steps: Iterator[Any] = iter(())
        self._full = False
        self._parked = False
        self._timer: asyncio.TimerHandle | None = None

    # -- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._server.complaints.append(f"{error!r} {error.__context__!r}")
            self.drop()

    def eof_received(self) -> bool:
        self._gone(by_peer=True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone(by_peer=True)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._parked:
            self._advance()

    def drop(self) -> None:
        """Hang up at once, on our own account."""
        self._gone(by_peer=False)
        self._transport.abort()

    def _gone(self, by_peer: bool) -> None:
        if self._connection.closed_at is None:
            self._connection.closed_at = time.monotonic()
            self._connection.closed_by_peer = by_peer
        if self._timer is not None:
            self._timer.cancel()
        self._server.conversations.discard(self)

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        self._path, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = self._server.record(
            self._connection,
            (self._parser.get_method().decode(), self._path.decode("latin-1")),
            self._headers,
            b"".join(self._body),
        )
        self._waiting.append(request)
        if self._now is None:
            self._begin()

    # -- the script

    def _begin(self) -> None:
        self._now = self._waiting.popleft()
        self._steps = iter(self._server.reply(self._now))
        self._advance()

    def _advance(self) -> None:
        """Play steps until one has to wait, the socket is full or the script ends."""
        self._parked = False
        while self._now is not None and self._connection.closed_at is None:
            if self._full:
                self._parked = True
                return
            step = next(self._steps, None)
            if step is None:
                self._finish()
            elif isinstance(step, Send):
                self._transport.write(step.body)
            elif not self._play(step):
                return

    def _play(self, step: object) -> bool:
        """One step that is not a plain `Send`; False where playing has to pause here."""
        loop = asyncio.get_running_loop()
        if isinstance(step, Wait):
            self._timer = loop.call_later(step.seconds, self._advance)
        elif isinstance(step, Pace):
            self._pace(step, step.times)
        elif isinstance(step, HalfClose):
            self._transport.write_eof()
            return True
        elif isinstance(step, Reset):
            cast("socket.socket", self._transport.get_extra_info("socket")).setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
            )
            self._end(self._transport.abort)
        elif isinstance(step, Close):
            self._end(self._transport.close)
        elif not isinstance(step, Stall):
            raise TypeError(f"not a step: {step!r}")
        return False

    def _pace(self, step: Pace, left: int) -> None:
        if self._connection.closed_at is not None:
            return
        if left == 0:
            self._advance()
            return
        if not self._full:
            self._transport.write(step.body)
            left -= 1
        self._timer = asyncio.get_running_loop().call_later(step.every, self._pace, step, left)

    def _end(self, close: Callable[[], None]) -> None:
        assert self._now is not None
        self._now.answered_at = time.monotonic()
        self._now = None
        self._gone(by_peer=False)
        close()

    def _finish(self) -> None:
        assert self._now is not None
        self._now.answered_at = time.monotonic()
        self._now = None
        if self._waiting:
            self._begin()


@dataclass
class ScriptedUpstream:
    """The server. `requests` and `connections` hold everything that arrived since it started."""

    reply: Reply
    requests: list[Recorded] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What went wrong on this side, such as bytes that are not HTTP; a test may assert that it is empty."""
    origin: str = ""
    """`http://127.0.0.1:port` while it runs."""
    conversations: set[_Conversation] = field(default_factory=set)

    def base_url(self, name: str = "") -> str:
        """Where an upstream called `name` lives on this server; ends in `/v1`."""
        return f"{self.origin}/{name}/v1" if name else f"{self.origin}/v1"

    def to(self, name: str) -> list[Recorded]:
        """The requests that arrived for the upstream `name`."""
        return [request for request in self.requests if request.name == name]

    def open_connections(self) -> int:
        """Connections that are still open."""
        return sum(1 for connection in self.connections if connection.closed_at is None)

    def record(self, connection: Connection, line: tuple[str, str], headers: dict[str, str], body: bytes) -> Recorded:
        """Remember one request. Called by the conversation."""
        request = Recorded(len(self.requests), connection, *line, headers, body, time.monotonic())
        self.requests.append(request)
        return request

    def _converse(self) -> _Conversation:
        connection = Connection(len(self.connections), time.monotonic())
        self.connections.append(connection)
        conversation = _Conversation(self, connection)
        self.conversations.add(conversation)
        return conversation

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._converse, "127.0.0.1", 0, backlog=4096)
        self.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        for conversation in tuple(self.conversations):
            conversation.drop()
        await asyncio.sleep(0)

    @contextmanager
    def running(self) -> Iterator[ScriptedUpstream]:
        """Serve on a free loopback port, in a thread, until the block ends."""
        ready = threading.Event()
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        thread = threading.Thread(target=loop.run_until_complete, args=(self._serve(ready, stop),), name="scripted")
        thread.start()
        try:
            if not ready.wait(5):
                raise RuntimeError("the scripted upstream did not start")
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(5)
            loop.close()


@contextmanager
def refusing() -> Iterator[str]:
    """The origin of a port that surely refuses: bound by us for the length of the block, never listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def eventually(condition: Callable[[], bool], within: float, every: float = 0.01) -> bool:
    """Whether `condition` comes true within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


async def soon(condition: Callable[[], bool], within: float, every: float = 0.01) -> bool:
    """`eventually` for coroutines: the caller's event loop goes on meanwhile."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
    return True
