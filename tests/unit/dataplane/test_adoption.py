"""Limits that come into force, or come again, while requests run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from intertie.core.ledger import Settlement
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per, window
from intertie.dataplane import adoption
from intertie.dataplane.adoption import Opened, adopt, share_of
from tests.support.accounts import attempt, settlement
from tests.support.limited import JSON, Bed, limited, money
from tests.support.playbook import STALL, Script

RATE = limited(Level.PROJECT, "project", Measure.REQUESTS, 1_000)
SHARE = limited(Level.UPSTREAM, "name-up0", Measure.REQUESTS, 1_000)
QUOTA = limited(Level.PROJECT, "project", Measure.TOKENS, 100_000, Per.HOUR)
BUDGET = limited(Level.PROJECT, "project", Measure.MONEY, 100_000, Per.HOUR)


async def _begun(bed: Bed, **fields: Any) -> asyncio.Task[Any]:
    """A request that is being answered."""
    task = asyncio.create_task(bed.ask(**fields))
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    return task


async def _ended(bed: Bed, running: asyncio.Task[Any]) -> None:
    """Its client leaves; it is charged its input."""
    bed.exchanges[-1].gone = True
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _booked(bed: Bed, limit: Limit) -> int:
    (attempt,) = bed.settled.attempts
    return (attempt.cost or 0) if limit.measure is Measure.MONEY else attempt.usage.input + attempt.usage.output


@pytest.mark.parametrize("limit", [QUOTA, BUDGET], ids=["quota", "budget"])
async def test_a_limit_that_goes_and_comes_again_counts_a_running_call_once(limit: Limit) -> None:
    """Also where the call holds rates beside it, which are held apart."""
    bed = Bed([RATE, SHARE, limit], [Script(STALL, headers=JSON)])
    running = await _begun(bed)
    bed.put(RATE, SHARE)
    bed.put(RATE, SHARE, limit)
    await _ended(bed, running)

    assert bed.state(limit) == (_booked(bed, limit), 0)
    assert _booked(bed, limit) > 0


@pytest.mark.parametrize("limit", [QUOTA, BUDGET], ids=["quota", "budget"])
@pytest.mark.parametrize("known", [True, False])
async def test_what_began_before_a_limits_window_counts_nowhere_in_it(limit: Limit, known: bool) -> None:
    """The books have it in the window before, so the account of this one does not."""
    bed = Bed([RATE, SHARE, *([limit] if known else ())], [Script(STALL, headers=JSON)])
    running = await _begun(bed)
    bed.put(RATE, SHARE)
    bed.now = 3600.0
    bed.put(RATE, SHARE, limit)
    await _ended(bed, running)

    assert bed.state(limit) == (0, 0)


async def test_a_call_without_a_size_holds_up_no_configuration() -> None:
    """It was let through while nothing had to be reserved for it; what it takes counts all the same."""
    bed = Bed([], [Script(STALL, headers=JSON)])
    running = await _begun(bed, max_tokens=-1, n="many")
    total = money(100_000)
    bed.put(QUOTA, total)
    assert bed.state(total) == (0, 0)
    await _ended(bed, running)

    assert bed.state(total) == (_booked(bed, total), 0)
    assert bed.state(QUOTA) == (_booked(bed, QUOTA), 0)


async def test_thousands_of_limits_are_each_held_against_their_own_holder_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They come into force on the event loop: every request against every limit would stop it for half a minute."""
    bed = Bed([], [])
    limits = [limited(Level.KEY, f"key_{n}", Measure.MONEY, 10**9, Per.HOUR) for n in range(1000)]
    at = bed.dataplane.gate.calendar.now()
    opened = [Opened(one, "org", window(Per.HOUR, "UTC", at), 5) for one in limits]
    ended = [
        settlement(f"req_{n}", attempt(started_at=at), organisation="org", key_id=f"key_{n % 1000}")
        for n in range(2000)
    ]
    looks: list[int] = []

    def counted(one: Opened, account: Settlement) -> int:
        looks.append(1)
        return share_of(one, account)

    monkeypatch.setattr(adoption, "share_of", counted)
    adopt(bed.dataplane.gate, opened, ended, ())

    assert {bed.dataplane.gate.standing(one).spent for one in limits} == {5 + 2 * 750}
    assert len(looks) == len(ended)
