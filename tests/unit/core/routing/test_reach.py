"""What a call may reach at all, whatever the health of targets."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from intertie.core.errors import NoEligibleTarget
from intertie.core.routing.reach import Reach, facts_of, nothing, reachable
from intertie.core.routing.rules import Rule, TargetFacts, Wish
from intertie.core.terms import NODE, Caller, Node, Price, Route, Snapshot, Trust
from tests.unit.core.routing.grid import MODEL, World, call, caller, route, snapshot, upstream


def reach(*rules: Rule) -> Reach:
    snap = snapshot([upstream("own", trust=Trust.OWN), upstream("far"), upstream("off", enabled=False)])
    return reachable(call(), caller(), route("own", "far", "off"), snap, World(), rules, 0.0)


def test_rules_part_what_the_ceiling_allows() -> None:
    """Each with its reason."""
    found = reach(Rule("own-only", require=Wish(trust=Trust.OWN)))
    assert [one.upstream.id for one in found.allowed] == ["own"]
    assert [(one.upstream.id, one.rule) for one in found.ruled] == [
        ("far", "rule own-only requires trust own, and this is vendor")
    ]
    assert [one.why for one in found.refused] == ["disabled"]


def test_an_error_names_every_rule_once() -> None:
    """And the log has the rest."""
    error = nothing(reach(Rule("none", forbid=Wish(upstream=("own", "far")))))
    assert isinstance(error, NoEligibleTarget)
    assert error.public.endswith("Rule none forbids upstream own or far.")
    assert error.detail == "1 disabled, 1 rule none forbids upstream own or far"


def test_a_nodes_labels_and_the_models_price_are_its_facts() -> None:
    """A node of the same name in another organisation lends it nothing."""
    rig = replace(upstream("rig", provider=NODE, trust=Trust.OWN), region="eu", models={MODEL: Price(0, 0)})
    snap = replace(snapshot([rig]), nodes={("org", "rig"): Node("rig", "org", "rig", frozenset({"gpu"}))})
    expected = TargetFacts("rig", Trust.OWN, "eu", frozenset({"gpu"}), Price(0, 0), 0.5)
    assert facts_of(rig, MODEL, snap, 0.5) == expected
    other = replace(snap, nodes={("other", "rig"): Node("rig", "other", "rig", frozenset({"gpu"}))})
    assert facts_of(rig, MODEL, other, None).labels == frozenset()


@pytest.mark.parametrize(("measured", "allowed"), [(None, True), (0.5, True), (5.0, False)])
def test_a_ceiling_of_latency_asks_what_was_measured(measured: float | None, allowed: bool) -> None:
    """What nobody measured is not over it: it must be asked to be measured."""
    world = World()
    if measured is not None:
        ticket = world.traffic.begin(("far", MODEL), 100.0, 10, stream=True)
        ticket.first = measured
        world.traffic.end(ticket, 100.0 + measured, 10)
    snap = snapshot([upstream("far")])
    quick = (Rule("quick", require=Wish(latency=1.0)),)
    found = reachable(call(), caller(), route("far"), snap, world, quick, 110.0)
    assert bool(found.allowed) is allowed
    # Zero where it was not measured: a replay must not take a later measurement for it.
    assert [one.latency for one in (*found.allowed, *found.ruled)] == [measured or 0.0]


def test_latency_is_kept_only_where_a_rule_asks() -> None:
    assert [one.latency for one in reach(Rule("own", require=Wish(trust=Trust.OWN))).allowed] == [None]


def test_what_was_found_out_holds_for_its_kind_of_call_and_its_configuration() -> None:
    own, far = upstream("own", trust=Trust.OWN), upstream("far")
    way = route("own", "far")
    snap = snapshot([own, far], [way])
    world, none, strict = World(), (), (Rule("own", require=Wish(trust=Trust.OWN)),)

    def names(snap: Snapshot, way: Route, rules: tuple[Rule, ...], who: Caller) -> list[str]:
        found = world.reaches.of(call(), who, way, snap, world, rules, 0.0)
        assert found == reachable(call(), who, way, snap, world, rules, 0.0)
        return [one.upstream.id for one in found.allowed]

    for _ in range(2):
        assert names(snap, way, none, caller()) == ["own", "far"]
        assert names(snap, way, strict, caller()) == ["own"]
        assert names(snap, way, none, caller(trust=Trust.OWN)) == ["own"]
        assert names(snap, route("far"), none, caller()) == ["far"], "another route of the same name"
        assert names(replace(snap, upstreams={"far": far}), way, none, caller()) == ["far"]


def test_it_is_found_out_once_unless_a_rule_asks_what_changes() -> None:
    way = route("far")
    snap = snapshot([upstream("far")], [way])
    world, quick, strict = World(), (Rule("q", require=Wish(latency=1.0)),), (Rule("s", require=Wish(trust=Trust.OWN)),)

    def again(way: Route, rules: tuple[Rule, ...]) -> bool:
        first, second = (world.reaches.of(call(), caller(), way, snap, world, rules, 0.0) for _ in range(2))
        return first is second

    assert again(way, ())
    assert again(way, strict)
    assert not again(way, quick)
    assert not again(route("far"), ()), "made for this call alone"
