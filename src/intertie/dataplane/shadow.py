"""Copies of answered calls for shadow targets: what would another model have cost, and how fast would it have been?

A copy begins when its call has been answered, so nothing of it can delay, fail or answer that call. What it is answered
with goes nowhere. It is authorised and planned anew under the configuration in force, so that rules and trust bind it
like any call; it is booked apart, and takes from no limit of the caller's own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from functools import partial
from typing import Final

from msgspec.structs import replace

from intertie.core.errors import Bug, GatewayError, NodeBusy, ShuttingDown
from intertie.core.ledger import State
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.plan import plan
from intertie.core.routing.resolve import ANY, resolve
from intertie.core.terms import Route, StrategyName, Target
from intertie.dataplane.account import settlement
from intertie.dataplane.attempt import ask
from intertie.dataplane.authenticate import authenticate
from intertie.dataplane.choosing import Chooser
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.facts import survey
from intertie.dataplane.failover import checkpoint
from intertie.dataplane.observe import outcome
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.relay import follow

MOST: Final = 64
"""Copies under way at a time; what is beyond them is not copied."""

MOST_EACH: Final = 16
"""Of them to one shadow target: one that hangs must not keep all others from being tried."""

MOST_BYTES: Final = 64 * 1024 * 1024
"""Bytes of the calls that copies under way hold."""


class Shadows:
    """The copies under way. Event loop only; `mirror` never waits and never raises."""

    def __init__(self, d: Dataplane) -> None:
        self._d = d
        self._live: dict[Exchange, asyncio.Task[None]] = {}
        self._each: Counter[Target] = Counter()
        self._held = 0
        self._closed = False
        d.mirror = self.mirror

    def __repr__(self) -> str:
        return f"<Shadows {len(self._live)} copies under way>"

    def running(self) -> Collection[Exchange]:
        """The copies under way, as requests."""
        return self._live.keys()

    def mirror(self, x: Exchange) -> None:
        """The request is over. If a target answered it and it falls into its route's share, begin copies of it."""
        assert x.route is not None
        shadow, call = x.route.shadow, x.call
        if shadow is None or call is None or x.state is not State.OK or x.replayed is not None:
            return
        if call.lasting or self._d.rng.random() >= shadow.share:
            return
        for number, target in enumerate(shadow.targets):
            if self._closed or self._full(target, call.size):
                self._d.counters.shadows[x.route.model, "dropped"] += 1
                continue
            self._held += call.size
            self._each[target] += 1
            copy = _copy(x, number)
            task = self._live[copy] = asyncio.get_running_loop().create_task(self._run(copy, number))
            task.add_done_callback(partial(self._over, copy, target, call.size))

    async def close(self) -> None:
        """Cancel what is under way; what it has cost is booked."""
        self._closed = True
        while self._live:
            for task in self._live.values():
                task.cancel()
            await asyncio.wait(tuple(self._live.values()))

    async def _run(self, copy: Exchange, number: int) -> None:
        d = self._d
        copy.error = Bug("The gateway failed on this copy.")  # until it is known how it ends
        try:
            candidate = _placed(copy, number, d)
            if candidate is not None:
                await _sent(copy, candidate, d)
            copy.error = None
        except GatewayError as error:
            copy.error = error
        except asyncio.CancelledError:
            copy.error = ShuttingDown("The gateway is shutting down.")
            raise
        finally:
            _book(copy, d)

    def _full(self, target: Target, size: int) -> bool:
        too_many = len(self._live) >= MOST or self._each[target] >= MOST_EACH
        return too_many or self._held + size > MOST_BYTES

    def _over(self, copy: Exchange, target: Target, size: int, task: asyncio.Task[None]) -> None:
        del self._live[copy]
        self._held -= size
        self._each[target] -= 1
        if not self._each[target]:
            del self._each[target]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._d.log.event("bug", request_id=copy.id, error=f"{type(error).__name__}: {error}"[:500])


def _copy(x: Exchange, number: int) -> Exchange:
    """The same call as a request of its own, whose id says of which it is a copy."""
    copy = Exchange(f"{x.id}.s{number + 1}", x.operation, x.headers, b"")
    copy.shadow_of = x.id
    copy.call, copy.route = x.call, x.route
    return copy


def _placed(copy: Exchange, number: int, d: Dataplane) -> Candidate | None:
    """Where the copy goes, by the newest configuration; `None` if that has no such shadow target any more.

    Raises what keeps it from being sent: a rule, a ceiling, the target's health, a node without a free slot, the load.
    """
    d.shedder.admit()
    copy.started, copy.started_at = d.monotonic(), d.wall()
    snapshot = copy.snapshot = d.snapshots.current
    caller = copy.caller = authenticate(copy.headers, snapshot, d.hash_key, d.wall())
    assert copy.call is not None
    route = resolve(copy.call, caller, snapshot)
    if route.shadow is None or number >= len(route.shadow.targets):
        return None
    copy.route = alone(route, route.shadow.targets[number], copy.call.model)
    copy.deadline = copy.started + route.deadline
    survey(copy, d)
    docket = copy.docket
    try:
        (candidate,) = plan(copy.call, caller, copy.route, snapshot, d, d.monotonic(), docket)
    finally:
        if docket is not None and docket.noting:
            copy.plan = docket.considered
    room = candidate.room
    if room is not None and room.free <= (room.slots > 1):  # the last one is for callers
        raise NodeBusy("The node has no slot to spare.")
    return candidate


def alone(route: Route, target: Target, model: str) -> Route:
    """The route with this target alone, and nothing that would make more of one copy."""
    return Route(
        organisation=route.organisation,
        model=route.model,
        targets=(replace(target, model=model) if target.model == ANY else target,),
        strategy=StrategyName.PRIORITY,
        deadline=route.deadline,
        max_attempts=1,
    )


async def _sent(copy: Exchange, candidate: Candidate, d: Dataplane) -> None:
    """Send it, and hear the answer to its end. Raises what is in the way, the organisation's limits among it."""
    assert copy.call is not None
    turn = d.gate.admit(copy)
    assert turn is None  # a copy does not wait for a place
    chooser = Chooser(copy, (candidate,), d)
    who = chooser.first(d.monotonic())
    nobody = Nobody()
    heartbeat = follow(copy, nobody, lambda: checkpoint(copy, d)) if copy.call.stream else None
    try:
        await ask(copy, who, nobody, chooser)
    finally:
        if heartbeat is not None:
            heartbeat.stop()


def _book(copy: Exchange, d: Dataplane) -> None:
    """What was sent is in the books; what was not is only counted."""
    now = d.monotonic()
    if copy.error is None:
        copy.state, copy.status = State.OK, 200
    else:
        copy.state, copy.status = State.INTERRUPTED if copy.committed else State.FAILED, copy.error.status
    if copy.tries:
        copy.account = settlement(copy, now)
        assert copy.account is not None
        d.ledger.settle(copy.account)
        copy.settled = True
        d.gate.booked(copy)
        d.log.finished(copy, now)
    else:
        d.gate.release(copy)
    assert copy.route is not None
    told = "ok" if copy.error is None else outcome(copy.error)
    d.counters.shadows[copy.route.model, told if copy.tries or copy.error is not None else "withdrawn"] += 1


class Nobody:
    """The client of a copy: takes everything, keeps nothing."""

    started = True

    async def start(self, status: int, head: bytes, length: int | None) -> None:
        """See `Reply`; so for the rest."""

    async def write(self, body: bytes) -> None:
        """Forget it."""

    def put(self, _body: bytes) -> bool:
        """Forget it."""
        return True

    async def drained(self) -> None:
        """Nobody is never behind."""

    async def finish(self, body: bytes = b"") -> None:
        """Forget it."""
