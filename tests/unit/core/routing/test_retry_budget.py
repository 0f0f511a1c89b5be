"""How many extra attempts there may be (S3)."""

from __future__ import annotations

from random import Random

import pytest

from intertie.core.routing.retry_budget import RetryBudgets, backoff, patience

KEY = ("org", "chat")
NOW = 1000.0


def spend(budgets: RetryBudgets, now: float, cheap: bool = False) -> int:
    """Extra attempts granted until the first no, each over at once."""
    granted = 0
    while granted < 1000 and budgets.extra(KEY, now, cheap):
        budgets.extra_done(KEY)
        granted += 1
    return granted


def test_s3_ten_extra_attempts_are_saved_up_or_forty_cheap_ones() -> None:
    """A refused connection costs a quarter."""
    dear, cheap = RetryBudgets(), RetryBudgets()
    dear.begin(KEY, NOW)
    cheap.begin(KEY, NOW)
    assert spend(dear, NOW) == 10
    assert spend(cheap, NOW, cheap=True) == 40


def test_s3_ten_first_attempts_pay_for_one_extra() -> None:
    """A tenth each."""
    budgets = RetryBudgets()
    budgets.begin(KEY, NOW)
    spend(budgets, NOW)
    granted = 0
    for _ in range(100):
        budgets.begin(KEY, NOW)
        budgets.end(KEY)
        granted += spend(budgets, NOW)
    assert granted in {9, 10}


def test_s3_a_trickle_lets_low_traffic_fail_over() -> None:
    """0.3 per second: one extra attempt about every three seconds, never more than ten saved."""
    budgets = RetryBudgets()
    budgets.begin(KEY, NOW)
    spend(budgets, NOW)
    assert spend(budgets, NOW + 3) == 0
    assert spend(budgets, NOW + 3.5) == 1
    assert spend(budgets, NOW + 10_000) == 10


def test_s3_extra_attempts_in_flight_are_three_or_a_fifth_of_the_active() -> None:
    """Three with five active requests, six with thirty."""
    for active, allowed in ((5, 3), (30, 6)):
        budgets = RetryBudgets()
        for _ in range(active):
            budgets.begin(KEY, NOW)
        assert [budgets.extra(KEY, NOW, True) for _ in range(10)].count(True) == allowed
        budgets.extra_done(KEY)
        assert budgets.extra(KEY, NOW, True)


def test_s3_groups_do_not_share_a_budget() -> None:
    """Another organisation's outage is not ours."""
    budgets = RetryBudgets()
    other = ("other", "chat")
    budgets.begin(KEY, NOW)
    budgets.begin(other, NOW)
    spend(budgets, NOW)
    assert budgets.extra(other, NOW, False)


def test_s3_a_total_outage_is_amplified_by_a_tenth_and_the_trickle() -> None:
    """F41 without circuits: 600 calls in a minute that all fail and would all be tried three times."""
    budgets, extras = RetryBudgets(), 0
    for n in range(600):
        now = NOW + n / 10
        budgets.begin(KEY, now)
        for _ in range(2):
            if budgets.extra(KEY, now, False):
                extras += 1
                budgets.extra_done(KEY)
        budgets.end(KEY)
    assert 60 <= extras <= 0.1 * 600 + 0.3 * 60 + 10


def test_a_request_never_begun_gets_nothing_extra() -> None:
    """And ending it twice does no harm."""
    budgets = RetryBudgets()
    assert not budgets.extra(KEY, NOW, False)
    budgets.end(KEY)
    budgets.extra_done(KEY)
    budgets.begin(KEY, NOW)
    budgets.end(KEY)
    budgets.end(KEY)
    assert repr(budgets) == "<RetryBudgets 1 groups, 0 extra attempts in flight>"


def test_memory_is_bounded_and_busy_groups_are_kept() -> None:
    """Ten thousand groups come and go; the one in use keeps its spent budget."""
    budgets = RetryBudgets(limit=100)
    budgets.begin(KEY, NOW)
    spend(budgets, NOW)
    for n in range(10_000):
        budgets.begin(("org", f"route-{n}"), NOW)
        budgets.end(("org", f"route-{n}"))
    assert len(budgets._budgets) <= 100
    assert budgets.tokens(KEY, NOW) < 1


def test_an_empty_bucket_outlives_full_ones() -> None:
    """Forgetting a group must not refill it while others could be forgotten without loss."""
    budgets = RetryBudgets(limit=10)
    budgets.begin(KEY, NOW)
    spend(budgets, NOW)
    budgets.end(KEY)
    for n in range(30):
        budgets.begin(("org", f"route-{n}"), NOW)
        budgets.end(("org", f"route-{n}"))
    assert budgets.tokens(KEY, NOW) < 1
    assert budgets.tokens(("org", "never seen"), NOW) == 10


@pytest.mark.parametrize(("n", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (50, 4.0), (10_000, 4.0)])
def test_s3_waiting_for_the_same_target_doubles_up_to_four_seconds(n: int, longest: float) -> None:
    """Uniform from zero."""
    rng = Random(1)
    waits = [backoff(n, rng, True) for _ in range(500)]
    assert 0 <= min(waits) < 0.05 * longest
    assert 0.95 * longest < max(waits) <= longest


def test_s3_another_target_is_asked_within_fifty_milliseconds() -> None:
    """However often we tried."""
    rng = Random(1)
    assert 0.04 < max(backoff(n, rng, False) for n in range(1, 200)) <= 0.05


@pytest.mark.parametrize(("remaining", "allowed"), [(8, 2), (40, 10), (600, 10), (-1, 0)])
def test_s3_a_request_waits_a_quarter_of_its_time_and_ten_seconds_at_most(remaining: float, allowed: float) -> None:
    """In all, before the first token."""
    assert patience(remaining) == allowed


def test_s3_saving_stops_at_ten() -> None:
    """A thousand calls at one moment do not pay for a hundred extra attempts."""
    budgets = RetryBudgets()
    for _ in range(1000):
        budgets.begin(KEY, NOW)
    assert spend(budgets, NOW) == 10


def test_a_group_in_use_is_never_forgotten() -> None:
    """However full its bucket: its requests are still counted."""
    budgets = RetryBudgets(limit=10)
    budgets.begin(KEY, NOW)
    for n in range(100):
        budgets.begin(("org", f"route-{n}"), NOW)
        budgets.end(("org", f"route-{n}"))
    assert budgets.extra(KEY, NOW, False)
