"""Limits that come later, or again: they begin where the books say, and what is under way counts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from intertie.core.policy.account import Account
from intertie.core.policy.counters import Counters
from intertie.core.policy.limits import Level, Limit, Measure, Sums, limit_id
from intertie.core.policy.meters import Grant
from intertie.core.policy.windows import Per, window

AT = 1_800_000_000.0
BUDGET = Limit(limit_id(Level.PROJECT, "p", Measure.MONEY, Per.DAY), Level.PROJECT, "p", Measure.MONEY, 100, Per.DAY)
TODAY = window(Per.DAY, "UTC", AT)


def _counters(told: list[int] | None = None) -> Counters:
    def tell(_limit: Limit, percent: int, _account: Account) -> None:
        if told is not None:
            told.append(percent)

    return Counters(lambda _limit, _span: 0, tell)


def _take(counters: Counters, amount: int) -> Grant:
    grant = counters.meters([BUDGET], 0.0, AT).take((1, 0, amount, 0), 0.0, AT)
    assert isinstance(grant, Grant)
    return grant


def test_an_adopted_account_begins_with_what_the_books_say() -> None:
    """And tells only thresholds that are passed from then on."""
    told: list[int] = []
    counters = _counters(told)
    counters.adopt(BUDGET, TODAY, 60)
    assert counters.read(BUDGET, 0.0, AT).remaining == 40

    grant = _take(counters, 25)
    grant.meters.settle(grant, (1, 0, 25, 0), 0.0)
    assert told == [80]


def test_a_cap_that_was_raised_is_told_of_anew() -> None:
    """Half of twice as much is another half; what is passed already is not told again."""
    told: list[int] = []
    counters = _counters(told)
    first = _take(counters, 85)
    first.meters.settle(first, (1, 0, 85, 0), 0.0)
    assert told == [50, 80]
    raised = replace(BUDGET, amount=200)
    for amount, expected in ((10, []), (10, [50]), (60, [80])):
        told.clear()
        grant = counters.meters([raised], 0.0, AT).take((1, 0, amount, 0), 0.0, AT)
        assert isinstance(grant, Grant)
        grant.meters.settle(grant, (1, 0, amount, 0), 0.0)
        assert told == expected


def test_windows_that_change_back_hold_nothing_of_before() -> None:
    """What was held ended with the first change, though the zone, and with it the window, is the old one again."""
    counters = _counters()
    counters.adopt(BUDGET, TODAY, 0)
    grant = _take(counters, 30)
    counters.adopt(BUDGET, window(Per.DAY, "Asia/Tokyo", AT), 0)
    counters.adopt(BUDGET, TODAY, 0)
    grant.meters.settle(grant, (1, 0, 9, 0), 0.0)

    account = counters.accounts()[BUDGET.id]
    assert (account.spent, account.reserved) == (0, 0)


def test_adopting_again_keeps_what_is_held() -> None:
    """A limit that was removed and comes back while a call runs has that call's reservation still."""
    counters = _counters()
    counters.adopt(BUDGET, TODAY, 0)
    grant = _take(counters, 30)
    counters.adopt(BUDGET, TODAY, 10)
    assert counters.read(BUDGET, 0.0, AT).remaining == 60

    grant.meters.settle(grant, (1, 0, 20, 0), 0.0)
    account = counters.accounts()[BUDGET.id]
    assert (account.spent, account.reserved) == (30, 0)


def test_a_covered_grant_counts_when_it_is_settled() -> None:
    """Once, though it is covered twice."""
    counters = _counters()
    counters.adopt(BUDGET, TODAY, 5)
    grant = counters.cover(None, BUDGET, AT)
    assert grant is not None
    assert counters.cover(grant, BUDGET, AT) is grant
    grant.meters.settle(grant, (1, 0, 7, 0), 0.0)

    account = counters.accounts()[BUDGET.id]
    assert (account.spent, account.reserved) == (12, 0)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Pacific/Kiritimati"])
def test_other_windows_of_the_same_limit_begin_afresh(zone: str) -> None:
    """A new time zone means another window: what is held moves over with nothing reserved."""
    counters = _counters()
    counters.adopt(BUDGET, TODAY, 0)
    grant = _take(counters, 30)
    other = window(Per.DAY, zone, AT)
    assert other != TODAY
    counters.adopt(BUDGET, other, 4)
    assert counters.cover(grant, BUDGET, AT) is grant
    grant.meters.settle(grant, (1, 0, 9, 0), 0.0)

    account = counters.accounts()[BUDGET.id]
    assert (account.spent, account.reserved) == (13, 0)


def test_a_look_takes_nothing() -> None:
    """It only says what taking would."""
    counters = _counters()
    counters.adopt(BUDGET, TODAY, 0)
    meters = counters.meters([BUDGET], 0.0, AT)
    assert meters.refusal((1, 0, 100, 0), 0.0, AT) is None
    refusal = meters.refusal((1, 0, 101, 0), 0.0, AT)

    assert refusal is not None
    assert refusal.limit is BUDGET
    assert counters.read(BUDGET, 0.0, AT).remaining == 100


def test_sums_give_what_a_limit_counts() -> None:
    """Requests, tokens or money."""
    sums = Sums(1, 2, 3)
    counted = [
        sums.of(Limit("x", Level.KEY, "k", measure, 1, Per.DAY))
        for measure in (Measure.REQUESTS, Measure.TOKENS, Measure.MONEY)
    ]
    assert counted == [1, 2, 3]
