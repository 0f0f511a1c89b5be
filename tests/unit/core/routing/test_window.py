"""Counting in a ring."""

from __future__ import annotations

from random import Random

import pytest

from intertie.core.routing.window import Window


def test_what_is_older_than_the_span_is_gone() -> None:
    """A count leaves once its slot is out of reach."""
    window = Window(30, 10)
    window.add(100, 1, 1)
    window.roll(126)
    assert (window.attempts, window.failures) == (1, 1)

    window.roll(131)
    assert (window.attempts, window.failures) == (0, 0)


def test_a_jump_over_many_spans_empties_it() -> None:
    """Silence of any length forgets everything at once."""
    window = Window(30, 10)
    window.add(5, 3, 1.5)
    window.roll(1e9)
    assert (window.attempts, window.failures) == (0, 0)


def test_a_clock_read_earlier_counts_as_the_newest_slot() -> None:
    """Two tasks may have read the clock in another order than they report."""
    window = Window(30, 10)
    window.add(100, 1, 0)
    window.add(90, 1, 1)
    assert (window.attempts, window.failures) == (2, 1)
    window.roll(119)
    assert window.attempts == 2


@pytest.mark.parametrize("seed", range(5))
def test_totals_agree_with_a_plain_list(seed: int) -> None:
    """The ring counts what a list of all events would count, up to one slot's width."""
    rng = Random(seed)
    window = Window(30, 10)
    events: list[tuple[float, float]] = []
    now = 50.0
    for _ in range(500):
        now += rng.expovariate(1.0) if rng.random() < 0.98 else rng.uniform(0, 60)
        failures = rng.choice([0.0, 0.5, 1.0])
        window.add(now, 1, failures)
        events.append((now, failures))
        inside = [lost for at, lost in events if int(at / 3) > int(now / 3) - 10]
        assert (window.attempts, window.failures) == (len(inside), sum(inside))
