"""Rates: exact in whole units, over any sequence of takes and pauses."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.policy.bucket import Bucket

steps = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 40)), max_size=60)


def test_a_full_bucket_gives_its_limit_at_once_and_then_one_by_one() -> None:
    bucket = Bucket(60, 100.0)
    bucket.take(60, 100.0)
    assert bucket.remaining(100.0) == 0
    assert bucket.wait(1, 100.0) == 1.0
    assert bucket.remaining(101.0) == 1
    assert bucket.reset(101.0) == 59.0


def test_more_than_the_limit_never_fits() -> None:
    assert Bucket(10, 0.0).wait(11, 0.0) == math.inf
    assert Bucket(0, 0.0).wait(1, 0.0) == math.inf


def test_a_debt_is_paid_before_anything_fits_again() -> None:
    bucket = Bucket(60, 0.0)
    bucket.take(90, 0.0)
    assert bucket.wait(1, 0.0) == 31.0
    bucket.take(-30, 0.0)
    assert bucket.wait(1, 0.0) == 1.0


def test_an_operator_raises_and_lowers_a_limit() -> None:
    bucket = Bucket(10, 0.0)
    bucket.take(10, 0.0)
    bucket.resize(20, 0.0)
    assert bucket.remaining(0.0) == 10
    bucket.resize(5, 0.0)
    assert bucket.remaining(0.0) == 0


@given(st.integers(1, 1000), steps)
def test_what_passes_is_never_more_than_burst_plus_rate(limit: int, plan: list[tuple[float, int]]) -> None:
    now, taken = 0.0, 0
    bucket = Bucket(limit, now)
    for pause, units in plan:
        now += pause
        left = bucket.remaining(now)
        fits = bucket.wait(units, now) == 0
        assert fits == (units <= left)
        if fits:
            bucket.take(units, now)
            taken += units
            assert bucket.remaining(now) == left - units
        assert taken <= limit + limit * now / 60 + 1e-6


@given(st.integers(1, 1000), steps, st.integers(1, 40))
def test_after_the_wait_it_fits_and_a_moment_before_it_does_not(
    limit: int, plan: list[tuple[float, int]], units: int
) -> None:
    now = 0.0
    bucket = Bucket(limit, now)
    for pause, taken in plan:
        now += pause
        bucket.take(taken, now)
    wait = bucket.wait(units, now)
    if 0 < wait < math.inf:
        early = Bucket(limit, 0.0)
        early.due = bucket.due
        assert early.wait(units, now + wait - 1e-3) > 0 or wait < 1e-3
        assert bucket.wait(units, now + wait + 1e-6) == 0
