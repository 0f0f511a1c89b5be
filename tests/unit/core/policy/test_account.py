"""One account: its cap, its windows, its thresholds."""

from __future__ import annotations

from intertie.core.policy.account import Account
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per, Window


def allowed(cap: int) -> Limit:
    return Limit("k", Level.KEY, "k", Measure.MONEY, cap, Per.DAY)


def hold(account: Account, amount: int) -> Window:
    """As `Meters` holds it: the window it belongs to."""
    assert account.fits(amount)
    account.reserved += amount
    return account.window


FIRST, SECOND = Window("day:1", 0.0, 100.0), Window("day:2", 100.0, 200.0)


def test_a_reservation_is_settled_in_the_window_it_was_made_in() -> None:
    account = Account(allowed(100), FIRST)
    where = hold(account, 80)
    account.enter(SECOND)
    assert account.free == 100
    account.settle(where, 80, 60)
    assert (account.spent, account.reserved, account.free) == (0, 0, 100)


def test_more_than_reserved_is_recorded_in_full() -> None:
    account = Account(allowed(100), FIRST)
    account.settle(hold(account, 10), 10, 130)
    assert (account.spent, account.free) == (130, 0)
    assert not account.fits(1)
    assert account.fits(0)


def test_a_clock_that_goes_back_opens_no_window_again() -> None:
    account = Account(allowed(100), SECOND, spent=40)
    account.enter(FIRST)
    assert (account.window, account.spent) == (SECOND, 40)


def test_what_an_earlier_run_dated_ahead_is_spent_when_time_comes_there() -> None:
    """Its clock was set back since, and the gateway started again."""
    account = Account(allowed(100), FIRST)
    account.enter(SECOND, 70)
    assert (account.spent, account.free) == (70, 30)


def test_thresholds_are_told_once_per_window() -> None:
    account = Account(allowed(100), FIRST)
    account.settle(hold(account, 85), 85, 85)
    assert account.crossed() == [50, 80]
    assert account.crossed() == []
    account.enter(SECOND)
    account.settle(hold(account, 100), 100, 100)
    assert account.crossed() == [50, 80, 100]


def test_a_cap_of_nothing_lets_only_free_calls_pass() -> None:
    account = Account(allowed(0), FIRST)
    assert account.fits(0)
    assert not account.fits(1)
    assert account.crossed() == []
