"""A store of kept answers without threads or disk, and requests that go through one data plane one after the other."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec.structs import replace

from intertie.core.keeping import CachePolicy
from intertie.core.policy.answers import CacheStatistics, Kept, Selection, Space
from intertie.core.terms import Caller, Operation
from intertie.dataplane.answers import Answers
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.pipeline import serve
from tests.support.limited import money
from tests.support.playbook import KEY, Playbook, RecordedReply, Script, hash_key

KEEP: Final = CachePolicy()
NONE: Final[Mapping[str, str]] = MappingProxyType({})

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
BODY = (
    b'{"id":"a","object":"chat.completion","created":1,"model":"inner","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hi there"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}'
)
TOP = b'"id":"a","object":"chat.completion.chunk","created":1,"model":"inner"'
WORD = b"data: {" + TOP + b',"choices":[{"index":0,"delta":{"role":"assistant","content":"hi there"}}]}\n\n'
END = b"data: {" + TOP + b',"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
CUT = END.replace(b"stop", b"length")
USAGE = b"data: {" + TOP + b',"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}\n\n'
DONE = b"data: [DONE]\n\n"
ASKED = {"stream_options": {"include_usage": True}}
COST = 4 + 2 * 2


def whole(body: bytes = BODY) -> Script:
    """A script that answers whole."""
    return Script(body, headers=JSON)


def streamed(*steps: bytes | Exception | str) -> Script:
    """A script that streams; without steps, a good answer."""
    return Script(*(steps or (WORD, END, USAGE, DONE)), headers=EVENTS)


def failing(status: int) -> Script:
    """A script that refuses."""
    return Script(b"{}", status=status, headers=JSON)


def idem(key: str = "key-1") -> dict[str, str]:
    """The header of an idempotency key."""
    return {"idempotency-key": key}


def asks(word: str) -> dict[str, str]:
    """The header by which a caller controls the cache."""
    return {"x-intertie-cache-control": word}


class Shelf:
    """The port `ResponseCache` as a dictionary."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Kept] = {}
        self.clearings = 0

    def remembered(self, key: bytes) -> Kept | None:
        """What is there."""
        return self.entries.get(key)

    async def get(self, key: bytes, space: Space = Space.CACHE) -> Kept | None:
        """The same, after a turn of the loop, as a disk would have it."""
        await asyncio.sleep(0)
        return self.entries.get(key)

    async def clear(self, which: Selection) -> int:
        """Forget those."""
        self.clearings += 1
        gone = [key for key, kept in self.entries.items() if which.has(key, kept)]
        for key in gone:
            del self.entries[key]
        return len(gone)

    def statistics(self) -> CacheStatistics:
        """How many there are."""
        return CacheStatistics(memory_entries=len(self.entries))

    async def put(self, key: bytes, kept: Kept) -> None:
        """Keep it at once."""
        self.entries[key] = kept
        await asyncio.sleep(0)


class Visit:
    """One request: its record and what its client got."""

    def __init__(self, x: Exchange, reply: RecordedReply) -> None:
        self.x = x
        self.reply = reply
        self.task: asyncio.Task[None] | None = None

    @property
    def cache(self) -> str:
        """What the response said about the cache."""
        return self.reply.headers.get("x-intertie-cache", "")

    @property
    def code(self) -> str:
        """The code of an error answer."""
        return str(self.reply.json["error"]["code"])

    def leave(self) -> None:
        """The client hangs up."""
        assert self.task is not None
        self.x.gone = True
        self.task.cancel()


class Counter:
    """A playbook whose route keeps answers (unless `cache` is `None`), and whose clients are many."""

    def __init__(self, *scripts: Script | Exception, cache: CachePolicy | None = KEEP) -> None:
        self.play = Playbook(list(scripts))
        self.shelf = Shelf()
        self.answers = self.play.dataplane.answers = Answers(self.shelf, "salt")
        self.now = 1_000_000.0
        self.play.dataplane.wall = lambda: self.now
        self.put_route(cache)
        self._numbers = itertools.count(1)

    def put_route(self, cache: CachePolicy | None, **changes: Any) -> None:
        """Change the route, as a new configuration would."""
        current = self.play.current
        route = replace(current.routes["org", "m"], cache=cache, **changes)
        self.play.current = replace(current, revision=current.revision + 1, routes={("org", "m"): route})

    def bound_output(self, tokens: int | None) -> None:
        """A budget comes into force, with so many tokens for an answer that says no more; `None`: none does."""
        limits = {} if tokens is None else {("org", "project", "project"): (money(1_000_000),)}
        outputs = {} if tokens is None else {("org", "project"): tokens}
        current = self.play.current
        self.play.current = replace(current, revision=current.revision + 1, limits=limits, max_output=outputs)

    def admit(self, key: str, caller: Caller) -> None:
        """One more API key; if of another organisation, that has the same route to the same vendor."""
        current = self.play.current
        callers = {**current.callers, hash_key(key): caller}
        routes, upstreams = dict(current.routes), dict(current.upstreams)
        if caller.organisation != "org":
            place = f"up0-{caller.organisation}"
            upstreams[place] = replace(upstreams["up0"], id=place, organisation=caller.organisation)
            targets = tuple(replace(target, upstream=place) for target in routes["org", "m"].targets)
            own = replace(routes["org", "m"], organisation=caller.organisation, targets=targets)
            routes[caller.organisation, "m"] = own
            self.play.transports[place] = self.play.transports["up0"]
        after = {"callers": callers, "routes": routes, "upstreams": upstreams}
        self.play.current = replace(current, revision=current.revision + 1, **after)

    @property
    def bought(self) -> int:
        """Requests that reached an upstream."""
        return sum(len(transport.requests) for transport in set(self.play.transports.values()))

    def enter(self, *, stream: bool = False, headers: Mapping[str, str] = NONE, key: str = KEY, **fields: Any) -> Visit:
        """Begin a request and leave it running."""
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": stream, **fields}
        lines = {b"authorization": b"Bearer " + key.encode()}
        lines |= {name.encode(): value.encode() for name, value in headers.items()}
        x = Exchange(f"req_{next(self._numbers)}", Operation.CHAT, lines, json.dumps(body).encode())
        x.started, x.started_at = self.play.dataplane.monotonic(), self.now
        visit = Visit(x, RecordedReply(self.play.ledger))
        visit.task = asyncio.create_task(serve(x, visit.reply, self.play.dataplane))
        return visit

    async def visit(self, **how: Any) -> Visit:
        """One request to its end, and until its answer is kept."""
        visit = self.enter(**how)
        assert visit.task is not None
        await visit.task
        await self.answers.settled()
        return visit


async def turns(count: int = 20) -> None:
    """Let everything that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)
