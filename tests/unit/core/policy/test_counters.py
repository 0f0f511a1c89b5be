"""States of limits by their id. Histories of calls, crashes and changed limits: tests/contract/dataplane."""

from __future__ import annotations

import math

from intertie.core.policy.counters import Counters
from intertie.core.policy.limits import Amounts, AtCap, Level, Limit, Measure, limit_id
from intertie.core.policy.meters import Grant, Refusal
from intertie.core.policy.windows import Per, window

KEYS = ("k1", "k2", "k3")
PROJECT = {"k1": "p", "k2": "p", "k3": "q"}


def _limit(level: Level, holder: str, measure: Measure, amount: int, per: Per | None = None) -> Limit:
    return Limit(limit_id(level, holder, measure, per), level, holder, measure, amount, per, "Europe/Berlin")


def _all() -> list[Limit]:
    found = [
        _limit(Level.ORGANISATION, "o", Measure.MONEY, 5000, Per.MONTH),
        _limit(Level.ORGANISATION, "o", Measure.TOKENS, 9000, Per.DAY),
        _limit(Level.ORGANISATION, "o", Measure.MONEY, 20_000, Per.TOTAL),
        _limit(Level.PROJECT, "p", Measure.MONEY, 2000, Per.DAY),
        _limit(Level.PROJECT, "p", Measure.CONCURRENCY, 4),
        _limit(Level.PROJECT, "q", Measure.REQUESTS, 30, Per.HOUR),
    ]
    for key in KEYS:
        found += [_limit(Level.KEY, key, Measure.REQUESTS, 600), _limit(Level.KEY, key, Measure.TOKENS, 60_000)]
        found += [_limit(Level.KEY, key, Measure.MONEY, 900, Per.HOUR)]
    return found


LIMITS = _all()


def of(key: str) -> list[Limit]:
    """The limits a call of this key is under."""
    holders = {(Level.ORGANISATION, "o"), (Level.PROJECT, PROJECT[key]), (Level.KEY, key)}
    return [limit for limit in LIMITS if (limit.level, limit.holder) in holders]


def take(counters: Counters, limits: list[Limit], amounts: Amounts, now: float, at: float) -> Grant | Refusal:
    """What a call gets, or why it gets nothing."""
    meters = counters.meters(limits, now, at)
    outcome = meters.take(amounts, now, at) or meters.refusal(amounts, now, at)
    assert outcome is not None
    return outcome


def test_the_longest_wait_is_the_one_named() -> None:
    counters = Counters(lambda _limit, _window: 0, lambda *_: None)
    rate = _limit(Level.KEY, "k", Measure.REQUESTS, 1)
    budget = _limit(Level.KEY, "k", Measure.MONEY, 10, Per.HOUR)
    first = take(counters, [rate, budget], (1, 0, 10, 0), 0.0, 0.0)
    assert isinstance(first, Grant)
    first.meters.settle(first, (1, 0, 10, 0), 0.0)
    refused = take(counters, [rate, budget], (1, 0, 1, 0), 0.0, 60.0)
    assert isinstance(refused, Refusal)
    assert (refused.limit, refused.wait) == (budget, 3540.0)
    never = take(counters, [budget], (1, 0, 11, 0), 0.0, 60.0)
    assert isinstance(never, Refusal)
    assert never.wait == math.inf


def test_what_is_reserved_may_come_back_soon() -> None:
    counters = Counters(lambda _limit, _window: 0, lambda *_: None)
    budget = _limit(Level.KEY, "k", Measure.MONEY, 10, Per.MONTH)
    assert isinstance(take(counters, [budget], (1, 0, 10, 0), 0.0, 0.0), Grant)
    refused = take(counters, [budget], (1, 0, 5, 0), 0.0, 0.0)
    assert isinstance(refused, Refusal)
    assert refused.wait == 1.0


def test_at_cap_is_refuse_unless_said() -> None:
    assert _limit(Level.KEY, "k", Measure.MONEY, 10, Per.MONTH).at_cap is AtCap.REFUSE


def test_the_hour_of_a_limit_is_its_window() -> None:
    assert window(Per.HOUR, "UTC", 3599.0).end == 3600.0
