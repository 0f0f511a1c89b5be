"""Which window a call counts in: its entry in the books is dated in the very window that it was held in."""

from __future__ import annotations

import asyncio

from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per
from tests.support.limited import COST, JSON, Bed, limited, whole
from tests.support.playbook import STALL, Script

HOUR = 3600.0


def _holds(bed: Bed, limit: Limit) -> bool:
    """What the account says is what the entries of its window add up to."""
    span = bed.dataplane.gate.counters.accounts()[limit.id].window
    entries = [one for each in bed.ledger.settlements for one in each.attempts]
    if limit.measure is Measure.MONEY:
        booked = sum(one.cost or 0 for one in entries if span.start <= one.started_at < span.end)
    else:
        booked = sum(span.start <= each.started_at < span.end for each in bed.ledger.settlements)
    return bed.state(limit)[0] == booked


async def test_a_clock_that_is_set_back_leaves_books_and_account_in_one_window() -> None:
    """The later window stays in force, so what is bought then is dated in it: no window's entries pass its budget."""
    budget = limited(Level.PROJECT, "project", Measure.MONEY, 200, Per.HOUR)
    bed = Bed([budget], [whole()] * 12)
    for hours in (0.0, 2.0, 0.0, 1.0, -30.0, 2.5, 3.0, 0.5):
        bed.now = hours * HOUR
        assert (await bed.ask()).status == 200
        assert _holds(bed, budget), hours

    assert bed.state(budget) == (2 * COST, 0)


async def test_a_call_that_waited_into_another_window_counts_there() -> None:
    """It takes from the quota when its turn has come, so that is when it begins in the books."""
    quota = limited(Level.PROJECT, "project", Measure.REQUESTS, 9, Per.HOUR)
    places = limited(Level.PROJECT, "project", Measure.CONCURRENCY, 1, wait=60.0)
    bed = Bed([quota, places], [Script(STALL, headers=JSON), whole()])
    first = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(bed.ask())
    await asyncio.sleep(0)
    bed.now = HOUR
    assert bed.state(quota) == (0, 0)  # somebody looks, and the next window has begun
    first.cancel()
    assert (await waiting).status == 200
    await first

    assert bed.state(quota) == (1, 0)
    assert _holds(bed, quota)
