"""A second target beside one that shows nothing for too long: whoever has output first answers (S8).

Only on routes that ask for it. Both attempts are in the books; the caller is charged for the one that answered.
"""

from __future__ import annotations

import asyncio
from typing import Final

from intertie.core.errors import GatewayError, UpstreamError
from intertie.core.routing.hedging import GroupKey
from intertie.dataplane.attempt import ask
from intertie.dataplane.choosing import Chooser
from intertie.dataplane.exchange import Exchange, Race, Who
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.reply import Reply

_LOOK: Final = 0.1
"""Seconds between two looks at whether a request that was due for a hedge has been sent at last."""

Tasks = list[asyncio.Task[bytes]]
"""The attempts of one race, in the order of their beginning."""


async def hedged(x: Exchange, who: Who, reply: Reply, chooser: Chooser) -> bytes:
    """`attempt.ask`, and somebody else is asked, too, if that has no output in time. Raises the last one's error.

    The first to have output answers; the other is cancelled, and has ended when this returns.
    """
    assert x.caller is not None
    assert x.call is not None
    assert x.route is not None
    assert x.route.hedge is not None
    d, group, stream = chooser.d, (x.caller.organisation, x.route.model), x.call.stream
    d.hedges.begin(group, x.route.hedge.share)
    race = x.race = Race(x)
    began = d.monotonic()
    tasks: Tasks = [asyncio.create_task(ask(x, who, reply, chooser))]
    second: Who | None = None
    try:
        if await _overdue(x, tasks[0], race, d.hedges.delay(group, x.route.hedge.after, stream=stream)):
            second = _second(x, who, chooser, group)
        if second is not None:
            tasks.append(asyncio.create_task(_beside(x, second, reply, chooser, race)))
        last = await _decided(tasks, race)
        answered = race.won.result()
        d.hedges.saw(group, answered.ttft or d.monotonic() - answered.started, stream=stream)
        if answered.hedge:
            x.upstream_seconds += answered.started - began
        return last
    except BaseException as error:
        race.call_off(decided=isinstance(error, UpstreamError))  # nobody is charged for two
        raise
    finally:
        try:
            await _ended(tasks)
        finally:
            x.race = None
            x.attempts.sort(key=lambda one: one.n)  # they are added as they end
            if second is not None:
                d.budgets.extra_done(group)
                d.counters.hedges[x.route.model, _outcome(race)] += 1
                if not any(attempt.hedge for attempt in race.attempts):
                    _not_asked(x, second, d)


async def _overdue(x: Exchange, first: asyncio.Task[bytes], race: Race, seconds: float) -> bool:
    """True once the first attempt has been sent and shown nothing for so long; false if it ends or shows something.

    Before it is sent, a second one would be no better: whatever holds up connecting has limits of its own.
    """
    wait = seconds
    while True:
        await asyncio.wait((first, race.won), timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        if first.done() or race.won.done():
            return False
        if x.live and x.live[0].sent:
            return True
        wait = _LOOK


def _second(x: Exchange, who: Who, chooser: Chooser, group: GroupKey) -> Who | None:
    """Whom to ask beside `who`, with all that it takes taken; `None` if nobody may be."""
    d: Dataplane = chooser.d
    assert x.call is not None
    if chooser.spent or x.call.lasting or not d.hedges.able(group):
        return None
    now = d.monotonic()
    second = chooser.beside(who[0].upstream, now)
    if second is None:
        return None
    if not d.budgets.extra(group, now, cheap=False):  # noqa: S610 (not a Django query)
        _not_asked(x, second, d)
        return None
    d.hedges.take(group)
    return second


async def _beside(x: Exchange, who: Who, reply: Reply, chooser: Chooser, race: Race) -> bytes:
    """The second attempt; none, if the first had output before this could begin."""
    if race.won.done():
        raise asyncio.CancelledError
    return await ask(x, who, reply, chooser, hedge=True)


def _not_asked(x: Exchange, who: Who, d: Dataplane) -> None:
    """Give back what was taken for an attempt that did not begin."""
    d.health.release(who[0].key, d.monotonic())
    d.gate.give_back(x)


async def _decided(tasks: Tasks, race: Race) -> bytes:
    """What the attempt that answers returns; the error of the last one if all fail, or of one whose error is final."""
    left = set(tasks)
    while True:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if race.won.done() and not race.has_won(task):
                continue  # beaten, whatever it came to
            error = task.exception()
            if error is None:
                return task.result()
            if not left or _final(error):
                raise error


def _final(error: BaseException) -> bool:
    """The caller gets this, whatever somebody else may answer: a rejection of the call, or a fault of the gateway."""
    return not isinstance(error, GatewayError) or (isinstance(error, UpstreamError) and not error.elsewhere)


async def _ended(tasks: Tasks) -> None:
    """Cancel what runs still, and return when all of it is in the books: the request is booked next."""
    cancelled = False
    for task in tasks:
        task.cancel()
    while left := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError:
            cancelled = True
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, whoever it was that raised it
    if cancelled:
        raise asyncio.CancelledError


def _outcome(race: Race) -> str:
    if not race.won.done():
        return "failed"
    return "won" if race.won.result().hedge else "lost"
