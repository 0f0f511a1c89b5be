"""The load: wrk for whole answers, and a raw-protocol client of our own for streams. Both run on the load core."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.processes import LOAD_CORE, BenchError, cpu_seconds, resident_bytes
from bench.upstreams import MARK

_MESSAGES: Final = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one short sentence."},
    {"role": "user", "content": "What does an intertie do, and why would somebody who runs a grid want one?"},
]
_AT_ONCE: Final = 64
"""Streams that may wait for their first chunk at the same time; more would time a slow gateway out."""
_RAMP: Final = 60.0
"""Seconds that all streams together may take to start."""
_SCRIPT: Final = """
wrk.method = "POST"
wrk.body = [==[%s]==]
%s
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    'RESULT {"requests":%%d,"seconds":%%.6f,"p50_us":%%d,"p99_us":%%d,"refused":%%d,"broken":%%d,"late":%%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write, e.timeout))
end
"""


class Ask(msgspec.Struct, frozen=True):
    """How to ask a contender for one of the upstreams: the full address, headers, and the model's name there."""

    url: str
    model: str
    headers: Mapping[str, str] = {}

    def body(self, *, stream: bool) -> bytes:
        """A small chat request."""
        return json.dumps({"model": self.model, "messages": _MESSAGES, "max_tokens": 64, "stream": stream}).encode()

    def wire(self, *, stream: bool) -> bytes:
        """The request as HTTP/1.1 bytes."""
        body = self.body(stream=stream)
        address = urlsplit(self.url)
        lines = [f"POST {address.path} HTTP/1.1", f"host: {address.netloc}", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


class WholeAnswers(msgspec.Struct, frozen=True):
    """One wrk run: latencies in microseconds, `refused` answers were not 2xx or 3xx, `late` ones took over 30 s."""

    requests: int
    seconds: float
    p50_us: int
    p99_us: int
    refused: int
    broken: int
    late: int


class StreamsAsked(msgspec.Struct, frozen=True):
    """What the stream client is told: `pid` is the gateway whose CPU is read at both ends of the window."""

    ask: Ask
    streams: int
    seconds: float
    pid: int | None


class Streams(msgspec.Struct, frozen=True):
    """One window of many open streams. Delays run from the upstream's send to the client's read, in microseconds."""

    opened: int
    chunks: int
    seconds: float
    p50_us: int
    p99_us: int
    cpu_seconds: float
    resident_bytes: int
    errors: list[str]


def whole_answers(ask: Ask, connections: int, seconds: float, folder: Path) -> WholeAnswers:
    """Run wrk with one thread. Raises `BenchError` when wrk is missing or reports nothing."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchError("wrk is not installed; on Debian: apt-get install wrk")
    headers = {"Content-Type": "application/json", **ask.headers}
    script = folder / "wrk.lua"
    headers_set = "\n".join(f'wrk.headers["{name}"] = "{text}"' for name, text in headers.items())
    script.write_text(_SCRIPT % (ask.body(stream=False).decode(), headers_set))
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "-s", str(script)]
    command = ["taskset", "-c", str(LOAD_CORE), wrk, *options, ask.url]
    done = subprocess.run(command, capture_output=True, timeout=seconds + 60, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(b"RESULT "):
            return msgspec.json.decode(line[7:], type=WholeAnswers)
    raise BenchError(f"wrk gave no result: {(done.stdout + done.stderr)[-300:].decode(errors='replace')}")


def streams(asked: StreamsAsked) -> Streams:
    """Hold many streams open for a while, from a process of its own. Raises `BenchError` when it fails."""
    command = ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.load"]
    done = subprocess.run(
        command,
        input=msgspec.json.encode(asked),
        capture_output=True,
        timeout=_RAMP + asked.seconds + 60,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
    )
    if done.returncode:
        raise BenchError(f"the stream client failed: {done.stderr[-600:].decode(errors='replace')}")
    return msgspec.json.decode(done.stdout, type=Streams)


class Tally:
    """What all streams of one run have in common."""

    def __init__(self) -> None:
        self.chunks = 0
        self.opened = 0
        self.delays = array("q")
        self.measuring = False
        self.errors: list[str] = []
        self.starting = asyncio.Semaphore(_AT_ONCE)


class StreamClient(asyncio.Protocol):
    """One stream: sends its request, counts chunks, and notes how old the first chunk of each read is."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._head = b""
        self.started = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        tally = self._tally
        found = data.count(MARK)
        if not found:
            self._head += data[:1000]
            return
        tally.chunks += found
        if tally.measuring:
            at = data.find(MARK) + len(MARK)
            stamp = data[at : at + 16]
            if len(stamp) == 16:
                tally.delays.append(time.monotonic_ns() // 1000 - int(stamp))
        if not self.started.done():
            tally.opened += 1
            self.started.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        unstarted = not self.started.done()
        if unstarted:
            self.started.set_result(None)
        if unstarted or self._tally.measuring:
            self._tally.errors.append(f"{exc or 'closed'}: {self._head[:900].decode(errors='replace')}")


async def _hold(asked: StreamsAsked) -> Streams:
    loop = asyncio.get_running_loop()
    tally = Tally()
    address = urlsplit(asked.ask.url)
    request = asked.ask.wire(stream=True)
    open_transports: list[asyncio.BaseTransport] = []

    async def begin() -> None:
        async with tally.starting:
            transport, client = await loop.create_connection(
                lambda: StreamClient(request, tally), address.hostname or "127.0.0.1", address.port or 80
            )
            open_transports.append(transport)
            await client.started

    beginnings = [asyncio.ensure_future(begin()) for _ in range(asked.streams)]
    await asyncio.wait(beginnings, timeout=_RAMP)
    await asyncio.sleep(1)
    tally.measuring = True
    cpu = cpu_seconds(asked.pid) if asked.pid else 0.0
    chunks, start = tally.chunks, loop.time()
    await asyncio.sleep(asked.seconds)
    seconds, chunks = loop.time() - start, tally.chunks - chunks
    cpu = cpu_seconds(asked.pid) - cpu if asked.pid else 0.0
    tally.measuring = False
    delays = sorted(tally.delays) or [0]
    result = Streams(
        opened=tally.opened,
        chunks=chunks,
        seconds=seconds,
        p50_us=delays[len(delays) // 2],
        p99_us=delays[len(delays) * 99 // 100],
        cpu_seconds=cpu,
        resident_bytes=resident_bytes(asked.pid) if asked.pid else 0,
        errors=tally.errors[:3],
    )
    for beginning in beginnings:
        beginning.cancel()
    for transport in open_transports:
        transport.close()
    return result


if __name__ == "__main__":
    outcome = uvloop.run(_hold(msgspec.json.decode(sys.stdin.buffer.read(), type=StreamsAsked)))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
