"""The checklist is right for every kind of configuration."""

from __future__ import annotations

from typing import Any

from intertie.controlplane import smoke
from intertie.controlplane.smoke import Line, Outcome


def upstream(name: str, *models: str, enabled: bool = True, paused: tuple[str, ...] = ()) -> dict[str, Any]:
    listed = [{"name": model} for model in models]
    return {"name": name, "models": listed, "enabled": enabled, "paused": list(paused)}


def route(model: str, *targets: str) -> dict[str, Any]:
    pairs = [target.split("/", 1) for target in targets]
    return {"model": model, "targets": [{"upstream": up, "model": name, "tier": 0, "weight": 1} for up, name in pairs]}


UPSTREAMS = [upstream("a", "m", "n"), upstream("b", "m"), upstream("bare"), upstream("off", "m", enabled=False)]


def test_every_route_and_each_target_once() -> None:
    """Two routes over the same target ask it once."""
    plan = smoke.plan([route("x", "a/m", "b/m"), route("y", "a/m")], UPSTREAMS)

    assert plan.routes == (("x", "x"), ("y", "y"))
    assert [probe.subject for probe in plan.targets] == ["a/m", "b/m"]
    assert [probe.subject for probe in plan.failovers] == ["x", "y"]


def test_the_star_is_asked_for_a_model_that_its_upstream_lists() -> None:
    """Where nothing is listed the checklist says that it cannot try."""
    plan = smoke.plan([route("*", "a/*")], UPSTREAMS)
    untried = smoke.plan([route("*", "bare/*")], UPSTREAMS)

    assert plan.routes == (("*", "m"),)
    assert not untried.routes
    assert [(line.subject, line.outcome) for line in untried.skipped] == [("*", Outcome.NOT_TRIED)]


def test_what_an_operator_paused_is_not_tried() -> None:
    """Nor counted as a failure; other models of the upstream are."""
    rows = [upstream("a", "m", "n", paused=("m",)), upstream("b", "m", paused=("*",))]
    plan = smoke.plan([route("x", "a/m", "a/n", "b/m")], rows)

    assert [probe.subject for probe in plan.targets] == ["a/n"]
    assert [(line.subject, line.outcome) for line in plan.skipped] == [
        ("a/m", Outcome.NOT_TRIED),
        ("b/m", Outcome.NOT_TRIED),
    ]
    assert "paused" in plan.skipped[0].note


def node(name: str, *models: str, label: str = "gpu", serving: str = "serving", reason: str = "") -> dict[str, Any]:
    listed = [{"name": model} for model in models]
    shown = {"name": name, "models": listed, "labels": [label], "state": "active", "drained": False}
    return {**shown, "serving": serving, "reason": reason}


def test_nodes_are_asked_like_upstreams_and_a_label_stands_for_those_that_carry_it() -> None:
    """Each node once, by its name, however a route came to it; behind the star what it lists."""
    nodes = [node("rig", "m"), node("lab", "m", "n"), node("other", "m", label="cpu"), node("bare")]
    targets = [{"node": "lab", "model": "m"}, {"node_label": "gpu", "model": "m"}]
    plan = smoke.plan([{"model": "x", "targets": targets}], UPSTREAMS, nodes)
    star = smoke.plan([{"model": "*", "targets": [{"node": "lab", "model": "*"}]}], UPSTREAMS, nodes)

    assert [probe.subject for probe in plan.targets] == ["node:lab/m", "node:rig/m"]
    assert [dict(probe.targets[0]) for probe in plan.targets] == [
        {"node": "lab", "model": "m"},
        {"node": "rig", "model": "m"},
    ]
    assert plan.failovers[0].entry()["targets"][1]["node"] == "rig"
    assert star.routes == (("*", "m"),)


def test_a_node_that_takes_no_work_is_not_tried_and_says_why() -> None:
    """A sleeping laptop is no failure of the configuration; a label without nodes is nothing to ask."""
    nodes = [node("rig", "m", serving="offline", reason="last seen at noon")]
    routes = [
        {"model": "x", "targets": [{"node": "rig", "model": "m"}]},
        {"model": "y", "targets": [{"node_label": "z", "model": "m"}]},
    ]
    plan = smoke.plan(routes, UPSTREAMS, nodes)

    assert not plan.targets
    assert [(line.subject, line.note) for line in plan.skipped] == [
        ("node:rig/m", "the node takes no work now: last seen at noon"),
        ("y", "no node serves it yet"),
    ]


def test_a_disabled_upstream_is_not_tried_and_named() -> None:
    """Once, however many routes use it."""
    plan = smoke.plan([route("x", "off/m", "a/m"), route("y", "off/m", "a/m")], UPSTREAMS)

    assert [probe.subject for probe in plan.targets] == ["a/m"]
    assert [(line.check, line.subject) for line in plan.skipped] == [("target", "off/m")]


def test_failover_puts_a_failing_target_first_and_the_routes_own_behind_it() -> None:
    """Three attempts is all a request has, so at most two real targets stand behind."""
    plan = smoke.plan([route("x", "a/m", "b/m", "a/n", "off/m"), route("y", "b/m")], UPSTREAMS)
    many, single = plan.failovers

    assert [target["upstream"] for target in many.entry()["targets"]] == [smoke.BROKEN, "b", "a"]
    assert [target["tier"] for target in many.entry()["targets"]] == [0, 1, 2]
    assert not many.alone
    assert [target["upstream"] for target in single.entry()["targets"]] == [smoke.BROKEN, "b"]
    assert single.alone


def test_each_failing_target_has_a_model_of_its_own() -> None:
    """Otherwise the third refused connection opens its circuit and the fourth route sees no failover."""
    plan = smoke.plan([route(name, "a/m") for name in "wxyz"], UPSTREAMS)

    assert len({probe.targets[0]["model"] for probe in plan.failovers}) == 4


def test_the_key_may_ask_for_exactly_what_is_asked() -> None:
    """Routes, models passed through, and the temporary routes."""
    plan = smoke.plan([route("*", "a/*"), route("x", "b/m")], UPSTREAMS)

    assert set(plan.names) == {"*", "m", "x", *(probe.route for probe in (*plan.targets, *plan.failovers))}


def test_what_a_killed_run_left_is_neither_asked_nor_kept() -> None:
    """Its routes are recognised by name; a user's own `smoke` things are not touched."""
    left = route("intertie-smoke/target-0", "a/m")

    assert smoke.leftovers([left, route("smoke/mine", "a/m"), route("x", "a/m")]) == ["intertie-smoke/target-0"]
    assert smoke.plan([left, route("x", "a/m")], UPSTREAMS).routes == (("x", "x"),)


def test_the_verdict_needs_a_success_and_no_failure() -> None:
    """A configuration of which nothing could be tried has not passed."""
    ok, bad, untried = (Line("route", "x", outcome) for outcome in Outcome)

    assert smoke.verdict([ok, untried])
    assert not smoke.verdict([ok, bad])
    assert not smoke.verdict([untried])
