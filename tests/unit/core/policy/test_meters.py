"""What a call takes from: of all its limits or of none, and given back once."""

from __future__ import annotations

import math

from intertie.core.policy.account import Account
from intertie.core.policy.counters import Counters
from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.meters import Meters
from intertie.core.policy.windows import Per

AT = 1_800_000_000.0


def limit(measure: Measure, amount: int, per: Per | None = None, holder: str = "k") -> Limit:
    return Limit(limit_id(Level.KEY, holder, measure, per), Level.KEY, holder, measure, amount, per)


RATE, TOKENS = limit(Measure.REQUESTS, 10), limit(Measure.TOKENS, 100)
PLACES, BUDGET = limit(Measure.CONCURRENCY, 2), limit(Measure.MONEY, 50, Per.DAY)
EVERY = (RATE, TOKENS, PLACES, BUDGET)


def metered(*limits: Limit, told: list[int] | None = None) -> tuple[Meters, Counters]:
    def tell(_limit: Limit, percent: int, _account: Account) -> None:
        if told is not None:
            told.append(percent)

    counters = Counters(lambda _limit, _span: 0, tell)
    return counters.meters(limits, 0.0, AT), counters


def remaining(counters: Counters) -> list[int]:
    return [counters.read(one, 0.0, AT).remaining for one in EVERY]


def test_all_is_taken_and_what_was_not_used_comes_back() -> None:
    meters, counters = metered(*EVERY)
    grant = meters.take((1, 60, 40, 60), 0.0, AT)
    assert grant is not None
    assert remaining(counters) == [9, 40, 1, 10]
    meters.settle(grant, (1, 20, 30, 20), 0.0)
    meters.settle(grant, (1, 60, 40, 60), 0.0)
    assert remaining(counters) == [9, 80, 2, 20], "settled once"


def test_where_one_has_no_room_nothing_is_taken_of_the_others() -> None:
    for amounts, full in (((11, 1, 1, 1), RATE), ((1, 101, 1, 101), TOKENS), ((1, 1, 51, 1), BUDGET)):
        meters, counters = metered(*EVERY)
        assert meters.take(amounts, 0.0, AT) is None
        refusal = meters.refusal(amounts, 0.0, AT)
        assert refusal is not None
        assert (refusal.limit, refusal.wait) == (full, math.inf)
        assert remaining(counters) == [10, 100, 2, 50]


def test_of_several_refusals_the_longest_is_named() -> None:
    meters, _ = metered(*EVERY)
    assert meters.take((10, 0, 0, 0), 0.0, AT) is not None
    assert meters.take((0, 0, 50, 0), 0.0, AT) is not None
    refusal = meters.refusal((1, 0, 1, 0), 0.0, AT)
    assert refusal is not None
    assert (refusal.limit, refusal.wait) == (RATE, 6.0), "a place and what is reserved may be back in a second"


def test_what_is_free_of_charge_fits_where_nothing_is_left() -> None:
    meters, counters = metered(BUDGET)
    counters.accounts()[BUDGET.id].spent = 60
    assert meters.take((1, 0, 0, 0), 0.0, AT) is not None
    assert meters.refusal((1, 0, 0, 0), 0.0, AT) is None


def test_a_window_that_begins_between_two_calls_is_entered() -> None:
    meters, counters = metered(BUDGET)
    old = meters.take((1, 0, 50, 0), 0.0, AT)
    assert old is not None
    assert meters.take((1, 0, 1, 0), 0.0, AT) is None
    new = meters.take((1, 0, 50, 0), 0.0, AT + 86_400)
    assert new is not None
    meters.settle(old, (1, 0, 50, 0), 0.0)
    assert counters.accounts()[BUDGET.id].reserved == 50, "what was held yesterday takes nothing from today"
    meters.settle(new, (1, 0, 7, 0), 0.0)
    assert (counters.accounts()[BUDGET.id].reserved, counters.accounts()[BUDGET.id].spent) == (0, 7)


def test_what_another_configuration_allows_is_in_force_with_its_meters() -> None:
    meters, counters = metered(RATE, PLACES, BUDGET)
    grant = meters.take((4, 0, 30, 0), 0.0, AT)
    assert grant is not None
    changed = (limit(Measure.REQUESTS, 5), limit(Measure.CONCURRENCY, 1), limit(Measure.MONEY, 31, Per.DAY))
    lowered = counters.meters(changed, 0.0, AT)
    assert lowered.take((1, 0, 1, 0), 0.0, AT) is None, "the only place is taken"
    meters.settle(grant, (4, 0, 30, 0), 0.0)
    assert lowered.take((1, 0, 2, 0), 0.0, AT) is None, "31 less 30"
    assert lowered.take((1, 0, 1, 0), 0.0, AT) is not None
    assert lowered.take((1, 0, 0, 0), 0.0, AT) is None, "five requests were made"


def test_thresholds_are_told_as_they_are_passed() -> None:
    told: list[int] = []
    meters, _ = metered(BUDGET, told=told)
    for spent, heard in ((24, []), (1, [50]), (0, [50]), (20, [50, 80]), (5, [50, 80, 100])):
        grant = meters.take((1, 0, spent, 0), 0.0, AT)
        assert grant is not None
        meters.settle(grant, (1, 0, spent, 0), 0.0)
        assert told == heard


def test_a_debt_of_a_rate_is_known_to_the_next_call() -> None:
    meters, _ = metered(TOKENS)
    grant = meters.take((1, 10, 0, 10), 0.0, AT)
    assert grant is not None
    meters.settle(grant, (1, 150, 0, 150), 0.0)
    assert meters.take((1, 1, 0, 1), 0.0, AT) is None
    refusal = meters.refusal((1, 1, 0, 1), 0.0, AT)
    assert refusal is not None
    assert refusal.wait == 30.6, "51 tokens have to flow back"
    assert meters.take((1, 1, 0, 1), 30.6, AT) is not None
