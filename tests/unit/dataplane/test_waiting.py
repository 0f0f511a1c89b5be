"""The line before a limit of concurrency: nobody in it spoils the call that makes room for him, or is forgotten."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from intertie.core.policy.limits import Level, Limit, Measure
from tests.support.limited import JSON, Bed, limited, whole
from tests.support.playbook import STALL, Script


def _places(amount: int, wait: float = 60.0) -> Limit:
    return limited(Level.PROJECT, "project", Measure.CONCURRENCY, amount, wait=wait)


async def test_a_client_that_leaves_as_its_turn_comes_harms_nobody() -> None:
    """The one that ends and the one that hangs up meet in one turn of the loop; the next in line is served."""
    limit = _places(1)
    bed = Bed([limit], [Script(STALL, headers=JSON), whole()])
    first = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    leaving, staying = asyncio.create_task(bed.ask()), asyncio.create_task(bed.ask())
    await asyncio.sleep(0)
    first.cancel()
    leaving.cancel()
    ended, _, served = await asyncio.gather(first, leaving, staying)

    assert (ended.json["error"]["code"], served.status) == ("server_shutdown", 200)
    assert bed.state(limit) == (0, 0)


async def test_a_limit_that_was_raised_lets_those_who_wait_in_at_once() -> None:
    """Not only when a call under the old limit ends; and who comes then need not join the line."""
    bed = Bed([_places(1)], [Script(STALL, headers=JSON), whole(), whole()])
    first = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(bed.ask())
    await asyncio.sleep(0)
    bed.current = replace(bed.current, limits={("org", "project", "project"): (_places(5),)})
    bed.dataplane.gate.recall()

    assert (await waiting).status == 200
    assert (await bed.ask()).status == 200
    first.cancel()
    await first
