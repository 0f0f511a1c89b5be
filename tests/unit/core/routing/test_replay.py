"""Replaying plans: the same rules give the very same placements, other rules what they would have given."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.core.ledger import CallFacts, Considered, State
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.reach import facts_of
from intertie.core.routing.replay import FactsOf, Past, Place, Tried, replay
from intertie.core.routing.rules import Rule, TargetFacts, Wish
from intertie.core.terms import NODE, Operation, Snapshot, Trust, Usage
from tests.contract.routing.test_plan_rules import facts
from tests.unit.core.routing.grid import (
    MODEL,
    World,
    call,
    caller,
    room,
    route,
    snapshot,
    upstream,
)

NOW = 1000.0


def tried(name: str, state: State = State.OK) -> Tried:
    return Tried(name, MODEL, state, Usage(10, 5), 7, 100)


def against(snap: Snapshot) -> FactsOf:
    def of(place: Place, latency: float | None) -> TargetFacts | None:
        one = snap.upstreams.get(place[0])
        return None if one is None else facts_of(one, place[1], snap, latency)

    return of


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
