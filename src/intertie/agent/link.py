"""The agent's end of the link: one control lane kept up whatever happens, and the data lanes that hang on it.

It dials out and nothing dials in. How it comes back after an end is the table `REACTIONS`; it never gives up for good.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from intertie.agent.control import Control, Ending, Identity, Welcome, lost
from intertie.agent.dial import DialFailed, Way, dial, way
from intertie.agent.exchange import Exchange
from intertie.agent.forward import Forwarder
from intertie.agent.lanes import Lanes
from intertie.agent.socket import Heart, Listener, Socket
from intertie.core.wire.link import AUTH_SECONDS, Backoff, CloseCode, Refusal, Say, Serving, reaction

STATUS_SECONDS: Final = 15.0
MOST_OLD: Final = 4
"""Replaced control lanes that may stay open until the exchanges of their time are over."""
_LOG: Final = logging.getLogger("intertie.agent")


@dataclass(frozen=True)
class LinkState:
    """How the link stands, for the owner."""

    connected: bool = False
    since: float = 0.0
    """When it came to this, seconds since the epoch by this machine's clock."""
    say: str = "Not connected yet."
    node_name: str = ""
    lanes_parked: int = 0
    lanes_busy: int = 0
    epoch: int = 0
    pending: bool = False
    """An operator has yet to approve the node."""
    stopped: bool = False
    """Nothing but a person can help; the gateway is asked again once in a while."""
    slots_cap: int | None = None
    """The operator's limit."""
    drained: bool = False


class Link:
    """Keeps a node connected. One event loop; `run` is its task, everything else is called in between."""

    def __init__(
        self,
        identity: Identity,
        forwarder: Forwarder,
        *,
        slots: Callable[[], int],
        version: str,
        fingerprint: str,
        changed: Callable[[], None],
    ) -> None:
        """`slots` is how many exchanges the machine takes at a time; `changed` is called when `state` may have."""
        self._identity = identity
        self._forwarder = forwarder
        self._slots = slots
        self._own = {"instance": secrets.token_hex(16), "version": version, "fingerprint": fingerprint}
        self._changed = changed
        self._heart = Heart(self._jumped)
        self._lanes = Lanes(forwarder, self._dial_lane, self._allowed)
        forwarder.changed = self._lanes.adjust
        self._control: Control | None = None
        self._old: list[Control] = []
        self._way: Way | None = None
        self._attempting: asyncio.Task[Ending] | None = None
        self._ticket = ""
        self._backoff = Backoff()
        self._hurry = asyncio.Event()
        self._done = asyncio.Event()
        self._farewell: dict[str, Any] = {}
        self._inventory: dict[str, Any] | None = None
        self._status: dict[str, Any] | None = None
        self._status_since = 0.0
        self._yields: list[asyncio.TimerHandle] = []
        self._state = LinkState(since=time.time())

    def __repr__(self) -> str:
        return f"<Link {'up' if self._state.connected else 'down'} {self._lanes!r}>"

    @property
    def state(self) -> LinkState:
        """How it stands now."""
        return _replaced(self._state, lanes_parked=self._lanes.parked, lanes_busy=self._lanes.busy)

    # -- life

    async def run(self) -> None:
        """Dial, and dial again. Returns after `close` only."""
        self._heart.start()
        ticking = asyncio.create_task(self._tick())
        try:
            while not self._done.is_set():
                began = time.monotonic()
                self._attempting = asyncio.create_task(self._attempt())
                try:
                    ending = await self._attempting
                except asyncio.CancelledError:
                    if not self._done.is_set():
                        raise
                    break
                self._backoff.lasted(time.monotonic() - began)
                if not self._done.is_set():
                    await self._rest(self._until_next(ending))
        finally:
            ticking.cancel()
            self.close()
            self._heart.stop()

    def close(self) -> None:
        """Close everything at once."""
        self._done.set()
        self._hurry.set()
        if self._attempting is not None:
            self._attempting.cancel()
        for timer in self._yields:
            timer.cancel()
        self._lanes.close()
        self._forwarder.close()
        for control in [*self._old, *([self._control] if self._control is not None else [])]:
            control.close()

    async def leave(self, seconds: float, reason: str, *, for_good: bool = False) -> None:
        """Take nothing new, let what runs end within `seconds`, then close. `for_good`: the key will be gone."""
        self._forwarder.stopping = Refusal.DRAINING
        self._farewell = {"reason": reason, "for_good": for_good}
        if self._control is not None:
            self._control.say(Say.LEAVE, self._farewell)
        self._lanes.retire()
        try:
            async with asyncio.timeout(seconds):
                await self._lanes.idle.wait()
        except TimeoutError:
            self._cut(tuple(self._forwarder.under_way), Refusal.DRAINING)
        self.close()

    # -- what the machine tells

    def tell_inventory(self, message: Mapping[str, Any]) -> None:
        """What there is; sent now and after each reconnect."""
        self._inventory = dict(message)
        if self._control is not None:
            self._control.say(Say.INVENTORY, self._inventory)
        self._lanes.adjust()

    def tell_status(self, state: Serving, reason: str, **more: object) -> None:
        """Whether the node takes work; `more` are members of `Say.STATUS`. Sent when it changes, and every 15 s."""
        before = self._status or {}
        fresh = before.get("state") != state or before.get("reason") != reason
        if fresh:
            self._status_since = time.time()
        self._status = {"state": str(state), "reason": reason, **more}
        if state is Serving.SERVING:
            for timer in self._yields:
                timer.cancel()
            self._yields.clear()
        if fresh:
            self._send_status()

    def yield_running(self, seconds: float) -> None:
        """The owner is back: what runs now and still does after `seconds` is broken off."""
        running = tuple(self._forwarder.under_way)
        if running:
            loop = asyncio.get_running_loop()
            self._yields = [timer for timer in self._yields if timer.when() > loop.time()]
            self._yields.append(loop.call_later(seconds, self._cut, running, Refusal.NOT_SERVING))

    # -- what the gateway tells

    def renewed(self, ticket: str) -> None:
        """Data lanes are opened with this from now on."""
        self._ticket = ticket

    def wanted(self, lanes: int) -> None:
        """Calls wait."""
        self._lanes.want(lanes)

    def settled(self, slots: int | None, *, drained: bool) -> None:
        """An operator's settings."""
        self._become(slots_cap=slots, drained=drained)
        self._lanes.adjust()

    # -- connecting

    async def _attempt(self) -> Ending:
        """One connection from its first byte to its end, or to the wish for the next one."""
        control = Control(self._identity, self, **self._own)
        try:
            self._way = await way(self._identity.link)
            await dial(self._way, "", control, self._heart)
        except DialFailed as mistake:
            return lost(str(mistake), retry_after=mistake.retry_after)
        try:
            async with asyncio.timeout(2 * AUTH_SECONDS):
                welcome = await asyncio.shield(control.welcome)
        except TimeoutError:
            control.close(CloseCode.PROTOCOL_ERROR, "no welcome in time")
            return lost("the gateway did not finish its greeting in time")
        except asyncio.CancelledError:
            control.close()
            raise
        if isinstance(welcome, Ending):
            return welcome
        if self._done.is_set():
            control.close()
            return Ending(CloseCode.NORMAL)
        self._adopt(control, welcome)
        return await asyncio.shield(control.over)

    def _adopt(self, control: Control, welcome: Welcome) -> None:
        """The new connection is the link; the old one ends when nothing of it is busy."""
        before, self._control = self._control, control
        if before is not None:
            before.retired = True
            self._old.append(before)
            while len(self._old) > MOST_OLD:
                self._old.pop(0).close()
        self._ticket = welcome.ticket
        self._identity.accepted()
        self._become(
            connected=True, since=time.time(), say="Connected.", node_name=welcome.name, epoch=welcome.epoch,
            pending=False, stopped=False, slots_cap=welcome.slots, drained=welcome.drained,
        )  # fmt: skip
        _LOG.info("connected to %s as %s", self._identity.origin, welcome.name)
        if self._forwarder.stopping is not None:
            control.say(Say.LEAVE, self._farewell)
            return
        if self._inventory is not None:
            control.say(Say.INVENTORY, self._inventory)
        self._send_status()
        self._lanes.renew()
        self._close_old()

    def _until_next(self, ending: Ending) -> float:
        """Seconds to wait, and what the owner is told meanwhile."""
        if self._control is not None and not self._control.alive:
            self._control = None
            self._lanes.pause()
        if ending.delay is not None:
            self._lanes.pause()
            # Not at once each time: a gateway that sends everybody away again and again must not keep us dialling.
            return max(random.uniform(0, ending.delay), self._backoff.wait(random.random()))
        next_step = reaction(ending.code)
        if ending.retry_after is not None:
            wait = ending.retry_after * random.uniform(1, 1.5)
        elif ending.code == CloseCode.AUTH_FAILED and self._identity.retry_with_pending():
            wait = 0.0
        elif next_step.most:
            wait = random.uniform(next_step.least, next_step.most)
        else:
            wait = self._backoff.wait(random.random())
        if self._control is None:
            self._become(
                connected=False, since=time.time() if self._state.connected else self._state.since,
                say=ending.say or next_step.say, pending=ending.code == CloseCode.PENDING, stopped=next_step.stop,
            )  # fmt: skip
        told = ending.say or f"{next_step.say} ({ending.code} {ending.reason})"
        _LOG.info("%s Next try in %.0f s.", told, wait)
        return wait

    async def _rest(self, seconds: float) -> None:
        self._hurry.clear()
        if self._done.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _dial_lane(self, listener: Listener) -> Socket:
        if self._way is None:
            raise DialFailed("the gateway was not reached yet")
        return await dial(self._way, "/lane", listener, self._heart, {"authorization": f"Bearer {self._ticket}"})

    def _allowed(self) -> int:
        """Data lanes there may be: free and busy slots, without those that are not free yet."""
        slots, cap = self._slots(), self._state.slots_cap
        return max(0, (slots if cap is None else min(slots, cap)) - self._forwarder.draining)

    # -- now and then

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            self._send_status()
            self._lanes.sweep()
            self._close_old()

    def _jumped(self) -> None:
        """The machine has slept: what was connected probably is not any more."""
        _LOG.info("the machine seems to have slept; connecting again")
        self._hurry.set()
        if self._control is not None:
            self._control.replace(0.0)

    def _close_old(self) -> None:
        if self._old and not self._lanes.outdated:
            old, self._old = self._old, []
            for control in old:
                control.close()

    def _send_status(self) -> None:
        if self._control is not None and self._status is not None:
            members = {"since": self._status_since, "in_flight": self._forwarder.busy, **self._status}
            self._control.say(Say.STATUS, members)

    def _cut(self, running: tuple[Exchange, ...], code: Refusal) -> None:
        for exchange in running:
            exchange.break_off(code)

    def _become(self, **members: Any) -> None:
        self._state = _replaced(self._state, **members)
        self._changed()


def _replaced(state: LinkState, **members: Any) -> LinkState:
    return LinkState(**{**state.__dict__, **members})
