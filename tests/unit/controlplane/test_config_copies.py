"""Hedges and shadow targets in a configuration."""

from __future__ import annotations

import pytest

from intertie.controlplane import config
from intertie.controlplane.check import check
from intertie.controlplane.config import ConfigProblems, Document, Problem
from intertie.controlplane.entries import HedgeEntry, RouteEntry


def _route(more: str, model: str = "a") -> str:
    return (
        "upstreams: [{name: acme, provider: openai, models: [m]}, {name: new, provider: groq, models: [x]}]\n"
        f"routes: [{{model: {model}, targets: [{{upstream: acme}}], {more}}}]"
    )


def _read(more: str, model: str = "a") -> RouteEntry:
    return config.parse(_route(more, model)).routes[0]


def _again(document: Document) -> Document:
    return config.receive(config.dump(document))


def test_a_hedge_is_true_or_says_when_and_how_often() -> None:
    """`true` is short for one second and a fiftieth; `false` for nothing."""
    assert _read("hedge: true").hedge == HedgeEntry(after=1.0, share=0.02)
    assert _read("hedge: false").hedge is None
    assert _read("hedge: {after: 0.5}").hedge == HedgeEntry(after=0.5, share=0.02)


def test_a_shadow_names_upstreams_or_nodes_and_a_share() -> None:
    """A tenth, if it does not say; and what is read can be sent and read again."""
    shadow = _read("shadow: {targets: [{upstream: new, model: x}, {node: rig}]}").shadow
    assert shadow is not None
    assert (shadow.share, [one.upstream or one.node for one in shadow.targets]) == (0.1, ["new", "rig"])
    document = config.parse(_route("hedge: true, shadow: {targets: [{upstream: new, model: x}], share: 0.5}"))
    assert _again(document) == document
    assert _read("shadow: {targets: [{upstream: new, model: x}]}", '"*"').shadow is not None


@pytest.mark.parametrize(
    ("more", "path", "words", "hint"),
    [
        ("hedge: 3", "hedge", "must be a mapping", ""),
        ("hedge: {after: 0}", "hedge.after", "greater than", ""),
        ("hedge: {share: 2}", "hedge.share", "less than", ""),
        ("hedge: {when: 1}", "hedge.when", "unknown key", "known are after, share"),
        ("shadow: {targets: []}", "shadow.targets", "at least one", ""),
        ("shadow: {targets: [{model: x}]}", "shadow.targets[0]", "must say where", "`upstream` or `node`"),
        ("shadow: {targets: [{upstream: new, node: rig}]}", "shadow.targets[0]", "must say where", "not both"),
        ("shadow: {targets: [{node_label: gpu}]}", "shadow.targets[0].node_label", "unknown key", ""),
        ("shadow: {targets: [{upstream: acne}]}", "shadow.targets[0].upstream", "no upstream is named", "acme"),
        ("shadow: {targets: [{node: acme}]}", "shadow.targets[0].node", "not a node", "{upstream: acme}"),
        ('shadow: {targets: [{upstream: new, model: "*"}]}', "shadow.targets[0].model", "only the route *", ""),
        ("shadow: {targets: [{upstream: new}, {upstream: new}]}", "shadow.targets[1]", "the same target", "one copy"),
        ("shadow: {targets: [{upstream: new}], share: 0}", "shadow.share", "greater than", ""),
        ("shadow: {targets: [{upstream: new}], shar: 1}", "shadow.shar", "unknown key", "did you mean share?"),
    ],
)
def test_each_mistake_is_reported_once_with_what_to_do(more: str, path: str, words: str, hint: str) -> None:
    """By the path of the member that is wrong."""
    with pytest.raises(ConfigProblems) as caught:
        config.parse(_route(more))
    first = [problem for problem in caught.value.problems if problem.path == f"routes[0].{path}"]
    assert first, caught.value
    assert words in first[0].message
    assert hint in first[0].hint


def _warned(more: str) -> list[Problem]:
    return check(config.parse(_route(more)), lambda provider, model: None)


def test_the_check_knows_shadow_targets() -> None:
    """An upstream that only gets copies is used; one without a price would be refused by a budget."""
    paths = {problem.path for problem in _warned("shadow: {targets: [{upstream: new, model: y}]}")}
    assert "upstreams[1]" not in paths
    assert "routes[0].shadow.targets[0]" in paths
    assert "upstreams[1]" in {problem.path for problem in _warned("sticky: true")}


def test_the_check_says_that_one_target_cannot_be_hedged() -> None:
    """There is nobody else to ask."""
    assert "routes[0].hedge" in {problem.path for problem in _warned("hedge: true")}
