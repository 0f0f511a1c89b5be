"""Nodes in plans: whether they take work, whether they have room, and which of them is asked first."""

from __future__ import annotations

from collections import Counter

import pytest

from intertie.core.errors import NoEligibleTarget, NoTarget, UpstreamUnreachable
from intertie.core.routing.plan import AWAY_WAIT, plan
from intertie.core.routing.room import Room
from intertie.core.terms import Snapshot, StrategyName, Target, Trust, Upstream
from tests.unit.core.routing.grid import (
    AWAY,
    MODEL,
    World,
    call,
    caller,
    come_back,
    fail,
    node,
    room,
    route,
    snapshot,
    upstream,
)

NOW = 1000.0
DEAD = UpstreamUnreachable("x")
PAUSED = Room(open=False, reason="the owner is using the machine")
OWN_FIRST = route(Target("rig", MODEL), Target("vendor", MODEL, tier=1))
SNAP = snapshot([node("rig"), upstream("vendor")])


def world(**rooms: Room) -> World:
    made = World()
    made.rooms = rooms
    return made


def nodes(*names: str) -> Snapshot:
    return snapshot([node(name) for name in names])


def refused(made: World, *upstreams: Upstream, trust: Trust = Trust.VENDOR) -> NoTarget:
    one = route(*(up.id for up in upstreams))
    with pytest.raises(NoTarget) as caught:
        plan(call(), caller(trust=trust), one, snapshot(upstreams), made, NOW)
    return caught.value


def test_own_machines_first_and_the_vendor_when_they_are_full_or_away() -> None:
    """The example of the guide: tier 0 is a node, tier 1 a vendor."""
    assert world(rig=room(1)).plan(SNAP, OWN_FIRST, NOW) == ["rig", "vendor"]
    assert world(rig=room(0)).plan(SNAP, OWN_FIRST, NOW) == ["vendor", "rig"]
    assert world(rig=AWAY).plan(SNAP, OWN_FIRST, NOW) == ["vendor"]
    assert world(rig=PAUSED).plan(SNAP, OWN_FIRST, NOW) == ["vendor"]


def test_a_full_node_is_asked_when_nothing_else_is_left() -> None:
    """It may have a slot in a moment."""
    assert world(rig=room(0)).plan(nodes("rig"), route("rig"), NOW) == ["rig"]
    assert sorted(world(a=room(0), b=room(0)).plan(nodes("a", "b"), route("a", "b"), NOW)) == ["a", "b"]
    made = world(rig=room(0))
    fail(made, "vendor", DEAD, NOW, 3)
    assert made.plan(SNAP, OWN_FIRST, NOW) == ["rig"]


def test_a_full_node_comes_behind_a_target_that_just_came_back_and_before_one_in_trouble() -> None:
    """A short wait is better than a likely failure."""
    snap = snapshot([node("rig"), *(upstream(name) for name in ("back", "x", "y"))])
    made = world(rig=room(0))
    for name in ("x", "y"):
        fail(made, name, DEAD, NOW, 3)
    fail(made, "back", DEAD, NOW, 3)
    come_back(made, "back", NOW)
    order = made.plan(snap, route("rig", "back", "x", "y"), NOW)
    assert order[:2] == ["back", "rig"]
    assert set(order[2:]) <= {"x", "y"}


def test_overflow_keeps_the_operators_order_among_what_has_room_and_among_what_has_not() -> None:
    """Three tiers of machines, then a vendor."""
    snap = snapshot([*(node(name) for name in "abc"), upstream("vendor")])
    one = route(*(Target(name, MODEL, tier=at) for at, name in enumerate(["a", "b", "c", "vendor"])))
    assert world(a=room(0), b=room(1), c=room(0)).plan(snap, one, NOW) == ["b", "vendor", "a", "c"]


def test_a_better_machine_of_a_higher_tier_does_not_jump_the_queue() -> None:
    """Cold, slow and nearly full: it is what the operator wants first."""
    one = route(Target("first", MODEL), Target("second", MODEL, tier=1))
    made = world(first=room(1, 8, warm=False, decode=3.0), second=room(8, 8, decode=90.0))
    assert made.plan(nodes("first", "second"), one, NOW) == ["first", "second"]


@pytest.mark.parametrize("strategy", [one for one in StrategyName if one is not StrategyName.LEAST_BUSY])
def test_equal_nodes_share_whatever_the_strategy(strategy: StrategyName) -> None:
    """Listed order means nothing among equals; tiers do."""
    one = route(*"abcd", strategy=strategy)
    made = world(**{name: room() for name in "abcd"})
    counts = Counter(made.plan(nodes(*"abcd"), one, NOW)[0] for _ in range(1000))
    assert all(count == pytest.approx(250, abs=60) for count in counts.values())
    made.rooms["a"] = room(warm=False)
    assert all(made.plan(nodes(*"abcd"), one, NOW)[3] == "a" for _ in range(50))


def test_different_weights_stay_as_drawn() -> None:
    """The operator's split between a large and a small machine holds while both have room."""
    one = route(Target("large", MODEL, 3), Target("small", MODEL, 1), strategy=StrategyName.WEIGHTED)
    made = world(large=room(1, 4), small=room(4, 4, decode=99.0))
    counts = Counter(made.plan(nodes("large", "small"), one, NOW)[0] for _ in range(1000))
    assert counts["large"] == pytest.approx(750, abs=50)


def test_an_absent_node_says_so_and_when_to_come_back() -> None:
    """Which machine, but not what its owner does: that is for the log."""
    error = refused(world(rig=AWAY), node("rig"))
    assert (error.status, error.code, error.retry_after) == (503, "no_healthy_target", AWAY_WAIT)
    assert error.public == "The node rig is offline."
    assert error.detail == "rig: offline since 12:03"
    error = refused(world(rig=PAUSED, lab=AWAY), node("rig"), node("lab"))
    assert error.public == "The nodes rig, lab are not taking work at the moment."
    assert "owner" not in error.public
    assert "owner" in error.detail


def test_of_many_absent_nodes_a_few_are_named() -> None:
    """A label may stand for a thousand machines."""
    many = [node(f"n{at}") for at in range(1000)]
    error = refused(world(**{one.id: AWAY for one in many}), *many)
    assert error.public == "The nodes n0, n1, n2 and 997 more are offline."


def test_an_absent_node_of_another_organisation_or_beyond_the_ceiling_is_not_named() -> None:
    """It does not exist for this caller."""
    foreign = upstream("foreign", organisation="other", provider="node", trust=Trust.OWN)
    community = node("stranger", trust=Trust.COMMUNITY)
    error = refused(world(rig=AWAY, foreign=AWAY, stranger=AWAY), node("rig"), foreign, community, trust=Trust.OWN)
    assert error.public == "The node rig is offline."
    assert "foreign" not in error.detail
    assert "stranger" not in error.detail


def test_an_absent_node_is_named_beside_others_in_trouble() -> None:
    """And the wait is the shorter one."""
    made = world(rig=AWAY)
    fail(made, "vendor", DEAD, NOW, 3)
    error = refused(made, node("rig"), upstream("vendor"))
    assert error.public == "No target of this model is healthy. The node rig is offline."
    assert error.retry_after is not None
    assert 1 <= error.retry_after <= AWAY_WAIT


def test_a_vendor_never_stands_in_for_own_machines_that_are_away() -> None:
    """The ceiling comes first: the answer is that the machine is offline."""
    with pytest.raises(NoTarget) as caught:
        plan(call(), caller(trust=Trust.OWN), OWN_FIRST, SNAP, world(rig=AWAY), NOW)
    assert caught.value.public == "The node rig is offline."
    with pytest.raises(NoEligibleTarget):
        plan(call(), caller(trust=Trust.OWN), route("vendor"), SNAP, world(), NOW)


def test_a_sick_node_comes_back_like_any_target() -> None:
    """An ejected one is left out beside a vendor, and never the last to go."""
    made = world(rig=room())
    fail(made, "rig", DEAD, NOW, 3)
    assert made.plan(SNAP, OWN_FIRST, NOW) == ["vendor"]
    assert made.plan(nodes("rig"), route("rig"), NOW + 1) == ["rig"]
