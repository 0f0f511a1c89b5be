"""Targets and kept answers as typed."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.cli.client import CommandProblem
from intertie.cli.routes import _cache, _extras, _target


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


@pytest.mark.parametrize(
    ("words", "similar", "member"),
    [
        (None, None, {}),
        ("3600", None, {"cache": {"ttl": 3600.0}}),
        ("60,project", "0.92", {"cache": {"ttl": 60.0, "scope": "project", "similar": {"threshold": 0.92}}}),
        (
            "60",
            "0.9,words=0.8,embeddings=text-3",
            {"cache": {"ttl": 60.0, "similar": {"threshold": 0.9, "words": 0.8, "embeddings": "text-3"}}},
        ),
    ],
)
def test_kept_answers_as_typed(words: str | None, similar: str | None, member: dict[str, Any]) -> None:
    assert _cache(words, similar) == member


@pytest.mark.parametrize(
    ("words", "similar", "told"),
    [
        ("soon", None, "does not say how long"),
        (None, "0.92", "--similar needs kept answers"),
        ("60", "very", "does not say how similar"),
        ("60", "0.9,words", "does not say how similar"),
        ("60", "0.9,letters=3", "does not say how similar"),
    ],
)
def test_kept_answers_typed_wrong(words: str | None, similar: str | None, told: str) -> None:
    with pytest.raises(CommandProblem, match=told):
        _cache(words, similar)


def test_hedges_and_copies_are_told_under_the_targets() -> None:
    """In the words of the list; a route without them has no such lines."""
    assert _extras({"hedge": None, "shadow": None}) == []
    shadow = {"share": 0.1, "targets": [{"upstream": "new", "model": "m"}, {"node": "rig", "model": "x"}]}
    assert [(kind, told) for kind, told, *_ in _extras({"hedge": {"after": 1.0, "share": 0.02}, "shadow": shadow})] == [
        ("hedge", "after 1 s, 2% of attempts"),
        ("shadow", "10% copied to new/m"),
        ("shadow", "10% copied to node:rig/x"),
    ]
