"""Whole requests under generated rules and trust: whatever else is on, no upstream is sent what it must not see.

Failover, fallbacks, kept answers, coalescing, hedges and shadow copies all run through the real pipeline, over
transports in memory. Each upstream checks what it is sent against the rules, written down a second time.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from random import Random
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.errors import UpstreamReset, UpstreamUnreachable
from intertie.core.keeping import CachePolicy
from intertie.core.ledger import CallFacts
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per, window
from intertie.core.providers import load
from intertie.core.routing.health import HealthBook
from intertie.core.routing.retry_budget import RetryBudgets
from intertie.core.routing.room import Room
from intertie.core.routing.rules import Rule
from intertie.core.terms import (
    NODE,
    Caller,
    Hedge,
    Node,
    Operation,
    Price,
    Route,
    Secret,
    Shadow,
    Snapshot,
    StrategyName,
    Target,
    Upstream,
)
from intertie.core.wire.http import Head, WireRequest
from intertie.dataplane.admitted import Gate
from intertie.dataplane.adoption import Opened, share_of
from intertie.dataplane.answers import Answers
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.observe import RequestLog
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.pipeline import BrokenReply, serve
from intertie.dataplane.shadow import Shadows
from intertie.dataplane.shedding import Shedder
from tests.contract.routing.test_plan_rules import EXPOSED, LABELS, PRICES, REGIONS, TAGS, TRUSTS, _may, _rule
from tests.support.kept import BODY, DONE, END, USAGE, WORD, Shelf
from tests.support.playbook import RecordedLedger, RecordedReply, hash_key, total
from tests.unit.core.routing.grid import AWAY, MODEL, room

pytestmark = pytest.mark.slow

CASES = 100_000
WORLDS = 100
BATCH = 10
"""Calls at the same time, so that equal ones meet."""
NAMES = "abcd"
FILTERED = b'{"error":{"message":"no","code":"content_filter"}}'
SIZES = {"small": "hello", "large": "hello " * 600}
LIMITS = [
    total(level, holder, 10**12, measure)
    for level, holder in (
        *((Level.ORGANISATION, "org"), (Level.PROJECT, "p"), (Level.ROUTE, "m"), (Level.ROUTE, "n")),
        *((Level.UPSTREAM, name) for name in NAMES),
    )
    for measure in (Measure.TOKENS, Measure.MONEY)
]


class Sent:
    """One call: what rules can see of it."""

    def __init__(self, rng: Random) -> None:
        self.model = "m" if rng.random() < 0.8 else "n"
        self.key = rng.choice(TRUSTS)
        self.ceiling = rng.choice((None, None, *TRUSTS))
        self.tags = tuple(rng.sample(TAGS, rng.choice((0, 1, 2))))
        self.size = rng.choice(tuple(SIZES))
        self.tools = rng.random() < 0.2
        self.stream = rng.random() < 0.5
        exposed = min(EXPOSED[one] for one in (self.key, self.ceiling) if one is not None)
        self.exposed = exposed
        self.facts = CallFacts(
            key="k",
            project="p",
            model=self.model,
            operation=Operation.CHAT,
            tags=frozenset(self.tags),
            needs=frozenset({"tools"}) if self.tools else frozenset(),
            tokens={"small": 5, "large": 900}[self.size],
        )

    def headers(self) -> dict[bytes, bytes]:
        found = {b"authorization": b"Bearer key-" + self.key.encode()}
        if self.tags:
            found[b"x-intertie-tags"] = ",".join(self.tags).encode()
        if self.ceiling is not None:
            found[b"x-intertie-trust"] = self.ceiling.encode()
        return found

    def body(self) -> bytes:
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": SIZES[self.size]}]}
        body |= {"stream": self.stream, "max_tokens": 9} | ({"tools": [{"type": "function"}]} if self.tools else {})
        return json.dumps(body).encode()


CALL: ContextVar[Sent] = ContextVar("call")
"""The call that the running task serves; tasks that it begins (hedges, copies) have it, too."""


class World:
    """Four upstreams, some of them nodes, two routes, some rules; everything else on or off by chance."""

    def __init__(self, rng: Random, seen: Counter[str]) -> None:
        self.rng, self.seen = rng, seen
        self.forbidden: list[str] = []
        self.rooms: dict[str, Room] = {}
        self.rules = tuple(self._rule(number) for number in range(rng.randint(1, 4)))
        self.labels: dict[str, frozenset[str]] = {}
        upstreams, nodes = {}, {}
        for name in NAMES:
            one = upstreams[name] = self._upstream(name)
            self.labels[name] = (
                frozenset(rng.sample(LABELS, rng.randint(0, 2))) if one.provider == NODE else frozenset()
            )
            if one.provider == NODE:
                nodes["org", name] = Node(name, "org", name, self.labels[name])
                self.rooms[name] = rng.choice((AWAY, room(0), room(3), room(3), room(1, warm=False)))
        routes = {("org", model): self._route(model) for model in "mn"}
        routes["org", "m"] = replace(routes["org", "m"], fallback=rng.choice(({}, {"content_filter": ("n",)})))
        held: dict[tuple[str, str, str], tuple[Limit, ...]] = {}
        for limit in LIMITS if rng.random() < 0.3 else ():
            place = ("org", str(limit.level), limit.holder)
            held[place] = (*held.get(place, ()), limit)
        self.current = Snapshot(
            revision=1,
            callers={hash_key(f"key-{trust}"): Caller("org", "p", f"id-{trust}", "k", trust=trust) for trust in TRUSTS},
            routes=routes,
            upstreams=upstreams,
            nodes=nodes,
            rules={"org": self.rules},
            limits=held,
        )
        self.ledger = RecordedLedger()
        self.dataplane = Dataplane(
            snapshots=self,
            ledger=self.ledger,
            transports=self,
            adapters=load(),
            hash_key=hash_key,
            shedder=Shedder(lambda: 0, 0),
            log=RequestLog(lambda _: None, enabled=False),
            links=self,
            answers=Answers(Shelf(), "salt"),
        )
        self.dataplane.rng = Random(rng.randrange(1 << 30))
        self.dataplane.sleep = _at_once
        self.shadows = Shadows(self.dataplane)
        self._numbers = iter(range(1 << 30))
        self.forget()

    def forget(self) -> None:
        """Sick targets are well again, and no answer is kept: else a long test would ask nobody any more."""
        assert self.dataplane.answers is not None
        self.dataplane.answers.store = Shelf()
        self.dataplane.health = HealthBook(self.dataplane.rng)
        self.dataplane.budgets = RetryBudgets()

    def _rule(self, number: int) -> Rule:
        made = _rule(self.rng, number)
        if self.rng.random() < 0.3:
            made = replace(made, when=replace(made.when, model=(self.rng.choice("mn"),)))
        return made

    def _upstream(self, name: str) -> Upstream:
        rng, price = self.rng, self.rng.choice(PRICES)
        provider = rng.choice(("openai_compatible", "openai_compatible", NODE))
        return Upstream(
            id=name,
            organisation="org",
            name=name,
            provider=provider,
            base_url="" if provider == NODE else f"http://{name}.test/v1",
            trust=rng.choice(TRUSTS),
            region=rng.choice(REGIONS),
            models=MappingProxyType(dict.fromkeys((MODEL, "m1", "n1", "copy"), price or Price(5, 5))),
        )

    def _route(self, model: str) -> Route:
        rng = self.rng
        targets = tuple(
            Target(name, f"{model}1", rng.randint(1, 3), rng.randint(0, 1)) for name in rng.sample(NAMES, 4)
        )
        copied = tuple(Target(name, "copy") for name in rng.sample(NAMES, rng.randint(1, 2)))
        return Route(
            "org",
            model,
            targets,
            strategy=rng.choice(list(StrategyName)),
            cache=CachePolicy() if rng.random() < 0.5 else None,
            sticky=rng.random() < 0.3,
            hedge=Hedge(after=0.0, share=1.0) if rng.random() < 0.6 else None,
            shadow=Shadow(copied, 0.7) if rng.random() < 0.6 else None,
        )

    # -- the ports ---------------------------------------------------------------------------------------------------

    def of(self, upstream: Upstream) -> Wire:
        return Wire(self, upstream)

    def room(self, upstream: Upstream, node: Node, model: str) -> Room:
        return self.rooms[upstream.name]

    # -- what must hold ----------------------------------------------------------------------------------------------

    def may(self, upstream: Upstream, call: Sent, *, fallback: bool) -> bool:
        """Written down a second time: the ceiling, and all rules for what was asked and for what is to answer."""
        models = {call.model, "n"} if fallback else {call.model}
        asked = [rule for rule in self.rules if not rule.when.model or models & set(rule.when.model)]
        within = EXPOSED[upstream.trust] <= call.exposed
        return within and all(_may(rule, upstream, self.labels[upstream.name], call.facts) for rule in asked)

    def look(self, upstream: Upstream, model: str, what: str) -> None:
        call = CALL.get()
        if not self.may(upstream, call, fallback=model == "n1"):
            self.forbidden.append(f"{what}: {upstream.name}/{model} for {vars(call)} under {self.rules}")

    async def serve(self, call: Sent) -> None:
        CALL.set(call)
        x = Exchange(f"req_{next(self._numbers)}", Operation.CHAT, call.headers(), call.body())
        x.started, x.started_at = self.dataplane.monotonic(), self.dataplane.wall()
        reply = RecordedReply(self.ledger)
        try:
            await serve(x, reply, self.dataplane)
        except BrokenReply:
            return
        if reply.status == 200:
            name, _, model = reply.headers["x-intertie-target"].partition("/")
            self.look(self.current.upstreams[name], model, f"answered ({x.cache})")
            self.seen["answered"] += 1
            self.seen["answered by a fallback"] += model == "n1" and call.model == "m"
            self.seen[x.cache] += 1
        self.seen["refused by rules"] += b"no_eligible_target" in reply.body

    async def batch(self) -> None:
        calls = [Sent(self.rng) for _ in range(BATCH // 2)]
        calls += [self.rng.choice(calls) for _ in range(BATCH - len(calls))]
        await asyncio.gather(*(asyncio.create_task(self.serve(call)) for call in calls))
        while self.shadows.running():
            await asyncio.sleep(0)


async def _at_once(_seconds: float) -> None:
    """Back-off without the wait."""


class Wire:
    """The transport to one upstream: well, slow, failing, refusing or breaking by chance."""

    __slots__ = ("_upstream", "_world")

    def __init__(self, world: World, upstream: Upstream) -> None:
        self._world, self._upstream = world, upstream

    @asynccontextmanager
    async def open(
        self, request: WireRequest, secret: Secret | None, sent: Callable[[], None]
    ) -> AsyncIterator[Answered]:
        world, mood = self._world, self._world.rng.random()
        if mood < 0.05:
            raise UpstreamUnreachable("refused")
        body = json.loads(request.body)
        world.look(self._upstream, body["model"], "sent")
        world.seen["sent"] += 1
        world.seen["copies"] += body["model"] == "copy"
        sent()
        if world.rng.random() < 0.5:
            for _ in range(world.rng.randint(2, 12)):
                await asyncio.sleep(0)
        if mood < 0.10:
            raise UpstreamReset("reset")
        yield Answered(mood, stream=body.get("stream", False))

    async def close(self) -> None:
        """Nothing is pooled."""


class Answered:
    """One answer."""

    __slots__ = ("_pieces", "head")

    def __init__(self, mood: float, *, stream: bool) -> None:
        kind = "text/event-stream" if stream else "application/json"
        status, pieces = 200, [WORD, END, USAGE, DONE] if stream else [BODY]
        if mood < 0.16:
            status, pieces = 500, [b"{}"]
        elif mood < 0.24:
            status, pieces = 400, [FILTERED]
        elif mood < 0.28 and stream:
            pieces = [WORD]  # breaks off
        self.head = Head(status, {"content-type": kind if status == 200 else "application/json"})
        self._pieces: Iterator[bytes] = iter(pieces)

    async def chunk(self) -> bytes | None:
        return next(self._pieces, None)

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        return all(take(piece) for piece in self._pieces)

    async def whole(self) -> bytes:
        return b"".join(self._pieces)


async def test_no_upstream_is_sent_what_it_must_not_see_whatever_is_on() -> None:
    """100,000 calls. Also what is given from the cache, or to those who waited for an equal call, is only what an
    upstream answered that might have been asked for this very call."""
    rng, seen = Random(7), Counter[str]()
    for _ in range(WORLDS):
        world = World(rng, seen)
        for number in range(CASES // WORLDS // BATCH):
            if number % 5 == 0:
                world.forget()
            await world.batch()
        assert not world.forbidden, world.forbidden[:3]
        _count(world, seen)
        _balanced(world)
    assert seen["calls"] == CASES
    for what in ("answered", "refused by rules", "failed over", "hit", "coalesced", "copies"):
        assert seen[what] > CASES / 50, seen
    for what in ("hedges won", "hedges lost", "answered by a fallback", "copies forbidden"):
        assert seen[what] > CASES / 500, seen


def _count(world: World, seen: Counter[str]) -> None:
    counters = world.dataplane.counters
    for (_, outcome), count in counters.hedges.items():
        seen[f"hedges {outcome}"] += count
    for (_, outcome), count in counters.shadows.items():
        seen["copies forbidden"] += count if outcome == "no_eligible_target" else 0
    seen["calls"] += sum(tally.ok + tally.failed.total() for tally in counters.tallies.values())
    seen["failed over"] += sum(len(one.attempts) > 1 for one in world.ledger.settlements)


def _balanced(world: World) -> None:
    """Nothing is held any more, and every account says what the books add up to."""
    gate: Gate = world.dataplane.gate
    span = window(Per.TOTAL, "UTC", 0.0)
    for place, limits in world.current.limits.items():
        for limit in limits:
            opened = Opened(limit, "org", span, 0)
            spent = sum(share_of(opened, account) for account in world.ledger.settlements)
            assert gate.standing(limit)[:2] == (spent, 0), place
