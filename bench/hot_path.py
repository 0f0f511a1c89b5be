"""CPU time of each step of a request, without sockets: `python -m bench.hot_path`. Microseconds, best of some rounds.

The last rows run the whole pipeline against a transport that answers from memory, with books that forget and with the
real spool: what is left of a measured request after them is the network and the event loop.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import uvloop

from intertie.core.keys import hash_key
from intertie.core.ledger import Opening, Progress, Settlement
from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per
from intertie.core.providers import load
from intertie.core.routing.plan import plan
from intertie.core.routing.resolve import resolve
from intertie.core.terms import Caller, Credential, Operation, Price, Route, Secret, Snapshot, Target, Upstream
from intertie.core.wire.envelope import peek
from intertie.core.wire.http import Head, WireRequest
from intertie.dataplane.authenticate import authenticate
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.observe import RequestLog
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.pipeline import serve
from intertie.dataplane.ports import Ledger
from intertie.dataplane.shedding import Shedder
from intertie.store.spool import Spool

_KEY: Final = "sk-bench-0123456789abcdef"
_HEADERS: Final = {b"authorization": f"Bearer {_KEY}".encode(), b"content-type": b"application/json"}
_PEPPER: Final = b"p" * 32
_ANSWER: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "echo",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 14}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 28, "completion_tokens": 14, "total_tokens": 42},
    }
).encode()
_CHUNK: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"paced",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
_CHUNKS: Final = 100
_ROUNDS: Final = 5


def request_body(size: int, *, stream: bool = False) -> bytes:
    """A chat request whose user message has about `size` bytes."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "word " * (size // 5)}]
    return json.dumps({"model": "m", "messages": messages, "max_tokens": 64, "stream": stream}).encode()


class Memory:
    """Transports, snapshot source and books in one: answers at once and forgets everything."""

    def __init__(self, *, levels: int = 0) -> None:
        price = Price(input=150_000, output=600_000)
        key = Credential("c", Secret("sk-upstream"))
        upstream = Upstream("u", "o", "u", "openai_compatible", "http://a/v1", (key,), models={"echo": price})
        caller = Caller("o", "p", "k", "dev")
        route = Route("o", "m", (Target("u", "echo"),))
        callers, routes = {hash_key(_PEPPER, _KEY): caller}, {("o", "m"): route}
        self.current = Snapshot(1, callers, routes, {"u": upstream}, limits=_limits(levels))

    def of(self, _upstream: Upstream) -> Memory:
        return self

    @asynccontextmanager
    async def open(self, request: WireRequest, _secret: Secret | None, sent: Callable[[], None]) -> AsyncIterator[Any]:
        sent()
        stream = request.headers["accept"] == "text/event-stream"
        yield _Streamed() if stream else _Whole()

    async def close(self) -> None:
        """Nothing is open."""


def _limits(levels: int) -> dict[tuple[str, str, str], tuple[Limit, ...]]:
    """Requests and tokens per minute, places and a budget, all far away, at so many levels."""
    holders = ((Level.PROJECT, "p"), (Level.KEY, "k"), (Level.ORGANISATION, "o"))[:levels]
    kinds = ((Measure.REQUESTS, None), (Measure.TOKENS, None), (Measure.CONCURRENCY, None), (Measure.MONEY, Per.MONTH))
    return {
        ("o", level, holder): tuple(
            Limit(limit_id(level, holder, measure, per), level, holder, measure, 10**9, per) for measure, per in kinds
        )
        for level, holder in holders
    }


class Forgetful:
    """Books that keep nothing."""

    def open(self, record: Opening) -> None:
        """Forget it."""

    def progress(self, record: Progress) -> None:
        """Forget it."""

    def settle(self, record: Settlement) -> None:
        """Forget it."""

    async def durable(self) -> None:
        """Nothing to wait for."""


class _Whole:
    head = Head(200, MappingProxyType({"content-type": "application/json", "content-length": str(len(_ANSWER))}))

    async def whole(self) -> bytes:
        return _ANSWER


class _Streamed:
    head = Head(200, MappingProxyType({"content-type": "text/event-stream"}))

    def __init__(self) -> None:
        self._left = _CHUNKS

    async def chunk(self) -> bytes | None:
        self._left -= 1
        return _CHUNK if self._left >= 0 else b"data: [DONE]\n\n"

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        while take(_CHUNK if self._left > 0 else b"data: [DONE]\n\n"):
            self._left -= 1
        return False


class _Reply:
    started = False

    async def start(self, _status: int, _head: bytes, _length: int | None) -> None:
        self.started = True

    async def write(self, body: bytes) -> None:
        """To nobody."""

    def put(self, _body: bytes) -> bool:
        """To nobody, who is never behind."""
        return True

    async def drained(self) -> None:
        """At once."""

    async def finish(self, body: bytes = b"") -> None:
        """To nobody."""


def dataplane(memory: Memory, ledger: Ledger) -> Dataplane:
    """The data plane as `app` wires it, over memory."""
    return Dataplane(
        snapshots=memory,
        ledger=ledger,
        transports=memory,
        adapters=load(),
        hash_key=lambda presented: hash_key(_PEPPER, presented),
        shedder=Shedder(lambda: 0, 0),
        log=RequestLog(len),
    )


def timed(name: str, step: Callable[[], object], count: int) -> None:
    """Print the best time of one call over several rounds."""
    rounds = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        for _ in range(count):
            step()
        rounds.append((time.process_time() - start) / count)
    print(f"{min(rounds) * 1e6:9.2f}  {name}")


async def timed_serve(name: str, d: Dataplane, body: bytes, count: int, per: int = 1) -> None:
    """The same for the whole pipeline; divided by `per`."""
    rounds = []
    numbers = iter(range(10**9))

    async def one() -> None:
        x = Exchange(f"req_{next(numbers)}", Operation.CHAT, _HEADERS, body)
        x.started, x.started_at = d.monotonic(), d.wall()
        await serve(x, _Reply(), d)
        assert x.status == 200, x.error

    for _ in range(_ROUNDS):
        start = time.process_time()
        for _ in range(count):
            await one()
        rounds.append((time.process_time() - start) / count / per)
    print(f"{min(rounds) * 1e6:9.2f}  {name}")


async def _all(count: int) -> None:
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # as `app` does
    memory = Memory()
    d = dataplane(memory, Forgetful())
    snapshot = memory.current
    small, large = request_body(200), request_body(40_000)
    call = peek(small, Operation.CHAT, "r")
    caller = authenticate(_HEADERS, snapshot, d.hash_key, d.wall())
    route = resolve(call, caller, snapshot)
    adapter, upstream = load()["openai_compatible"], snapshot.upstreams["u"]
    reader = adapter.reader(peek(request_body(200, stream=True), Operation.CHAT, "r"), _Streamed.head)
    reader.feed(_CHUNK)
    print(f"{'us':>9}  step")
    timed("authenticate", lambda: authenticate(_HEADERS, snapshot, d.hash_key, d.wall()), count)
    timed("peek, 0.2 kB", lambda: peek(small, Operation.CHAT, "r"), count)
    timed("peek, 40 kB", lambda: peek(large, Operation.CHAT, "r"), count)
    timed("resolve", lambda: resolve(call, caller, snapshot), count)
    timed("plan", lambda: plan(call, caller, route, snapshot, d, d.monotonic()), count)
    timed("adapter.request", lambda: adapter.request(call, route.targets[0], upstream), count)
    timed("adapter.answer", lambda: adapter.answer(call, _Whole.head, _ANSWER), count)
    timed("reader.feed, one event", lambda: reader.feed(_CHUNK), count)
    await timed_serve("serve, whole answer, books that forget", d, small, count)
    await timed_serve(
        f"serve, stream of {_CHUNKS} events, per event", d, request_body(200, stream=True), count // 50, _CHUNKS
    )
    for levels in (1, 3):
        limited = dataplane(Memory(levels=levels), Forgetful())
        await timed_serve(f"serve, whole answer, under four limits at {levels} levels each", limited, small, count)
    streamed = request_body(200, stream=True)
    limited = dataplane(Memory(levels=3), Forgetful())
    await timed_serve("serve, stream, per event, under the same", limited, streamed, count // 50, _CHUNKS)
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), max_bytes=1 << 32)
        spool.start()
        try:
            await timed_serve("serve, whole answer, real spool", dataplane(memory, spool), small, count)
        finally:
            spool.close()


def main() -> None:
    """Measure every step."""
    parser = argparse.ArgumentParser(prog="python -m bench.hot_path", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000, help="calls per round (default 5000)")
    uvloop.run(_all(parser.parse_args().count))


if __name__ == "__main__":
    main()
