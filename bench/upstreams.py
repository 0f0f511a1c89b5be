"""The two upstreams every contender forwards to: a fast one (nginx, whole answers) and a paced one (our own, streams).

The paced one sends every stream the same number of chunks a second, for as long as the stream is open, from one timer
wheel; each chunk carries its time of sending, so the load generator can tell the delay of every chunk.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import uvloop

from bench.processes import LOAD_CORE, BenchError, free_port, spawned, wait_for

MARK: Final = b"@@"
"""Stands before each chunk's time of sending: microseconds of the monotonic clock, sixteen digits."""

_WHEEL_STEP: Final = 0.002
_CHUNK: Final = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"paced",'
    b'"choices":[{"index":0,"delta":{%s"content":"@@%016d"},"finish_reason":null}]}\n\n'
)
_MODELS: Final = b'{"object":"list","data":[{"id":"hop","object":"model","owned_by":"bench"}]}'
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ANSWER: Final = (
    '{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"echo","choices":[{"index":0,'
    '"message":{"role":"assistant","content":"An intertie joins power grids so that each can draw on the others."},'
    '"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":28,"completion_tokens":14,"total_tokens":42}}'
)
_FAST_CONF: Final = """
worker_processes 1; daemon off; pid {folder}/fast.pid; error_log {folder}/fast.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/fast-body; proxy_temp_path {folder}/fast-proxy; fastcgi_temp_path {folder}/fast-fcgi;
  uwsgi_temp_path {folder}/fast-uwsgi; scgi_temp_path {folder}/fast-scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""


def nginx_program() -> str:
    """Path of nginx. Raises `BenchError` with the install line."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError("nginx is not installed; on Debian: apt-get install nginx-light")
    return found


@contextmanager
def fast_upstream(folder: Path) -> Iterator[str]:
    """nginx answering every request with one small chat completion; yields its base address."""
    port = free_port()
    conf = folder / "fast.conf"
    conf.write_text(_FAST_CONF.format(folder=folder, port=port, answer=_ANSWER))
    with spawned([nginx_program(), "-c", str(conf)], LOAD_CORE, folder / "fast.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def paced_upstream(folder: Path, python: str) -> Iterator[str]:
    """The paced server in a process of its own; yields its base address."""
    log = folder / "paced.log"
    command = [python, "-m", "bench.upstreams"]
    with _from_repository(command, log) as process:
        yield wait_for(log, "http://", process, 10)


@contextmanager
def _from_repository(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    root = Path(__file__).resolve().parent.parent
    with spawned(["env", f"PYTHONPATH={root}", *command], LOAD_CORE, log) as process:
        yield process


class Wheel:
    """All open streams, dealt over the slots of one period, so that chunks are sent evenly and not in bursts."""

    def __init__(self) -> None:
        self._slots: list[set[PacedStream]] = [set()]
        self._dealt = 0
        self._turn = 0
        self._due = 0.0

    def pace(self, chunks_a_second: float) -> None:
        """Set the rate of every stream from now on."""
        open_streams = [stream for slot in self._slots for stream in slot]
        self._slots = [set() for _ in range(max(1, round(1 / (chunks_a_second * _WHEEL_STEP))))]
        for stream in open_streams:
            self.add(stream)

    def add(self, stream: PacedStream) -> None:
        """Deal a stream to the next slot."""
        self._dealt += 1
        self._slots[self._dealt % len(self._slots)].add(stream)

    def discard(self, stream: PacedStream) -> None:
        """Forget a stream that has ended."""
        for slot in self._slots:
            slot.discard(stream)

    def turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send one chunk to every stream of the slot that is due, and come back for the next."""
        self._turn += 1
        slot = self._slots[self._turn % len(self._slots)]
        if slot:
            frame = _frame(b"")
            for stream in slot:
                stream.send(frame)
        now = loop.time()
        self._due = max(self._due + _WHEEL_STEP, now - 10 * _WHEEL_STEP)
        loop.call_at(self._due, self.turn, loop)


class PacedStream(asyncio.Protocol):
    """One connection from a gateway: a request in, an endless stream out. `GET /pace/<n>` sets the wheel's rate."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._received = b""
        assert self._transport is not None
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/pace/"):
            self._wheel.pace(float(path[6:]))
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return
        if path == b"/v1/models":
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                                  % (len(_MODELS), _MODELS))  # fmt: skip
            return
        if not path.startswith(b"/v1/chat/"):
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        self._transport.write(_STREAM_HEAD + _frame(b'"role":"assistant",'))
        self._wheel.add(self)

    def send(self, frame: bytes) -> None:
        """Write a chunk unless the gateway has stopped reading: a paced source does not hoard."""
        if not self._full and self._transport is not None:
            self._transport.write(frame)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._wheel.discard(self)


def _frame(opening: bytes) -> bytes:
    chunk = _CHUNK % (opening, time.monotonic_ns() // 1000)
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel()
    wheel.pace(50)
    wheel.turn(loop)
    server = await loop.create_server(lambda: PacedStream(wheel), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(_serve())
