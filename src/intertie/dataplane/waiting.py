"""Where calls wait for a place under a limit of concurrency: bounded, fair between keys, urgent ones first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from intertie.core.errors import BadCall
from intertie.core.policy.limits import Limit, Measure
from intertie.core.policy.meters import Refusal
from intertie.core.policy.turns import Priority, Turns
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.refusals import refused

LENGTH: Final = 4
"""Calls that may wait, as a multiple of those that may run."""

_PRIORITIES: Final = {priority.name.lower().encode(): priority for priority in Priority}


class _Waiter:
    __slots__ = ("answer", "key", "priority", "x")

    def __init__(self, x: Exchange, key: str, priority: Priority) -> None:
        self.x = x
        self.key = key
        self.priority = priority
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class WaitingRoom:
    """One waiting line per limit. `enter(x)` takes everything the request needs, or says what refuses."""

    def __init__(self, enter: Callable[[Exchange], Refusal | None]) -> None:
        self._enter = enter
        self.rooms: dict[str, Turns[_Waiter]] = {}
        """Limit id -> who waits; only those where somebody does."""

    def __repr__(self) -> str:
        return f"<WaitingRoom {sum(map(len, self.rooms.values()))} waiting>"

    def busy(self, limits: tuple[Limit, ...]) -> Limit | None:
        """The first of these under which somebody waits already: nobody may pass him."""
        return next((limit for limit in limits if limit.id in self.rooms), None)

    async def join(self, x: Exchange, limit: Limit, now: float) -> None:
        """Wait for a turn and take what the request needs. `now` is monotonic seconds.

        Raises what refuses if the line is full, the turn does not come in time (the limit's, and half of what the
        request has left), or another limit has no room by then.
        """
        assert x.caller is not None
        full = Refusal(limit, 1.0)
        line = self.rooms.get(limit.id)
        if line is not None and len(line) >= LENGTH * limit.amount:
            raise refused(full)
        patience = min(limit.wait, (x.deadline - now) / 2)
        waiter = _Waiter(x, x.caller.key_id, _priority(x))
        self._add(limit.id, waiter)
        alarm = asyncio.get_running_loop().call_later(patience, self._give_up, waiter, full)
        try:
            await waiter.answer
        finally:
            alarm.cancel()
            self._leave(waiter)

    def call_up(self, limit_id: str) -> None:
        """A place became free: whoever is next enters, as long as there is room."""
        while (line := self.rooms.get(limit_id)) is not None:
            waiter = line.first()
            if waiter is None:
                del self.rooms[limit_id]
                return
            if waiter.answer.done():  # his client has left, and he has not noticed yet
                self._leave(waiter)
                continue
            refusal = self._enter(waiter.x)
            if refusal is not None and refusal.limit.id == limit_id:
                return
            line.pop()
            if not len(line):
                del self.rooms[limit_id]
            if refusal is None:
                waiter.answer.set_result(None)
            elif refusal.limit.measure is Measure.CONCURRENCY and refusal.limit.wait > 0:
                self._add(refusal.limit.id, waiter)  # his time goes on
            else:
                waiter.answer.set_exception(refused(refusal))

    def _add(self, limit_id: str, waiter: _Waiter) -> None:
        self.rooms.setdefault(limit_id, Turns()).add(waiter.key, waiter.priority, waiter)

    def _give_up(self, waiter: _Waiter, full: Refusal) -> None:
        self._leave(waiter)
        if not waiter.answer.done():
            waiter.answer.set_exception(refused(full))

    def _leave(self, waiter: _Waiter) -> None:
        for limit_id, line in list(self.rooms.items()):
            if line.leave(waiter.key, waiter.priority, waiter) and not len(line):
                del self.rooms[limit_id]


def _priority(x: Exchange) -> Priority:
    given = x.headers.get(b"x-intertie-priority")
    if given is None:
        return Priority.NORMAL
    found = _PRIORITIES.get(given.strip().lower())
    if found is None:
        raise BadCall("'x-intertie-priority' must be interactive, normal or batch.", code="invalid_header")
    return found
