"""Slowness and what it costs."""

from __future__ import annotations

import pytest

from intertie.core.routing.speed import LEAST_PACE, Speed, pace


def measured(seconds: float, samples: int = 60, start: float = 0.0, every: float = 0.1) -> Speed:
    speed = Speed()
    for n in range(samples):
        speed.add(start + n * every, seconds)
    return speed


def test_s4_nothing_is_said_below_twenty_samples() -> None:
    """Nineteen slow answers are no evidence yet, twenty are."""
    fast = measured(0.3)
    assert pace(measured(9.0, 19), [fast], 10) == 1.0
    assert pace(measured(9.0, 20), [fast], 10) < 1.0


def test_s4_four_times_the_median_and_above_two_seconds_is_slow() -> None:
    """Both conditions must hold."""
    assert pace(measured(1.9), [measured(0.1)], 10) == 1.0
    assert pace(measured(2.1), [measured(0.6)], 10) == 1.0
    assert pace(measured(2.1), [measured(0.5)], 10) == pytest.approx(0.5, rel=0.1)


def test_s4_slower_still_weighs_less_but_never_nothing() -> None:
    """Ten times slower keeps less than a tenth of an even share; the slowest keeps a little."""
    weight = pace(measured(5.0), [measured(0.5)], 10)
    assert weight / (1 + weight) < 0.1
    assert pace(measured(500.0), [measured(0.5)], 10) == LEAST_PACE


def test_s4_a_target_is_compared_with_its_own_past() -> None:
    """Without peers, ten minutes of its own history are the measure."""
    speed = measured(0.4, samples=300, every=1.0)
    for n in range(40):
        speed.add(301 + n * 0.1, 4.0)
    assert pace(speed, [speed], 306) < 0.1


def test_a_group_that_is_slow_as_a_whole_is_not_slow() -> None:
    """Everybody needs five seconds: nobody is punished."""
    speeds = [measured(5.0), measured(5.5), measured(6.0)]
    assert [pace(speed, speeds, 10) for speed in speeds] == [1.0, 1.0, 1.0]


def test_old_samples_expire() -> None:
    """What was measured over ten minutes ago says nothing."""
    slow, fast = measured(9.0), measured(0.3, start=650)
    assert pace(slow, [slow, fast], 660) == 1.0


def test_memory_is_bounded_at_any_traffic() -> None:
    """A hundred thousand samples leave at most 160."""
    speed = measured(0.3, samples=100_000, every=0.01)
    assert len(speed._recent) + len(speed._spaced) <= 160
