"""A client may hang up in any turn of the event loop, whatever its request waits for: nothing stays held or owed.

Three equal calls under every kind of limit, an answer that others wait for, a target that fails first; one of them
leaves in the first turn, or the second, and so on to the last.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.errors import UpstreamUnavailable
from intertie.core.keeping import CachePolicy
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per
from intertie.dataplane.answers import Answers
from tests.support.kept import EVENTS, Shelf, streamed
from tests.support.kept import whole as good
from tests.support.limited import Bed, limited, money
from tests.support.playbook import TURN, RecordedReply, Script, Step

TURNS = 60
"""More than any of them takes; the test says so itself."""

PLACES = limited(Level.PROJECT, "project", Measure.CONCURRENCY, 1, wait=60.0)
ACCOUNTS = (
    money(100_000),
    limited(Level.KEY, "key_1", Measure.MONEY, 100_000, Per.DAY),
    limited(Level.ORGANISATION, "org", Measure.TOKENS, 1_000_000, Per.MONTH),
    limited(Level.ROUTE, "m", Measure.REQUESTS, 1_000, Per.HOUR),
    limited(Level.MODEL, "inner", Measure.TOKENS, 1_000_000, Per.DAY),
    limited(Level.UPSTREAM, "name-up0", Measure.MONEY, 100_000, Per.WEEK),
)
RATES = (
    limited(Level.PROJECT, "project", Measure.REQUESTS, 1_000),
    limited(Level.UPSTREAM, "name-up1", Measure.TOKENS, 1_000_000),
    limited(Level.MODEL, "inner", Measure.CONCURRENCY, 5),
)


def _bed(*, stream: bool, crowded: bool, cached: bool) -> Bed:
    answer = streamed() if stream else good()
    slow = Script(*_slowly(answer.steps), headers=EVENTS if stream else answer.head.headers)
    limits: list[Limit] = [*ACCOUNTS, *RATES, *([PLACES] if crowded else ())]
    bed = Bed(limits, [UpstreamUnavailable("no")] * 6, [slow] * 6)
    bed.dataplane.answers = Answers(Shelf(), "salt")
    if cached:
        route = replace(bed.current.routes["org", "m"], cache=CachePolicy())
        bed.current = replace(bed.current, routes={("org", "m"): route})
    return bed


def _slowly(steps: list[Step] | tuple[Step, ...]) -> list[Step]:
    return list(itertools.chain.from_iterable((TURN, step, TURN) for step in steps))


async def _leaving(bed: Bed, who: int, turn: int, how: dict[str, Any]) -> tuple[list[RecordedReply], bool]:
    """Three calls; client `who` leaves in turn `turn`. Whether it was still there to leave."""

    async def sleep(_seconds: float) -> None:
        await asyncio.sleep(0)

    bed.dataplane.sleep = sleep
    bed.ledger.durable = lambda: sleep(0)  # type: ignore[method-assign]
    headers = {b"idempotency-key": b"key-1"} if how.pop("keyed") else {}
    calls = [asyncio.create_task(bed.ask(headers, **how)) for _ in range(3)]
    for _ in range(turn):
        await asyncio.sleep(0)
    there = not calls[who].done()
    if there:
        bed.exchanges[who].gone = True
        calls[who].cancel()
    ended = await asyncio.gather(*calls)
    assert bed.dataplane.answers is not None
    await bed.dataplane.answers.settled()
    return ended, there


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("crowded", [False, True], ids=["beside", "behind"])
@pytest.mark.parametrize(("cached", "keyed"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("who", [0, 1, 2])
async def test_whoever_leaves_whenever_leaves_nothing_behind(
    *, stream: bool, crowded: bool, cached: bool, keyed: bool, who: int
) -> None:
    """The others are served, each hold is settled with what the books have, and nobody waits for an answer."""
    last = 0
    for turn in range(1, TURNS):
        bed = _bed(stream=stream, crowded=crowded, cached=cached)
        ended, there = await _leaving(bed, who, turn, {"stream": stream, "keyed": keyed})
        last = turn if there else last
        others = [reply for place, reply in enumerate(ended) if place != who]
        assert [reply.status for reply in others] == [200, 200], turn
        assert all(reply.finished for reply in others), turn
        assert bed.dataplane.answers is not None
        assert len(bed.dataplane.answers.flights) == 0, turn
        assert bed.dataplane.gate._waiting.rooms == {}, turn
        assert bed.dataplane.gate.counters.running() == 0, turn
        assert len(bed.ledger.settlements) == 3, turn
        bed.dataplane.log.flush()
        assert b'"bug"' not in b"".join(bed.log), turn
        for limit in ACCOUNTS:
            assert bed.state(limit) == (_booked(bed, limit), 0), (turn, limit.id)
    assert 0 < last < TURNS - 1


def _booked(bed: Bed, limit: Limit) -> int:
    """What the books say, worked out by hand: here every entry is of the same holder and window."""
    rows = [one for each in bed.ledger.settlements for one in each.attempts]
    if limit.level is Level.UPSTREAM:
        rows = [one for one in rows if one.upstream == limit.holder]
    if limit.measure is Measure.MONEY:
        return sum(one.cost or 0 for one in rows)
    if limit.measure is Measure.TOKENS:
        return sum(one.usage.input + one.usage.output for one in rows)
    return sum(bool(each.attempts) or each.cache in ("hit", "coalesced") for each in bed.ledger.settlements)
