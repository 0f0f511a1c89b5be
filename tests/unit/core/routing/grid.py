"""Small worlds for the routing tests: factories with defaults, and a simulator with a clock of its own."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from random import Random
from typing import Any

from intertie.core.errors import GatewayError, NodeBusy, NoTarget, UpstreamError
from intertie.core.routing.docket import Docket
from intertie.core.routing.health import HealthBook
from intertie.core.routing.known import Known
from intertie.core.routing.plan import Candidate, plan
from intertie.core.routing.reach import Reaches
from intertie.core.routing.retry_budget import RetryBudgets
from intertie.core.routing.room import Room
from intertie.core.routing.traffic import Traffic
from intertie.core.terms import (
    NODE,
    Call,
    Caller,
    Credential,
    Dialect,
    Operation,
    Route,
    Secret,
    Snapshot,
    StrategyName,
    Target,
    Trust,
    Upstream,
)

MODEL = "small"


def call(model: str = "chat", operation: Operation = Operation.CHAT) -> Call:
    return Call(id="c", dialect=Dialect.OPENAI, operation=operation, model=model, stream=True, fields={})


def caller(organisation: str = "org", models: Iterable[str] | None = None, trust: Trust = Trust.VENDOR) -> Caller:
    allowed = None if models is None else frozenset(models)
    return Caller(organisation=organisation, project="p", key_id="k", key_name="k", models=allowed, trust=trust)


def upstream(
    name: str,
    *,
    organisation: str = "org",
    trust: Trust = Trust.VENDOR,
    models: Iterable[str] = (),
    keys: Iterable[str] = (),
    enabled: bool = True,
    provider: str = "openai_compatible",
) -> Upstream:
    return Upstream(
        id=name,
        organisation=organisation,
        name=name,
        provider=provider,
        base_url="https://api.test/v1",
        credentials=tuple(Credential(key, Secret(f"secret-{key}")) for key in keys),
        trust=trust,
        models=dict.fromkeys(models),
        enabled=enabled,
    )


def node(name: str, *, trust: Trust = Trust.OWN, models: Iterable[str] = (MODEL,)) -> Upstream:
    """The upstream of an enrolled machine; its room is `World.rooms[name]`."""
    return upstream(name, provider=NODE, trust=trust, models=models)


def room(free: int = 4, slots: int = 4, *, warm: bool = True, decode: float | None = None) -> Room:
    """The room of a node that takes work."""
    return Room(open=True, free=free, slots=slots, warm=warm, decode=decode)


AWAY = Room(open=False, reason="offline since 12:03")


def route(
    *targets: Target | str,
    model: str = "chat",
    organisation: str = "org",
    strategy: StrategyName = StrategyName.PRIORITY,
) -> Route:
    """A bare string is a target on the upstream of that name."""
    made = tuple(Target(target, MODEL) if isinstance(target, str) else target for target in targets)
    return Route(organisation=organisation, model=model, targets=made, strategy=strategy)


def snapshot(upstreams: Iterable[Upstream], routes: Iterable[Route] = ()) -> Snapshot:
    return Snapshot(
        upstreams={one.id: one for one in upstreams},
        routes={(one.organisation, one.model): one for one in routes},
    )


def candidate(
    name: str = "a",
    *,
    weight: int = 1,
    tier: int = 0,
    pace: float = 1.0,
    model: str = MODEL,
    room: Room | None = None,
) -> Candidate:
    return Candidate(Target(name, model, weight, tier), upstream(name), pace=pace, room=room)


def known(**more: Any) -> Known:
    """What a strategy is told; without more, that nothing was learned yet."""
    return Known(HealthBook(Random(1)), **{"traffic": Traffic(), "now": 1000.0, **more})


class World:
    """Satisfies `plan.Conditions`; every provider speaks every operation, except the ones named in `mute`."""

    def __init__(self, seed: int = 1, mute: frozenset[str] = frozenset()) -> None:
        self.rng = Random(seed)
        self.health = HealthBook(self.rng)
        self.traffic = Traffic()
        self.reaches = Reaches()
        self._mute = mute
        self.rooms: dict[str, Room] = {}
        """Upstream -> its room, for the nodes."""

    def speaks(self, provider: str, operation: Operation) -> bool:
        return provider not in self._mute

    def room(self, upstream: Upstream, model: str) -> Room | None:
        return self.rooms.get(upstream.id)

    def plan(self, snap: Snapshot, one: Route, now: float, who: Caller | None = None) -> list[str]:
        """Upstream names in the planned order."""
        return [planned.upstream.id for planned in plan(call(), who or caller(), one, snap, self, now)]


Behaviour = Callable[[float, Random], tuple[float, UpstreamError | None]]
"""(now, rng) -> seconds until the outcome, and what went wrong if anything did."""


class Simulation:
    """Clients call one route at a constant rate; each call walks its plan as the data plane would, three attempts long.

    Nothing sleeps: outcomes are events on a heap, and the clock jumps from one to the next. `nodes` gives slots and
    measured speed of those targets that are nodes: they refuse what is beyond their slots, a quarter second later.
    """

    def __init__(
        self,
        strategy: StrategyName,
        behaviours: dict[str, Behaviour],
        *,
        seed: int = 1,
        nodes: dict[str, tuple[int, float | None]] | None = None,
        tiers: dict[str, int] | None = None,
    ) -> None:
        self.world = World(seed)
        self.behaviours = behaviours
        self.now = 1000.0
        tiers = tiers or {}
        self.route = route(*(Target(name, MODEL, tier=tiers.get(name, 0)) for name in behaviours), strategy=strategy)
        self.snapshot = snapshot([upstream(name) for name in behaviours], [self.route])
        self._nodes = nodes or {}
        self._busy: Counter[str] = Counter()
        for name in self._nodes:
            self._occupy(name, 0)
        self.budgets = RetryBudgets()
        self.outcomes: list[tuple[float, str]] = []
        """(when, "ok" or the error's code) of each call."""
        self.sends: list[tuple[float, str]] = []
        """(when, upstream) of each attempt."""
        self.refusals: list[tuple[float, float | None]] = []
        """(when, Retry-After) of each call that found no target."""
        self.docket: Callable[[], Docket | None] = lambda: None
        """What each call brings to its plan."""
        self.on_end: Callable[[str], None] = lambda outcome: None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def arrivals(self, rate: float, seconds: float) -> None:
        """Schedule calls from now on."""
        start = self.now
        for n in range(int(rate * seconds)):
            self.at(start + n / rate, self.call)

    def run(self, seconds: float) -> None:
        """Let time pass; events beyond stay scheduled."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end

    def call(self) -> None:
        self.budgets.begin(("org", "chat"), self.now)
        try:
            made = self.docket()
            planned = plan(call(), caller(), self.route, self.snapshot, self.world, self.now, made)
        except NoTarget as error:
            self._refused(error.retry_after)
            return
        self._ask(list(planned), 0, None, made.facts.tokens if made is not None else 0)

    def _ask(self, left: list[Candidate], tried: int, last: UpstreamError | None, tokens: int) -> None:
        while left and tried < 3:
            chosen = left.pop(0)
            if not self.world.health.admit(chosen.key, self.now):
                continue
            if last is not None and not self.budgets.extra(("org", "chat"), self.now, last.cheap):
                self.world.health.release(chosen.key, self.now)
                self._end("retry_budget_exhausted")
                return
            self._send(chosen, left, tried, tokens, extra=last is not None)
            return
        if last is None:
            self._refused(self.world.health.earliest([(name, MODEL) for name in self.behaviours], self.now))
        else:
            self._end(last.code)

    def _send(self, chosen: Candidate, left: list[Candidate], tried: int, tokens: int, *, extra: bool) -> None:
        name = chosen.upstream.id
        taken = name not in self._nodes or self._busy[name] < self._nodes[name][0]
        if taken:
            self.sends.append((self.now, name))
            took, error = self.behaviours[name](self.now, self.world.rng)
            self._occupy(name, 1)
        else:
            took, error = 0.25, NodeBusy("x")
        ticket = self.world.traffic.begin(chosen.key, self.now, tokens, stream=True)

        def done() -> None:
            ticket.first = took
            self.world.traffic.end(ticket, self.now, None if error else 1)
            if taken:
                self._occupy(name, -1)
            if extra:
                self.budgets.extra_done(("org", "chat"))
            if error is None:
                self.world.health.success(chosen.key, self.now, took)
                self._end("ok")
            else:
                self.world.health.failure(chosen.key, error, self.now)
                self._ask(left, tried + 1, error, tokens)

        self.at(self.now + took, done)

    def _occupy(self, name: str, change: int) -> None:
        self._busy[name] += change
        if name in self._nodes:
            slots, decode = self._nodes[name]
            self.world.rooms[name] = room(slots - self._busy[name], slots, decode=decode)

    def _refused(self, wait: float | None) -> None:
        self.refusals.append((self.now, wait))
        self._end("no_healthy_target")

    def _end(self, outcome: str) -> None:
        self.budgets.end(("org", "chat"))
        self.outcomes.append((self.now, outcome))
        self.on_end(outcome)

    def share(self, since: float, until: float) -> dict[str, float]:
        """Which part of the attempts within a span went to whom."""
        counts = Counter(name for when, name in self.sends if since <= when < until)
        total = sum(counts.values())
        return {name: counts[name] / total if total else 0.0 for name in self.behaviours}

    def succeeded(self, since: float, until: float) -> float:
        """Which part of the calls that ended within a span went well."""
        ends = [outcome for when, outcome in self.outcomes if since <= when < until]
        return ends.count("ok") / len(ends) if ends else 0.0


def come_back(world: World, name: str, now: float) -> None:
    """The target's circuit closes after an ejection, so that its share ramps up from here on."""
    world.health._circuits[name, MODEL].close(now)


def fail(world: World, name: str, error: GatewayError, now: float, times: int = 1) -> None:
    """Admit and fail attempts on one target, as far as it admits them."""
    for _ in range(times):
        world.health.admit((name, MODEL), now)
        world.health.failure((name, MODEL), error, now)
