"""One node whose link is up: its control lane, its data lanes, who waits for one, and what it can take."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from intertie.core.errors import NodeBusy
from intertie.core.routing.room import Room
from intertie.core.terms import ModelFacts, Node
from intertie.core.wire.link import SPARE, CloseCode, Say, Serving, Violation
from intertie.dataplane.transport.lane import Lane
from intertie.dataplane.transport.wired import Watch, Wired

EXTRA_LANES: Final = 4
"""Lanes a node may have beyond its slots and the spare ones: those that are being exchanged for others."""
EXTRA_WAITING: Final = 16
"""Calls that may wait for a lane, beyond two per slot."""
MOST_PARKED: Final = 256
"""Lanes of one node that may lie idle: agents close what they do not need, and each is an open file of ours."""
MOST_SLOTS: Final = 4096
FULL_SECONDS: Final = 1.0
"""A node that refused because it is busy gets nothing for this long, so that each call need not find out anew."""
_SAID: Final = {
    Serving.IDLE_WAIT: "the machine is in use",
    Serving.YIELDING: "its owner is back",
    Serving.PAUSED: "its owner paused it",
    Serving.DRAINING: "its agent is about to leave",
}


class Introduction(msgspec.Struct, frozen=True):
    """Who has proved to be at the other end of a control lane."""

    node: str
    organisation: str
    epoch: int
    instance: str
    version: str = ""
    address: str = ""
    slots: int | None = None
    """The operator's cap."""
    drained: bool = False


class Presence(msgspec.Struct, frozen=True):
    """A connected node as operators see it. `since` is wall-clock time."""

    node: str
    since: float
    address: str
    version: str
    epoch: int
    instance: str
    serving: str
    reason: str
    lanes_parked: int
    lanes_busy: int
    slots: int
    in_flight: int
    queue: int | None
    idle_seconds: float | None


class Attached:
    """Lanes are handed out last parked first; calls wait in order. Event loop only."""

    def __init__(self, who: Introduction, control: Wired, watch: Watch, since: float) -> None:
        self.who = who
        self.control = control
        self.since = since
        """Wall clock."""
        self.ticket_at = 0.0
        """When the last ticket went out; written by `Links`."""
        self.cap = who.slots
        self.drained = who.drained
        self.leaving = False
        self.for_good = False
        """It leaves and does not come back with this key."""
        self.serving = Serving.SERVING
        self._reason = ""
        self._offered: int | None = None
        self._models: Mapping[str, ModelFacts] = {}
        self._in_flight = 0
        self._queue: int | None = None
        self._idle: float | None = None
        self._full_until = 0.0
        self._watch = watch
        self._parked: list[Lane] = []
        self._busy: set[Lane] = set()
        self._waiters: deque[asyncio.Future[Lane]] = deque()
        self._asking = False
        self._ending: CloseCode | None = None

    def __repr__(self) -> str:
        return f"<Attached {self.who.node} parked={len(self._parked)} busy={len(self._busy)} of {self.slots}>"

    @property
    def slots(self) -> int:
        """Exchanges it may have at a time. One until its agent has said what it offers."""
        offered = 1 if self._offered is None else self._offered
        return offered if self.cap is None else min(offered, self.cap)

    @property
    def busy(self) -> int:
        """Exchanges under way."""
        return len(self._busy)

    # -- lanes -------------------------------------------------------------------------------------------------------

    async def take(self, model: str, patience: float) -> Lane:
        """A lane for one exchange, to be given back by `Lane.release`. Raises `NodeBusy` after `patience` seconds."""
        lane = self._ready() or await self._await_lane(patience)
        if not lane.usable:
            raise NodeBusy("The node takes no work now.", detail="its lane broke")
        lane.model = model
        return lane

    def park(self, lane: Lane) -> None:
        """A new lane, or one whose exchange is over."""
        self._busy.discard(lane)
        if self._ending is not None:
            lane.close(self._ending)
        elif len(self._parked) >= min(MOST_PARKED, self.slots + SPARE + EXTRA_LANES - len(self._busy)):
            lane.close(CloseCode.TOO_BUSY, "more lanes than slots")
        else:
            self._parked.append(lane)
        self._serve()

    def lost(self, lane: Lane) -> None:
        """A lane is gone."""
        self._busy.discard(lane)
        with contextlib.suppress(ValueError):
            self._parked.remove(lane)
        self._serve()

    def refused_as_busy(self) -> None:
        """The node had no slot after all."""
        self._full_until = self._watch.now() + FULL_SECONDS

    def end(self, code: CloseCode) -> None:
        """No new work: parked lanes are closed with `code` now, busy ones when they are done."""
        self._ending = code
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(NodeBusy("The node takes no work now.", detail="its link ended"))
        while self._parked:
            self._parked.pop().close(code)

    def break_off(self, code: CloseCode, reason: str) -> None:
        """Close all of it, whatever is under way."""
        self.end(code)
        for lane in list(self._busy):
            lane.close(code, reason)
        self.control.close(code, reason)

    def _ready(self) -> Lane | None:
        if self._ending is not None or len(self._busy) >= self.slots:
            return None
        while self._parked:
            lane = self._parked.pop()
            if lane.usable:
                self._busy.add(lane)
                return lane
        return None

    async def _await_lane(self, patience: float) -> Lane:
        if self._ending is not None or len(self._waiters) >= 2 * self.slots + EXTRA_WAITING:
            raise NodeBusy("The node takes no work now.", detail="too many calls wait for it")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Lane] = loop.create_future()
        self._waiters.append(waiter)
        self._want()
        timer = loop.call_later(patience, _give_up, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release(proper=True)  # handed over in the very moment the caller left
            raise
        finally:
            timer.cancel()
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _serve(self) -> None:
        """Hand free lanes to those who wait."""
        while self._waiters:
            if not self._waiters[0].done():
                lane = self._ready()
                if lane is None:
                    break
                self._waiters[0].set_result(lane)
            self._waiters.popleft()

    def _want(self) -> None:
        """Ask for lanes once per turn of the loop, however many calls came."""
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_soon(self._say_want)

    def _say_want(self) -> None:
        self._asking = False
        lanes = min(len(self._waiters), self.slots - len(self._busy) - len(self._parked))
        if lanes > 0:
            self.control.say(Say.WANT, lanes=lanes)

    # -- what it says ------------------------------------------------------------------------------------------------

    def offer(self, slots: object) -> None:
        """The agent's slots. Raises `Violation` unless it is a sensible number."""
        if type(slots) is not int or not 0 <= slots <= MOST_SLOTS:
            raise Violation("slots must be a number")
        self._offered = slots
        self._changed()

    def learn(self, models: Mapping[str, ModelFacts]) -> None:
        """What its agent found out about each model, by name."""
        self._models = models

    def heard_status(self, message: Mapping[str, Any]) -> None:
        """The members of STATUS. Raises `Violation`."""
        try:
            status = msgspec.convert(message, _Status)
        except msgspec.ValidationError as mistake:
            raise Violation(f"a status that cannot be read: {mistake}") from None
        self.serving = status.state
        self._reason = "".join(letter for letter in status.reason[:200] if letter.isprintable())
        idle = status.idle_seconds
        self._in_flight = _count(status.in_flight)
        self._queue = None if status.queue is None else _count(status.queue)
        self._idle = idle if idle is not None and 0 <= idle <= _LONGEST_IDLE else None

    def settle(self, node: Node) -> None:
        """The operator's wishes, as they are now; the agent is told if they changed."""
        if (node.drained, node.slots) != (self.drained, self.cap):
            self.drained, self.cap = node.drained, node.slots
            self.control.say(Say.SETTINGS, drained=node.drained, slots=node.slots)
            self._changed()

    def _changed(self) -> None:
        self._serve()
        if self._waiters:
            self._want()

    # -- what it can take --------------------------------------------------------------------------------------------

    def room(self, node: Node, model: str) -> Room:
        """See `Links.room`."""
        facts = self._models.get(model) or _UNKNOWN
        reason = self._closed_because(node)
        slots = self.slots
        free = slots - len(self._busy) - len(self._waiters)
        if facts.slots is not None and facts.slots < slots:
            slots = facts.slots
            free = min(free, slots - sum(1 for lane in self._busy if lane.model == model))
        if reason or self._full_until > self._watch.now():
            free = 0
        return Room(not reason, reason, max(0, free), slots, facts.loaded, facts.decode)

    def presence(self) -> Presence:
        """See `Links.presence`."""
        who = self.who
        busy = len(self._busy)
        return Presence(
            node=who.node,
            since=self.since,
            address=who.address,
            version=who.version,
            epoch=who.epoch,
            instance=who.instance,
            serving=str(Serving.DRAINING if self.leaving else self.serving),
            reason=self._reason or self._own_state(),
            lanes_parked=len(self._parked),
            lanes_busy=busy,
            slots=self.slots,
            in_flight=max(busy, self._in_flight),
            queue=self._queue,
            idle_seconds=self._idle,
        )

    def _closed_because(self, node: Node) -> str:
        if node.drained or self.drained:
            return "an operator drains it"
        if self._ending is not None:
            return "its link is being closed"
        if self.control.suspect(self._watch.now()):
            return "its link does not answer"
        return self._reason or self._own_state() if self.leaving or self.serving is not Serving.SERVING else ""

    def _own_state(self) -> str:
        return _SAID[Serving.DRAINING] if self.leaving else _SAID.get(self.serving, "")


class _Status(msgspec.Struct):
    """STATUS."""

    state: Serving
    reason: str = ""
    in_flight: int = 0
    queue: int | None = None
    idle_seconds: float | None = None


_LONGEST_IDLE: Final = 1e10
_UNKNOWN: Final = ModelFacts("")


def _count(told: int) -> int:
    """What a node says that operators are shown, within reason."""
    return max(0, min(told, 1_000_000))


def _give_up(waiter: asyncio.Future[Lane]) -> None:
    if not waiter.done():
        waiter.set_exception(NodeBusy("The node takes no work now.", detail="no lane came free in time"))
