"""The data lanes of a node: each carries one exchange at a time, and parked ones are its free capacity."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from intertie.agent.dial import DialFailed
from intertie.agent.exchange import Exchange
from intertie.agent.forward import Forwarder
from intertie.agent.order import read_order
from intertie.agent.socket import Listener, Socket
from intertie.core.wire.link import (
    PIECE,
    SPARE,
    Backoff,
    Event,
    LaneScript,
    LaneState,
    Refusal,
    Violation,
    read,
    write,
)
from intertie.core.wire.websocket import BINARY, TEXT

IDLE_SECONDS: Final = 60.0
"""A parked lane beyond the spare ones is closed after this."""
WANTED_SECONDS: Final = 5.0
"""How long the gateway's wish for more lanes is remembered."""
AT_ONCE: Final = 64
"""Lanes dialled at the same time."""
BURST: Final = 2048
"""Lanes dialled as fast as they are missed: those of a large node, and of many calls given up on at once."""
STEADY: Final = 50.0
"""Lanes dialled per second beyond that: a gateway that closes them as fast as they come must not keep us busy."""
FORGIVEN: Final = 8
"""Unused lanes that may be lost in a row before new ones are dialled with pauses."""
RETIRED: Final = -1
"""The generation of a lane that is being closed here."""
MOST_UNSENT: Final = 1024 * 1024
"""Bytes a gateway may leave unread before it opens another exchange."""

_LOG: Final = logging.getLogger("intertie.agent")


class Lane:
    """One data lane: a listener of its socket, and the carrier of its exchange."""

    __slots__ = ("_exchange", "_forwarder", "_pool", "_script", "_socket", "born", "generation")

    def __init__(self, pool: Lanes, forwarder: Forwarder, generation: int) -> None:
        self._pool = pool
        self._forwarder = forwarder
        self._script = LaneScript()
        self._socket: Socket | None = None
        self._exchange: Exchange | None = None
        self.generation = generation
        """Of the ticket it was opened with."""
        self.born = 0.0

    def __repr__(self) -> str:
        return f"<Lane {self._script.state}>"

    def close(self) -> None:
        """Close it, whatever it carries; nothing will take its place."""
        self.generation = RETIRED
        if self._socket is not None:
            self._socket.close()

    # -- for the socket

    def met(self, socket: Socket) -> None:
        """Parked."""
        self._socket = socket
        self._pool.parked_again(self)

    def message(self, opcode: int, payload: bytes) -> None:
        """OPEN, or a part of a request. Raises `Violation`."""
        if opcode == BINARY:
            if len(payload) > PIECE:
                raise Violation("a part of a request is too large")
            last = self._script.body(len(payload))
            if self._exchange is not None:
                self._exchange.body(payload, last=last)
            return
        message = read(payload)
        if message["t"] != Event.OPEN:
            raise Violation("a data lane takes orders only")
        order = read_order(message)
        self._script.open(order.length)
        if self._socket is None or self._socket.unsent > MOST_UNSENT:
            raise Violation("answers are not read")
        self._pool.taken(self)
        exchange = self._exchange = self._forwarder.take(order, self)
        if self._socket.stalled:
            exchange.pause()
        exchange.start()

    def lost(self, code: int, reason: str) -> None:
        """Gone: hang up on the runtime before anything else."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        self._script.close()
        self._pool.gone(self, code, reason)

    def stuck(self) -> None:
        """The gateway reads slowly: so do we."""
        if self._exchange is not None:
            self._exchange.pause()

    def flowing(self) -> None:
        """It has caught up."""
        if self._exchange is not None:
            self._exchange.resume()

    # -- for the exchange

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of an answer."""
        self._script.apply(Event.HEAD)
        self._text(write(Event.HEAD, status=status, headers=headers))

    def piece(self, piece: bytes) -> None:
        """Part of an answer. The hot path: an exchange that is answering stays so, no table needed."""
        if self._socket is not None:
            self._socket.send(BINARY, piece)

    def end(self) -> None:
        """An answer is whole."""
        self._park(Event.END, write(Event.END))

    def refused(self, code: Refusal, message: str) -> None:
        """Nothing was executed."""
        self._park(Event.REFUSED, write(Event.REFUSED, code=code, message=message[:300]))

    def broken(self, code: Refusal, message: str) -> None:
        """An answer breaks off."""
        self._park(Event.BROKEN, write(Event.BROKEN, code=code, message=message[:300]))

    def _park(self, event: Event, text: str) -> None:
        self._exchange = None
        if self._script.apply(event) is LaneState.PARKED:
            self._text(text)
            self._pool.parked_again(self)

    def _text(self, text: str) -> None:
        if self._socket is not None:
            self._socket.send(TEXT, text.encode())


class Lanes:
    """Keeps spare lanes parked beyond the busy ones, opens more as they are taken or asked for, and closes extras.

    `dial` opens a lane for a listener and raises `DialFailed`; `allowed` is how many there may be at all.
    """

    def __init__(
        self, forwarder: Forwarder, dial: Callable[[Listener], Awaitable[Socket]], allowed: Callable[[], int]
    ) -> None:
        self._forwarder = forwarder
        self._dial = dial
        self._allowed = allowed
        self._parked: dict[Lane, float] = {}
        self._busy: set[Lane] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._backoff = Backoff()
        self._resting: asyncio.TimerHandle | None = None
        self._strikes = 0
        """Lanes lost in a row that were never used: a cancelled call may take one with it, but not many."""
        self._wanted = 0
        self._wanted_until = 0.0
        self._credit, self._credited_at = float(BURST), 0.0
        self._growing = self._adjusting = False
        self._generation = 0
        self.idle: asyncio.Event = asyncio.Event()
        """Set while no lane is busy."""
        self.idle.set()

    def __repr__(self) -> str:
        return f"<Lanes {self.parked} parked, {self.busy} busy, {len(self._dials)} dialling>"

    @property
    def parked(self) -> int:
        """Lanes that wait for an exchange."""
        return len(self._parked)

    @property
    def busy(self) -> int:
        """Lanes that carry one."""
        return len(self._busy)

    @property
    def outdated(self) -> bool:
        """Whether a busy lane was opened with a ticket of an earlier connection."""
        return any(lane.generation != self._generation for lane in self._busy)

    # -- for the link

    def renew(self) -> None:
        """A new control lane: open lanes for it, close those of the last one as they fall idle."""
        self._generation += 1
        self._growing = True
        self._backoff = Backoff()
        self._strikes = 0
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        for lane in [lane for lane in self._parked if lane.generation != self._generation]:
            lane.close()
        self.adjust()

    def want(self, lanes: int) -> None:
        """The gateway has so many calls waiting for a lane."""
        self._wanted, self._wanted_until = lanes, asyncio.get_running_loop().time() + WANTED_SECONDS
        self.adjust()

    def pause(self) -> None:
        """No control lane: open no more for now."""
        self._growing = False

    def retire(self) -> None:
        """Leaving: close what is parked, now and later."""
        self._growing = False
        self._generation += 1
        for lane in tuple(self._parked):
            lane.close()

    def close(self) -> None:
        """Close everything."""
        self.retire()
        if self._resting is not None:
            self._resting.cancel()
        for task in tuple(self._dials):
            task.cancel()
        for lane in tuple(self._busy):
            lane.close()

    def adjust(self) -> None:
        """Open what is missing, close what is over the limit."""
        if self._adjusting:
            return  # closing a lane calls back here
        self._adjusting = True
        try:
            self._adjust(self._allowed())
        finally:
            self._adjusting = False

    def sweep(self) -> None:
        """To be called now and then: close extra lanes that have long been idle."""
        longest = asyncio.get_running_loop().time() - IDLE_SECONDS
        old = [lane for lane, since in self._parked.items() if since < longest]
        for lane in old[: max(0, self.parked - SPARE)]:
            lane.close()
        self.adjust()

    # -- for lanes

    def parked_again(self, lane: Lane) -> None:
        """A lane is free."""
        now = asyncio.get_running_loop().time()
        lane.born = lane.born or now
        self._busy.discard(lane)
        self._parked[lane] = now
        self._check_idle()
        if lane.generation != self._generation:
            lane.close()

    def taken(self, lane: Lane) -> None:
        """A lane carries an exchange."""
        del self._parked[lane]
        self._busy.add(lane)
        self._wanted = max(0, self._wanted - 1)
        self._backoff = Backoff()
        self._strikes = 0
        self.idle.clear()
        self.adjust()

    def gone(self, lane: Lane, code: int, reason: str) -> None:
        """A lane is closed. One that was parked and did not last is replaced more slowly each time."""
        unused = self._parked.pop(lane, None) is not None
        self._busy.discard(lane)
        self._check_idle()
        lasted = asyncio.get_running_loop().time() - lane.born
        self._backoff.lasted(lasted)
        if unused and lane.generation == self._generation and lasted < Backoff.STABLE:
            self._strikes += 1
        if self._strikes > FORGIVEN:
            self._rest(f"closed with {code} {reason!r}")
        self.adjust()

    def _adjust(self, allowed: int) -> None:
        loop = asyncio.get_running_loop()
        for lane in tuple(self._parked)[: max(0, self.parked + self.busy - allowed)]:
            lane.close()
        if not self._growing or self._resting is not None:
            return
        wanted = self._wanted if loop.time() < self._wanted_until else 0
        goal = min(allowed, self.busy + max(SPARE, wanted))
        missing = min(goal - self.parked - self.busy - len(self._dials), AT_ONCE - len(self._dials))
        for _ in range(self._afforded(missing)):
            task = loop.create_task(self._open(self._generation))
            self._dials.add(task)
            task.add_done_callback(self._dialled)

    def _afforded(self, missing: int) -> int:
        """How many of the missing lanes may be dialled now; the others follow."""
        if missing <= 0:
            return 0
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._credit = min(BURST, self._credit + (now - self._credited_at) * STEADY)
        self._credited_at = now
        afforded = min(missing, int(self._credit))
        self._credit -= afforded
        if afforded < missing:
            self._resting = loop.call_later(10 / STEADY, self._rested)
        return afforded

    async def _open(self, generation: int) -> None:
        if generation != self._generation:
            return  # what it was meant for is over before it began
        lane = Lane(self, self._forwarder, generation)
        try:
            await self._dial(lane)
        except DialFailed as mistake:
            self._rest(str(mistake))

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dials.discard(task)
        if task.cancelled():
            return
        mistake = task.exception()
        if mistake is not None:
            _LOG.error("a data lane could not be opened", exc_info=mistake)
            self._rest("a fault of this agent")
        self.adjust()

    def _rest(self, reason: str) -> None:
        if self._resting is None and self._growing:
            wait = self._backoff.wait(random.random())
            _LOG.info("a data lane was lost or could not be opened, next try in %.1f s: %s", wait, reason)
            self._resting = asyncio.get_running_loop().call_later(wait, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self.adjust()

    def _check_idle(self) -> None:
        if not self._busy:
            self.idle.set()
