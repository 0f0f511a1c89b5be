"""Nodes in a configuration: where routes name them, and where they do not belong."""

from __future__ import annotations

import pytest

from intertie.controlplane import config
from intertie.controlplane.config import ConfigProblems, Problem
from intertie.controlplane.entries import RouteEntry, UpstreamEntry


def _route(targets: str, model: str = "a") -> str:
    return (
        f"upstreams: [{{name: acme, provider: openai, models: [m]}}]\nroutes: [{{model: {model}, targets: {targets}}}]"
    )


def _one(text: str) -> Problem:
    with pytest.raises(ConfigProblems) as caught:
        config.parse(text)
    (problem,) = caught.value.problems
    return problem


def test_a_route_names_a_node_a_label_or_an_upstream() -> None:
    """Whether the node exists is seen when the file is applied: it enrols by itself, not by the file."""
    text = _route('[{node: lab-rig-1, model: "llama3:8b"}, {node_label: gpu, tier: 1}, {upstream: acme, tier: 2}]')
    node, label, upstream = config.parse(text).routes[0].targets

    assert (node.node, node.upstream, node.node_label, node.model) == ("lab-rig-1", None, None, "llama3:8b")
    assert (label.node_label, label.node, label.tier) == ("gpu", None, 1)
    assert upstream.upstream == "acme"


def test_what_is_read_can_be_sent_and_read_again() -> None:
    """Between the command line and the admin API, members that say nothing are left out."""
    document = config.parse(_route("[{node: rig, model: m}, {node_label: gpu}]"))

    assert config.receive(config.dump(document)) == document
    assert config.dump(document)["routes"][0]["targets"][1] == {"node_label": "gpu", "weight": 1, "tier": 0}


@pytest.mark.parametrize(
    ("target", "path", "words", "hint"),
    [
        ("{model: m}", "routes[0].targets[0]", "must say where to send", "`upstream`, `node` or `node_label`"),
        ("{upstream: acme, node: rig}", "routes[0].targets[0]", "both `upstream` and `node`", "keep one"),
        ("{node: rig, node_label: gpu}", "routes[0].targets[0]", "both `node` and `node_label`", "keep one"),
        ("{nod: rig}", "routes[0].targets[0].nod", "unknown key", "did you mean node?"),
        ("{node-label: gpu}", "routes[0].targets[0].node-label", "unknown key", "did you mean node_label?"),
        ("{node: a b}", "routes[0].targets[0].node", "must begin with a letter", ""),
        ("{node: 7}", "routes[0].targets[0].node", "must be a text", ""),
        ("{node: acme}", "routes[0].targets[0].node", "is an upstream, not a node", "{upstream: acme}"),
        ("{upstream: lab-rig-1}", "routes[0].targets[0].upstream", "no upstream is named", "{node: lab-rig-1}"),
        ("{node: rig}, {node: rig, weight: 2}", "routes[0].targets[1]", "the same target", "weight"),
        ("{node_label: gpu}, {node_label: gpu}", "routes[0].targets[1]", "the same target", "weight"),
    ],
)
def test_each_mistake_is_reported_once_with_what_to_do(target: str, path: str, words: str, hint: str) -> None:
    """Exactly one of the three, spelled right, and each target once."""
    problem = _one(_route(f"[{target}]"))

    assert problem.path == path
    assert words in problem.message
    assert hint in problem.hint


def test_a_node_and_an_upstream_may_be_targets_of_one_route() -> None:
    """Also a label that is called like a node."""
    assert len(config.parse(_route("[{node: rig}, {node_label: rig}, {upstream: acme}]")).routes[0].targets) == 3


def test_nodes_are_not_declared_but_enrolled() -> None:
    """Neither as a section nor as upstreams; both problems name the command."""
    for text, path in (
        ("nodes: [{name: rig}]", "nodes"),
        ("upstreams: [{name: rig, provider: node}]", "upstreams[0].provider"),
    ):
        problem = _one(text)
        assert problem.path == path
        assert "intertie nodes token" in problem.hint


def test_the_admin_api_refuses_a_node_as_an_upstream_too() -> None:
    """One grammar for every door; and a misspelled provider is not taken for it."""
    with pytest.raises(ConfigProblems, match="nodes are not declared"):
        config.receive_entry(UpstreamEntry, {"name": "rig", "provider": "node"})
    with pytest.raises(ConfigProblems) as caught:
        config.receive_entry(UpstreamEntry, {"name": "rig", "provider": "nod"})
    assert "node" not in caught.value.problems[0].hint.split()


@pytest.mark.parametrize("model", ["nodes/rig", "nodes/"])
def test_no_route_is_called_like_a_direct_call(model: str) -> None:
    """The books could not tell them apart."""
    assert "must not begin with nodes/" in _one(_route("[{upstream: acme, model: m}]", model)).message


def test_a_route_from_the_admin_api_has_the_same_rules() -> None:
    """Nulls count as left out, so what a list shows can be sent back."""
    shown = {"upstream": None, "node": "rig", "node_label": None, "model": "m", "weight": 1, "tier": 0}
    assert config.receive_entry(RouteEntry, {"model": "a", "targets": [shown]}).targets[0].node == "rig"
    with pytest.raises(ConfigProblems, match="must say where to send"):
        config.receive_entry(RouteEntry, {"model": "a", "targets": [{"model": "m"}]})
