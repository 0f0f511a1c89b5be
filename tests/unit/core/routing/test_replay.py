"""Replaying plans: the same rules give the very same placements, other rules what they would have given."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.errors import NoTarget, UpstreamUnreachable
from intertie.core.ledger import CallFacts, Considered, State
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.reach import facts_of
from intertie.core.routing.replay import FactsOf, Past, Place, Tried, replay
from intertie.core.routing.rules import Rule, TargetFacts, Wish, applying
from intertie.core.terms import NODE, Operation, Price, Snapshot, StrategyName, Target, Trust, Usage
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


FACTS = CallFacts(key="k", project="p", model="chat", operation=Operation.CHAT)
NAMES = {"own": Trust.OWN, "cheap": Trust.VENDOR, "dear": Trust.VENDOR}


def of(place: Place, latency: float | None) -> TargetFacts | None:
    trust = NAMES.get(place[0])
    return None if trust is None else TargetFacts(place[0], trust, latency=latency)


def considered(name: str, base: float | None, **more: Any) -> Considered:
    return Considered(name, MODEL, base=base, **more)


PLAN = (considered("cheap", 0), considered("dear", 1), considered("own", -0.5, allowed=False))


def test_a_rule_that_is_gone_lets_its_targets_take_their_place() -> None:
    """Own would have come first by the strategy, and only a rule kept it out."""
    past = Past("r", "chat", FACTS, PLAN, (tried("cheap"),))
    assert replay(past, (), of).place == ("own", MODEL)


def test_a_new_rule_moves_or_refuses_and_says_why() -> None:
    """The reason is the one that concerns whoever had answered."""
    past = Past("r", "chat", FACTS, PLAN, (tried("cheap"),))
    moved = replay(past, (Rule("no", forbid=Wish(upstream=("cheap", "own"))),), of)
    assert moved == (("dear", MODEL), "rule no forbids upstream cheap or own")
    none = replay(past, (Rule("none", forbid=Wish(upstream=("own", "cheap", "dear"))),), of)
    assert none == (None, "rule none forbids upstream own or cheap or dear")


def test_what_failed_then_is_not_asked_again() -> None:
    """Cheap failed and dear answered: a preference for cheap changes nothing."""
    plan_ = (considered("cheap", 0), considered("dear", 1))
    past = Past("r", "chat", FACTS, plan_, (tried("cheap", State.FAILED), tried("dear")))
    assert replay(past, (Rule("p", prefer=Wish(upstream=("cheap",))),), of).place == ("dear", MODEL)


def test_what_could_not_be_asked_stays_out() -> None:
    """No base: its health or room kept it out, whatever rules say."""
    plan_ = (considered("dear", 0), considered("own", None, allowed=False, why="offline"))
    past = Past("r", "chat", FACTS, plan_, (tried("dear"),))
    assert replay(past, (Rule("own", require=Wish(trust=Trust.OWN)),), of).place is None


def test_a_request_without_a_plan_had_one_target() -> None:
    """Its attempt says which; a draft may refuse it."""
    past = Past("r", "chat", FACTS, (), (tried("dear"),))
    assert replay(past, (), of).place == ("dear", MODEL)
    assert replay(past, (Rule("own", require=Wish(trust=Trust.OWN)),), of).place is None


def test_a_refused_request_may_be_answered_under_a_draft() -> None:
    """Nobody was asked because of a rule that the draft does not have."""
    plan_ = (considered("own", -0.5, allowed=False), considered("dear", 0.5, allowed=False))
    past = Past("r", "chat", FACTS, plan_, ())
    assert past.place is None
    assert replay(past, (), of).place == ("own", MODEL)


@pytest.mark.parametrize("nodes", [("rig",), ("rig", "lab")])
def test_full_nodes_come_behind_whoever_has_room_under_a_draft_too(nodes: tuple[str, ...]) -> None:
    """Nobody else was allowed, so the call waited for a slot; where the vendor is allowed, it goes there."""
    world = World()
    world.rooms = dict.fromkeys(nodes, room(0))
    snap = snapshot([*(upstream(name, trust=Trust.OWN, provider=NODE) for name in nodes), upstream("vendor")])
    rules = (Rule("stay", require=Wish(trust=Trust.OWN)),)
    docket = Docket(facts(), rules)
    first, *_ = plan(call(), caller(), route(*nodes, "vendor"), snap, world, NOW, docket)
    past = Past("r", "chat", facts(), docket.considered, (tried(first.upstream.id),))
    assert replay(past, rules, against(snap)).place == past.place
    assert replay(past, (), against(snap)).place == ("vendor", MODEL)


def test_targets_of_a_fallback_come_behind_all_of_the_route() -> None:
    """Whatever is preferred: they are asked only after a rejection."""
    plan_ = (considered("cheap", 0), considered("own", 0, setback=8))
    past = Past("r", "chat", FACTS, plan_, (tried("cheap"),))
    assert replay(past, (Rule("p", prefer=Wish(upstream=("own",))),), of).place == ("cheap", MODEL)
    rejected = Past("r", "chat", FACTS, plan_, (tried("cheap", State.FAILED), tried("own")))
    assert replay(rejected, (), of).place == ("own", MODEL)


def test_where_nobody_of_the_route_may_be_asked_no_fallback_is_either() -> None:
    """It takes a rejection to get there."""
    plan_ = (considered("cheap", 0), considered("own", 0, setback=8, via="large"))
    past = Past("r", "chat", FACTS, plan_, (tried("cheap", State.FAILED), tried("own")))
    none = replay(past, (Rule("no", forbid=Wish(upstream=("cheap",))),), of)
    assert none == (None, "rule no forbids upstream cheap")


def test_a_target_that_is_gone_is_nowhere_to_go() -> None:
    """It was removed since."""
    past = Past("r", "chat", FACTS, (considered("gone", 0), considered("dear", 1)), (tried("gone"),))
    assert replay(past, (), of).place == ("dear", MODEL)
