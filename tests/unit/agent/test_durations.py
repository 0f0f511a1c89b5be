"""Lengths of time, as typed and as shown."""

from __future__ import annotations

import math

import pytest

from intertie.agent.durations import read_duration, spell


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20s", 20), ("10m", 600), ("1h30m", 5400), (" 90 Seconds ", 90), ("1.5 min", 90), ("1d", 86_400), ("0s", 0)],
)
def test_a_length_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    """Any mix, any case."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "ten minutes", "5x", "10m later", "-5s", "m"])
def test_what_is_no_length_is_refused_with_an_example(text: str) -> None:
    """Above all a bare number: ten of what?"""
    with pytest.raises(ValueError, match="write for example 20s, 10m or 1h30m"):
        read_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"), (0.44, "0.4 s"), (7, "7 s"), (59.9, "59 s"), (119, "119 s"), (120, "2 min"), (3599, "59 min"),
        (3600, "1 h"), (11_100, "3 h 5 min"), (86_400 * 4, "4 days"), (math.inf, "for ever"),
    ],
)  # fmt: skip
def test_lengths_are_shown_as_people_say_them(seconds: float, text: str) -> None:
    """Two units at most, never rounded up."""
    assert spell(seconds) == text
