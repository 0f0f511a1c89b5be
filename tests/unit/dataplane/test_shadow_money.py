"""Who pays for copies: the operator, who can bound them; never the caller."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from intertie.core.policy.limits import AtCap, Level, Limit, Measure
from tests.support.copies import asked, mirrored, outcomes, whole
from tests.support.playbook import LATER, total


async def test_a_copy_costs_its_caller_nothing_and_the_operator_what_it_costs() -> None:
    """No limit of project, key or route counts it; those of organisation, upstream and model do."""
    holders = ((Level.PROJECT, "project"), (Level.KEY, "key_1"), (Level.ROUTE, "m"))
    mine = [total(level, holder, measure=measure) for level, holder in holders for measure in _SUMS]
    ours = [total(Level.ORGANISATION, "org", measure=measure) for measure in _SUMS]
    theirs = [total(Level.UPSTREAM, "name-up1", measure=measure) for measure in _SUMS]
    both = [total(Level.MODEL, "inner", measure=measure) for measure in _SUMS]
    play = mirrored([whole()], [whole()])
    play.limit(*mine, *ours, *theirs, *both)
    await play.run(max_tokens=5)
    await play.copied()

    assert [play.standing(limit) for limit in mine] == [(1, 0), (6, 0), (8, 0)] * 3
    assert [play.standing(limit) for limit in (*ours, *both)] == [(2, 0), (12, 0), (16, 0)] * 2
    assert [play.standing(limit) for limit in theirs] == [(1, 0), (6, 0), (8, 0)]


_SUMS = (Measure.REQUESTS, Measure.TOKENS, Measure.MONEY)


@pytest.mark.parametrize(
    "limit",
    [
        total(Level.ORGANISATION, "org", 8 + 109),
        total(Level.UPSTREAM, "name-up1", 109),
        total(Level.MODEL, "inner", 8 + 109),
        total(Level.ORGANISATION, "org", 1, Measure.REQUESTS),
        replace(total(Level.ORGANISATION, "org", 8 + 109), at_cap=AtCap.CHEAPER),
        Limit("org/rate", Level.ORGANISATION, "org", Measure.REQUESTS, 1),
        Limit("org/up", Level.UPSTREAM, "name-up1", Measure.TOKENS, 1),
    ],
    ids=lambda limit: limit.id,
)
async def test_a_copy_that_does_not_fit_is_not_sent(limit: Limit) -> None:
    """It may cost 110 at most, which is one more than there is."""
    play = mirrored([whole()], [whole()])
    play.limit(limit)
    reply = await play.run(max_tokens=5)
    await play.copied()

    assert reply.status == 200
    assert not asked(play)
    assert play.standing(limit)[1] == 0
    assert len(play.ledger.settlements) == 1
    (outcome,) = outcomes(play)
    assert outcome in {"insufficient_quota", "targets_at_limit", "rate_limit_exceeded"}


async def test_what_a_copy_may_cost_is_held_while_it_runs() -> None:
    """Like any attempt's, so that the organisation's budget is not passed."""
    play = mirrored([whole()], [whole("hi", LATER)])
    play.limit(limit := total(Level.ORGANISATION, "org", 1000))
    await play.run(max_tokens=5)
    while not asked(play):
        await asyncio.sleep(0)
    assert play.standing(limit) == (8, 110)
    await play.copied()
    assert play.standing(limit) == (16, 0)


async def test_a_copy_does_not_wait_for_a_place() -> None:
    """Where callers may wait, it is not sent."""
    limit = Limit("org/places", Level.ORGANISATION, "org", Measure.CONCURRENCY, 1, wait=60.0)
    play = mirrored([whole()], [whole()])
    play.limit(limit)
    await play.run()
    play.dataplane.gate.counters.meters((limit,), 0.0, 0.0).take((1, 0, 0, 0), 0.0, 0.0)  # somebody else's call
    await play.copied()
    assert (asked(play), outcomes(play)) == ([], {"concurrency_exceeded": 1})
