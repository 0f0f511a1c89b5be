"""Nodes that connect, change their keys, report, and are told what to do, over a real database."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.controlplane import audit, nodes, routes, rules, snapshot, upstreams
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.entries import RouteEntry, UpstreamEntry
from intertie.controlplane.nodes import LinkRefused, NodeChange
from intertie.controlplane.rule_entries import RuleEntry
from intertie.core.errors import BadCall
from intertie.core.routing.reach import facts_of
from intertie.core.routing.rules import Wish, unmet
from intertie.core.terms import Price, Trust
from intertie.core.wire.link import CloseCode
from tests.contract.controlplane.applicants import (
    ADMIN,
    Clock,
    Machine,
    actions,
    at_time,
    enrolled,
    id_of,
    make_token,
    refused,
)
from tests.contract.controlplane.conftest import NOW

HOUR = 3600.0
REPORT: dict[str, Any] = {
    "t": "inventory",
    "revision": 1,
    "runtimes": [{"kind": "ollama", "version": "0.5", "slots": 4, "queue": None, "models": ["llama3:8b"]}],
    "models": [{"name": "llama3:8b", "context": 8192, "slots": 4, "decode": 40.0, "capabilities": ["chat", "tools"]}],
    "hardware": {"memory_bytes": 2**35},
    "slots": 4,
    "platform": "linux-x86_64",
}


# -- what it has -----------------------------------------------------------------------------------------------------


def test_what_a_node_reports_can_be_routed_to(control: Control) -> None:
    """For free; the same report again changes nothing, a hardware reading no routing."""
    machine = enrolled(control)
    assert nodes.report(control, "default", id_of(machine), REPORT).routes
    taken = snapshot.build(control)

    assert taken.upstreams[id_of(machine)].models["llama3:8b"] == Price(0, 0)
    revision = snapshot.revision(control)
    assert not nodes.report(control, "default", id_of(machine), REPORT).routes
    assert not nodes.report(control, "default", id_of(machine), REPORT | {"hardware": {"memory_bytes": 1}}).routes
    (model,) = REPORT["models"]
    cold = nodes.report(control, "default", id_of(machine), REPORT | {"models": [{**model, "loaded": False}]})
    assert (cold.routes, cold.models["llama3:8b"].loaded, cold.models["llama3:8b"].context) == (False, False, 8192)
    nodes.report(control, "default", id_of(machine), REPORT | {"hardware": {"memory_bytes": 1}})
    assert snapshot.revision(control) == revision
    view = nodes.show(control, "default", "rig")
    assert (view.hardware, view.slots) == ({"memory_bytes": 1}, 4)
    assert nodes.report(control, "default", id_of(machine), REPORT | {"models": []}).routes
    assert list(snapshot.build(control).upstreams[id_of(machine)].models) == []


def test_a_cap_of_the_operator_limits_what_is_shown(control: Control) -> None:
    """And taken away, the node's own number shows again."""
    machine = enrolled(control)
    nodes.report(control, "default", id_of(machine), REPORT)

    capped = nodes.change(control, "default", "rig", NodeChange(slots=2), ADMIN)
    free = nodes.change(control, "default", "rig", NodeChange(slots=None), ADMIN)
    assert [(view.slots, view.slots_cap) for view in (capped, free)] == [(2, 2), (4, None)]


def test_a_report_of_nonsense_or_of_a_revoked_node_isrefused(control: Control) -> None:
    """Each with its code."""
    machine = enrolled(control)
    with pytest.raises(LinkRefused) as caught:
        nodes.report(control, "default", id_of(machine), {"t": "inventory"})
    assert caught.value.code is CloseCode.PROTOCOL_ERROR
    nodes.revoke(control, "default", "rig", ADMIN)
    with pytest.raises(LinkRefused) as caught:
        nodes.report(control, "default", id_of(machine), REPORT)
    assert caught.value.code is CloseCode.REVOKED


# -- operators -------------------------------------------------------------------------------------------------------


def test_an_operator_names_and_sorts_nodes(control: Control) -> None:
    """Routes keep a renamed one; each change is recorded once, with what it was."""
    machine = enrolled(control)
    nodes.report(control, "default", id_of(machine), REPORT)
    entry = RouteEntry.model_validate({"model": "chat", "targets": [{"node": "rig", "model": "llama3:8b"}]})
    routes.put(control, "default", entry)
    wanted = NodeChange(name="big-rig", labels=("gpu", "lab"), trust=Trust.COMPANY)
    nodes.change(control, "default", "rig", wanted, ADMIN)
    view = nodes.change(control, "default", "big-rig", wanted, ADMIN)

    assert (view.name, view.labels, view.trust) == ("big-rig", ("gpu", "lab"), "company")
    taken = snapshot.build(control)
    assert taken.routes["default", "chat"].targets[0].upstream == id_of(machine)
    assert (taken.upstreams[id_of(machine)].name, taken.upstreams[id_of(machine)].trust) == ("big-rig", Trust.COMPANY)
    assert actions(control, "node.change") == [
        {"name": "big-rig", "was": "rig", "trust": "company", "labels": ["gpu", "lab"]}
    ]


def test_an_operator_says_where_a_node_stands_and_the_node_cannot(control: Control) -> None:
    """By token, later by command; rules see it, and what a machine reports about itself changes nothing of it."""
    machine = enrolled(control, region="eu")
    claims = {"region": "moon", "trust": "vendor", "labels": ["gpu"]}
    nodes.report(control, "default", id_of(machine), {**REPORT, **claims, "hardware": claims})
    before = snapshot.build(control)
    upstream = before.upstreams[id_of(machine)]
    assert (upstream.region, upstream.trust, before.nodes["default", "rig"].labels) == ("eu", Trust.OWN, frozenset())
    facts = facts_of(upstream, "llama3:8b", before, None)
    assert [unmet(Wish(region=(region,)), facts) for region in ("eu", "us")] == [
        "",
        "region us, and this is eu",
    ]

    changed = [
        nodes.change(control, "default", "rig", NodeChange(region=region), ADMIN) for region in ("us", "us", None)
    ]
    assert [view.region for view in changed] == ["us", "us", ""]
    assert snapshot.build(control).upstreams[id_of(machine)].region == ""
    assert actions(control, "node.change") == [{"name": "rig", "region": None}, {"name": "rig", "region": "us"}]
    assert nodes.report(control, "default", id_of(machine), {**REPORT, "models": [], **claims}).routes
    assert nodes.show(control, "default", "rig").region == ""


def test_a_node_that_rules_name_is_not_renamed(control: Control) -> None:
    """The rule would be about nobody, and what it forbids be allowed."""
    enrolled(control)
    rules.put(control, "default", RuleEntry.model_validate({"name": "never", "forbid": {"upstream": "rig"}}))
    with pytest.raises(Conflict, match="the rules never name the node rig"):
        nodes.change(control, "default", "rig", NodeChange(name="other"), ADMIN)
    assert nodes.change(control, "default", "rig", NodeChange(name="rig", slots=2), ADMIN).slots_cap == 2
    rules.remove(control, "default", "never")
    assert nodes.change(control, "default", "rig", NodeChange(name="other"), ADMIN).name == "other"


def test_a_name_is_taken_once(control: Control) -> None:
    """By nodes, upstreams and our own paths."""
    enrolled(control)
    enrolled(control, "other")
    entry = {"name": "acme", "provider": "openai_compatible", "base_url": "https://x.example"}
    upstreams.put(control, "default", UpstreamEntry.model_validate(entry))

    for name in ("other", "acme", "tokens", "devices"):
        with pytest.raises(Conflict):
            nodes.change(control, "default", "rig", NodeChange(name=name), ADMIN)
    with pytest.raises(BadCall):
        nodes.change(control, "default", "rig", NodeChange(trust=Trust.VENDOR), ADMIN)


def test_draining_and_revoking_reach_the_data_plane(control: Control) -> None:
    """With the next snapshot; the same again is no change and no record."""
    machine = enrolled(control)
    for _ in range(2):
        nodes.drain(control, "default", "rig", ADMIN, drained=True)
    assert snapshot.build(control).nodes["default", "rig"].drained
    nodes.drain(control, "default", "rig", ADMIN, drained=False)
    for _ in range(2):
        nodes.revoke(control, "default", "rig", ADMIN)
    taken = snapshot.build(control)

    assert taken.nodes == {}
    assert not taken.upstreams[id_of(machine)].enabled
    counts = {action: len(actions(control, f"node.{action}")) for action in ("drain", "resume", "revoke")}
    assert counts == {"drain": 1, "resume": 1, "revoke": 1}


def test_a_node_is_removed_unless_a_route_needs_it(control: Control) -> None:
    """With its keys and its upstream; the audit trail remembers it."""
    machine = enrolled(control)
    nodes.report(control, "default", id_of(machine), REPORT)
    entry = RouteEntry.model_validate({"model": "chat", "targets": [{"node": "rig", "model": "llama3:8b"}]})
    routes.put(control, "default", entry)
    with pytest.raises(Conflict, match="chat"):
        nodes.remove(control, "default", "rig", ADMIN)
    routes.remove(control, "default", "chat")
    nodes.remove(control, "default", "rig", ADMIN)

    assert nodes.list_(control, "default") == []
    assert snapshot.build(control).upstreams == {}
    assert refused(control, machine) is CloseCode.AUTH_FAILED
    assert actions(control, "node.remove") == [{"name": "rig"}]
    assert Machine().enrol(control, make_token(control).token).name == "rig"


def test_another_organisation_sees_and_touches_nothing(control: Control) -> None:
    """Whatever it asks for, there is no such node."""
    enrolled(control)
    before = nodes.show(control, "default", "rig")
    with pytest.raises(Unknown):
        nodes.show(control, "other", "rig")
    for act in (nodes.approve, nodes.revoke, nodes.remove):
        with pytest.raises(Unknown):
            act(control, "other", "rig", ADMIN)

    assert nodes.list_(control, "other") == []
    assert nodes.show(control, "default", "rig") == before
    assert audit.list_(control, "other") == []


# -- housekeeping ----------------------------------------------------------------------------------------------------


def test_an_ephemeral_node_goes_an_hour_after_it_was_last_there(control: Control) -> None:
    """Others stay; a connected one stays; and a gateway that was away itself waits a full hour before it judges."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    enrolled(control, "kept")
    gone, there = enrolled(control, "gone", ephemeral=True), enrolled(control, "there", ephemeral=True)
    connected = {id_of(there)}
    clock.now += 10 * HOUR
    assert nodes.sweep(control, clock.now, connected).removed == 0
    clock.now += HOUR - 1
    assert nodes.sweep(control, clock.now, connected).removed == 0
    clock.now += 1
    assert nodes.sweep(control, clock.now, connected).removed == 1

    assert [view.name for view in nodes.list_(control, "default")] == ["kept", "there"]
    assert nodes.show(control, "default", "there").last_seen_at == clock.now
    assert refused(control, gone) is CloseCode.AUTH_FAILED


def test_an_ephemeral_node_that_a_route_names_is_left_to_the_operator(control: Control) -> None:
    """Removing it would break the route."""
    machine = enrolled(control, ephemeral=True)
    nodes.report(control, "default", id_of(machine), REPORT)
    entry = RouteEntry.model_validate({"model": "chat", "targets": [{"node": "rig", "model": "llama3:8b"}]})
    routes.put(control, "default", entry)
    for hours in (0, 5):
        assert nodes.sweep(control, NOW + hours * HOUR).removed == 0


def test_a_connected_node_is_asked_for_a_new_key_after_a_year(control: Control) -> None:
    """Asked, never locked out."""
    machine = enrolled(control)
    later = NOW + nodes.KEY_AGE + 1

    assert nodes.sweep(control, NOW + 1, {id_of(machine)}).aged == ()
    assert nodes.sweep(control, later, {id_of(machine)}).aged == (id_of(machine),)
    assert nodes.sweep(control, later).aged == ()
    assert machine.connect(at_time(control, lambda: later)).epoch == 1
