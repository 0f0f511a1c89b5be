"""The edge on a real socket: a server in a thread around an application that records, and a client of raw bytes."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from intertie.api.edge import EdgeLimits, EdgeServer, make_server
from intertie.api.edge.cycle import Message, Scope

Send = Callable[[Message], Coroutine[Any, Any, None]]
PATIENCE = 10.0


@dataclass
class Seen:
    """One request as the application got it."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    raw_path: bytes
    query: bytes


@dataclass
class Recorder:
    """An ASGI application that answers `ok`, and behaves by path.

    `/hang` waits for the client to leave, `/stream` sends ten chunks, one per `tick`, `/flood` sends without end,
    `/crash` and `/crash-late` fail, `/who` answers with the client's address; others with `headers` added.
    """

    seen: list[Seen] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Paths whose `on_disconnect` callback ran."""
    ended: list[str] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    tick: float = 0.02
    silent_first: bool = False
    """`/stream` waits a tick before its first chunk."""

    async def __call__(self, scope: Scope, receive: Callable[[], Coroutine[Any, Any, Message]], send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        message = await receive()
        assert not message["more_body"]
        self.seen.append(
            Seen(
                scope["method"],
                path,
                dict(scope["headers"]),
                message["body"],
                scope["raw_path"],
                scope["query_string"],
            )
        )
        left = asyncio.Event()

        def leave() -> None:
            self.left.append(path)
            left.set()

        scope["extensions"]["intertie"].on_disconnect(leave)
        try:
            await self._answer(path, send, left, scope["client"][0])
        finally:
            self.ended.append(path)

    async def _answer(self, path: str, send: Send, left: asyncio.Event, client: str) -> None:
        if path == "/crash":
            raise ValueError("on purpose")
        if path == "/hang":
            await left.wait()
            return
        if path in ("/stream", "/flood", "/crash-late"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if path == "/crash-late":
                await send({"type": "http.response.body", "body": b"begun", "more_body": True})
                raise ValueError("on purpose")
            if self.silent_first:
                await asyncio.sleep(self.tick)
            for number in range(10 if path == "/stream" else 1_000_000):
                if left.is_set():
                    return
                body = b"%d;" % number if path == "/stream" else b"x" * 16384
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.sleep(self.tick if path == "/stream" else 0)
            await send({"type": "http.response.body", "body": b""})
            return
        body = client.encode() if path == "/who" else b"ok " + path.encode()
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length, *self.headers]})
        await send({"type": "http.response.body", "body": body})


class Wire:
    """A client that sends exactly what it is told."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, content: bytes) -> None:
        """Send; a connection that the server has closed already is what some tests want."""
        try:
            self._socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            return

    def until(self, wanted: bytes) -> bytes:
        """Everything up to and including `wanted`; fails if the server closes first."""
        content = b""
        while wanted not in content:
            piece = self._socket.recv(65536)
            assert piece, f"closed after {content!r}"
            content += piece
        return content

    def rest(self) -> bytes:
        """Everything until the server closes. Fails if it does not."""
        content = b""
        while True:
            try:
                piece = self._socket.recv(65536)
            except ConnectionResetError:
                return content
            if not piece:
                return content
            content += piece

    def readable(self, within: float) -> bool:
        """The server has sent something, or closed, `within` seconds."""
        return bool(select.select([self._socket], [], [], within)[0])

    def read(self, most: int) -> int:
        """Wait for bytes and drop them; how many there were."""
        return len(self._socket.recv(most))

    def half_close(self) -> None:
        """End the sending side."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()

    def close(self) -> None:
        """Close."""
        self._socket.close()


@dataclass
class Bed:
    """A running server and what its application has seen."""

    app: Recorder
    server: EdgeServer
    port: int
    loop: asyncio.AbstractEventLoop

    def connect(self, *, receive_buffer: int | None = None) -> Wire:
        """A new connection."""
        return Wire(self.port, receive_buffer=receive_buffer)

    def exchange(self, content: bytes) -> bytes:
        """Send `content` on a new connection; everything that comes back until the server closes."""
        with self.connect() as wire:
            wire.send(content)
            return wire.rest()

    def call(self, action: Callable[[], object]) -> None:
        """Run `action` in the server's loop and wait for it."""
        done = threading.Event()

        def run() -> None:
            action()
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(PATIENCE)


def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait until `condition` holds; fail if it does not `within` seconds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)


@contextmanager
def edge_bed(limits: EdgeLimits | None = None, app: Recorder | None = None) -> Iterator[Bed]:
    """A server on a free port, stopped at the end; its leftovers (tasks, connections, body bytes) must be none."""
    recorder = app or Recorder()
    loops: list[asyncio.AbstractEventLoop] = []

    async def application(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            loops.append(asyncio.get_running_loop())
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await recorder(scope, receive, send)

    server = make_server(application, host="127.0.0.1", port=0, limits=limits, lifespan="on")
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        bed = Bed(recorder, server, server.addresses[0][1], loops[0])
        yield bed
        bed.call(server.abort_connections)
        eventually(lambda: server.statistics().connections == 0)
        eventually(lambda: server.in_flight == 0)
        assert server.statistics().body_bytes == 0
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
