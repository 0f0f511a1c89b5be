"""Addresses in one spelling, and which answers are lists of models. The asking is tested in tests/contract/agent."""

from __future__ import annotations

import pytest

from intertie.agent.discover import origin, read_list, usual_ports
from intertie.agent.inventory import MOST_MODELS


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        (" http://LocalHost:11434/v1/ ", "http://127.0.0.1:11434"),
        ("HTTP://GPU-Box:8000/", "http://gpu-box:8000"),
        ("https://gpu.example.org/v1", "https://gpu.example.org"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
        ("http://[::1]", "http://[::1]"),
        ("http://gpu:8000/Team/v1", "http://gpu:8000/Team"),
    ],
)
def test_addresses_have_one_spelling(typed: str, expected: str) -> None:
    assert origin(typed) == expected
    assert origin(expected) == expected


def test_the_usual_ports_are_those_of_the_six() -> None:
    assert set(usual_ports()) >= {11434, 1234, 8000, 8080, 30000, 3000, 80}
    assert len(usual_ports()) == len(set(usual_ports()))


@pytest.mark.parametrize("answer", [None, [], {}, {"models": []}, {"data": {}}, {"data": "x"}, 5])
def test_other_answers_are_no_list(answer: object) -> None:
    assert read_list(answer) is None


def test_entries_without_a_usable_name_are_left_out() -> None:
    good = {"id": "m", "owned_by": "vllm"}
    listed = read_list({"data": [good, {"id": ""}, {"id": "a\x00b"}, {"id": "x" * 500}, {}, None, 4]}, "uvicorn")

    assert listed == ((good,), "uvicorn")
    assert read_list({"object": "list", "data": None}) == ((), "")


def test_a_list_is_bounded() -> None:
    listed = read_list({"data": [{"id": f"m{n}"} for n in range(MOST_MODELS + 5)]})

    assert listed is not None
    assert len(listed.entries) == MOST_MODELS
