"""Targets as typed."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.cli.client import CommandProblem
from intertie.cli.routes import _extras, _target


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("acme/big", {"upstream": "acme", "model": "big"}),
        ("acme/org/model:8b", {"upstream": "acme", "model": "org/model:8b"}),
        ("acme/*", {"upstream": "acme", "model": "*"}),
        ("acme/big,weight=3,tier=1", {"upstream": "acme", "model": "big", "weight": 3, "tier": 1}),
        ("node:rig/llama3:8b,tier=1", {"node": "rig", "model": "llama3:8b", "tier": 1}),
        ("node_label:gpu/org/m", {"node_label": "gpu", "model": "org/m"}),
    ],
)
def test_a_target_is_a_place_slash_model(words: str, target: dict[str, Any]) -> None:
    """Everything behind the first slash is the model's name."""
    assert _target(words) == target


@pytest.mark.parametrize(
    "words", ["acme", "/big", "acme/", "node:/m", "acme/big,weight", "acme/big,wait=3", "acme/big,tier=-1"]
)
def test_anything_else_is_refused_with_an_example(words: str) -> None:
    """Before it reaches the gateway."""
    with pytest.raises(CommandProblem, match="is not a target"):
        _target(words)


def test_hedges_and_copies_are_told_under_the_targets() -> None:
    """In the words of the list; a route without them has no such lines."""
    assert _extras({"hedge": None, "shadow": None}) == []
    shadow = {"share": 0.1, "targets": [{"upstream": "new", "model": "m"}, {"node": "rig", "model": "x"}]}
    assert [(kind, told) for kind, told, *_ in _extras({"hedge": {"after": 1.0, "share": 0.02}, "shadow": shadow})] == [
        ("hedge", "after 1 s, 2% of attempts"),
        ("shadow", "10% copied to new/m"),
        ("shadow", "10% copied to node:rig/x"),
    ]
