"""A replay under the rules that were in force finds what happened."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from intertie.core.errors import NoTarget, UpstreamUnreachable
from intertie.core.ledger import State
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.reach import facts_of
from intertie.core.routing.replay import FactsOf, Past, Place, Tried, replay
from intertie.core.routing.rules import Rule, TargetFacts, Wish, applying
from intertie.core.terms import NODE, Price, Snapshot, StrategyName, Target, Trust, Usage
from tests.contract.routing.test_plan_rules import REGIONS, TRUSTS, _rule, facts
from tests.unit.core.routing.grid import (
    AWAY,
    MODEL,
    World,
    call,
    caller,
    come_back,
    fail,
    room,
    route,
    snapshot,
    upstream,
)

NOW = 1000.0


DEAD = UpstreamUnreachable("x")


def tried(name: str, state: State = State.OK) -> Tried:
    return Tried(name, MODEL, state, Usage(10, 5), 7, 100)


def against(snap: Snapshot) -> FactsOf:
    def of(place: Place, latency: float | None) -> TargetFacts | None:
        one = snap.upstreams.get(place[0])
        return None if one is None else facts_of(one, place[1], snap, latency)

    return of


def _walk(rng: Random, planned: tuple[Candidate, ...]) -> tuple[Tried, ...]:
    """Some fail, some are passed over without being asked, and then one answers, or nobody does."""
    attempts: list[Tried] = []
    for one in planned:
        if rng.random() < 0.15:
            continue
        well = rng.random() < 0.7
        attempts.append(tried(one.upstream.name, State.OK if well else State.FAILED))
        if well or len(attempts) == 3:
            break
    return tuple(attempts)


def test_the_same_rules_reproduce_every_placement() -> None:
    """2,000 plans with rules, all strategies, ejected targets, full and absent nodes, failover and skipped targets."""
    rng = Random(23)
    placed = 0
    for _ in range(2000):
        past, rules, of = _recorded(rng)
        placed += past.place is not None
        assert replay(past, rules, of).place == past.place
    assert placed > 800


def _recorded(rng: Random) -> tuple[Past, tuple[Rule, ...], FactsOf]:
    world = World(rng.randrange(1 << 30))
    ones = []
    for name in "abcdef":
        one = upstream(name, trust=rng.choice(TRUSTS), provider=rng.choice(("openai_compatible", NODE)))
        ones.append(replace(one, region=rng.choice(REGIONS), models={MODEL: rng.choice((None, Price(1, 1)))}))
        if one.provider == NODE:
            world.rooms[name] = rng.choice((AWAY, room(0), room(3), room(2)))
        failed = rng.random() < 0.35
        if failed:
            fail(world, name, DEAD, NOW - rng.choice((1.0, 20.0)), 3)
        if rng.random() < 0.3 and failed:
            come_back(world, name, NOW - 5)
    targets = tuple(Target(name, MODEL, rng.randint(1, 3), rng.randint(0, 1)) for name in "abcdef")
    snap = snapshot(ones)
    rules = tuple(_rule(rng, n) for n in range(rng.randint(0, 4)))
    if rng.random() < 0.2:
        rules += (Rule("quick", prefer=Wish(latency=1.0)),)
    made = facts(tags=frozenset(rng.sample(("private", "public"), rng.randint(0, 2))), tokens=rng.choice((0, 900)))
    docket = Docket(made, applying(rules, made))
    one_route = route(*targets, strategy=rng.choice(list(StrategyName)))
    try:
        attempts = _walk(rng, plan(call(), caller(), one_route, snap, world, NOW, docket))
    except NoTarget:
        attempts = ()
    return Past("r", "chat", made, docket.considered, attempts), rules, against(snap)


NAMES = {"own": Trust.OWN, "cheap": Trust.VENDOR, "dear": Trust.VENDOR}


def of(place: Place, latency: float | None) -> TargetFacts | None:
    trust = NAMES.get(place[0])
    return None if trust is None else TargetFacts(place[0], trust, latency=latency)
