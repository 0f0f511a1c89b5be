"""What a node says it has, well-formed or not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.controlplane import inventory
from intertie.core.terms import ModelFacts

MODEL = {
    "name": "llama3:8b",
    "runtime": "ollama",
    "context": 8192,
    "slots": 4,
    "loaded": True,
    "quantisation": "Q4_K_M",
    "parameters": "8.0B",
    "capabilities": ["tools", "chat", "levitation"],
    "prefill": 900.0,
    "decode": 42.5,
}
REPORT = {
    "revision": 3,
    "runtimes": [{"kind": "ollama", "version": "0.5", "slots": 4, "queue": 0, "models": ["llama3:8b"]}],
    "models": [MODEL],
    "hardware": {"memory_bytes": 2**35, "gpus": [{"name": "RTX", "memory_bytes": 2**34}]},
    "slots": 4,
    "platform": "linux-x86_64",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


def test_a_good_report_is_kept_and_known_capabilities_with_it() -> None:
    """In the order that everybody uses."""
    told = inventory.clean(REPORT, {})

    assert told["hardware"] == REPORT["hardware"]
    assert told["runtimes"] == REPORT["runtimes"]
    assert inventory.facts(told) == {
        "llama3:8b": ModelFacts(
            name="llama3:8b",
            runtime="ollama",
            context=8192,
            slots=4,
            quantisation="Q4_K_M",
            parameters="8.0B",
            capabilities=("chat", "tools"),
            prefill=900.0,
            decode=42.5,
        )
    }
    assert inventory.clean(told, told) == told


@pytest.mark.parametrize("models", [None, {}, "m", 3])
def test_a_report_without_a_list_of_models_is_none(models: object) -> None:
    """Then nothing of it is believed."""
    with pytest.raises(inventory.Unreadable):
        inventory.clean({"models": models}, {})


@given(st.dictionaries(st.sampled_from([*REPORT, "t", "else"]), JSON), st.lists(JSON, max_size=4))
def test_no_report_can_do_harm(message: dict[str, Any], models: list[Any]) -> None:
    """Whatever it holds, what is kept is JSON, has a bounded size, and can be routed by."""
    given_models = [{**MODEL, **one} if isinstance(one, dict) else one for one in models]
    told = inventory.clean({**message, "models": given_models}, {})

    assert len(json.dumps(told, allow_nan=False)) < 100_000
    assert inventory.clean(told, told) == told
    for facts in inventory.facts(told).values():
        assert facts.context is None or facts.context > 0


def test_what_is_too_much_is_cut() -> None:
    """Models, texts, depth and width."""
    deep: Any = "x"
    for _ in range(50):
        deep = {"a": [deep]}
    many = [{"name": f"m{number}"} for number in range(3000)]
    told = inventory.clean({"models": many, "hardware": {"deep": deep, "wide": list(range(1000))}, "slots": 10**9}, {})

    assert len(told["models"]) == inventory.MODELS
    assert len(told["hardware"]["wide"]) == inventory.MEMBERS
    assert len(json.dumps(told["hardware"]["deep"])) < 60
    assert told["slots"] == 4096


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 201, None, 7, ["m"]])
def test_names_that_no_client_could_ask_for_are_left_out(name: object) -> None:
    """The rest of the report stands."""
    assert [one["name"] for one in inventory.clean({"models": [{"name": name}, {"name": "m"}]}, {})["models"]] == ["m"]


def test_numbers_that_cannot_be_are_unknown() -> None:
    """Rather than winning every comparison."""
    for value in (0, -1, float("inf"), float("nan"), True, "9", 1e30, 10**400):
        wrong = {**MODEL, "context": value, "slots": value, "prefill": value, "decode": value}
        (kept,) = inventory.clean({"models": [wrong]}, {})["models"]
        assert (kept["context"], kept["slots"], kept["prefill"], kept["decode"]) == (None, None, None, None), value


def test_hardware_has_no_number_that_is_too_large() -> None:
    """Python reads integers of any length."""
    hardware = {"memory_bytes": 10**400, "speed": float("nan"), "gpus": [float("inf"), 1.5, -(2**70)]}
    told = inventory.clean({"models": [], "hardware": hardware}, {})
    assert told["hardware"] == {"memory_bytes": None, "speed": None, "gpus": [None, 1.5, None]}


def test_a_speed_that_hardly_moved_has_not_moved() -> None:
    """Else each report would rebuild what requests are routed by; small steps add up all the same."""
    before = inventory.clean(REPORT, {})
    speeds = []
    for speed in (44.0, 46.0, 48.0, 20.0):
        before = inventory.clean({**REPORT, "models": [{**MODEL, "decode": speed}]}, before)
        speeds.append(before["models"][0]["decode"])

    assert speeds == [42.5, 42.5, 48.0, 20.0]


def test_a_model_named_twice_is_one() -> None:
    """The first counts."""
    told = inventory.clean({"models": [MODEL, {**MODEL, "context": 1}]}, {})

    assert [one["context"] for one in told["models"]] == [8192]
