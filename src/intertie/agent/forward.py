"""Which runtime takes what a gateway asks, if any.

The gateway is not trusted: it chooses among a fixed list of paths and the models of runtimes that the owner approved,
and anything else is refused before a connection is opened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from intertie.agent.exchange import Carrier, Exchange
from intertie.agent.http import RuntimeGone
from intertie.agent.inventory import Runtime, holders
from intertie.agent.measure import Meter
from intertie.agent.order import Order
from intertie.agent.slots import Slots
from intertie.core.wire.link import Refusal

_ASK_AGAIN: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds between questions whether a runtime has dropped what was abandoned; the last one repeats."""


class Forwarder:
    """Takes orders for the runtimes of this machine.

    `may_serve` gives the reason for which nothing is taken now, or None. `running` asks a runtime how many exchanges
    it works on itself; without it, or where the answer is None, closing the connection is trusted to stop it.
    """

    def __init__(
        self,
        runtimes: Callable[[], Sequence[Runtime]],
        may_serve: Callable[[], Refusal | None],
        running: Callable[[Runtime], Awaitable[int | None]] | None = None,
        meter: Callable[[str], Meter] | None = None,
    ) -> None:
        """`meter` makes what times an answer of a model, by its name."""
        self._runtimes = runtimes
        self._may_serve = may_serve
        self._running = running
        self._meter = meter
        self._slots = Slots()
        self._drains: dict[str, asyncio.Task[None]] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when capacity comes back later than an exchange ended."""
        self.stopping: Refusal | None = None
        """Why nothing is taken any more, whatever `may_serve` says."""
        self.under_way: set[Exchange] = set()

    def __repr__(self) -> str:
        return f"<Forwarder {self._slots!r}>"

    @property
    def busy(self) -> int:
        """Exchanges that a runtime works on."""
        return self._slots.busy

    @property
    def draining(self) -> int:
        """Slots that are not free yet although their exchange is gone."""
        return self._slots.draining

    def take(self, order: Order, carrier: Carrier) -> Exchange:
        """An exchange, or one that will be refused when its request is whole; `start` is for the caller to call."""
        meter = self._meter(order.model) if self._meter is not None else None
        exchange = Exchange(carrier, order, self._choose(order), self._release, meter)
        if exchange.accepted:
            self.under_way.add(exchange)
        return exchange

    def close(self) -> None:
        """Give up asking runtimes about what was abandoned."""
        for task in tuple(self._drains.values()):
            task.cancel()

    def _release(self, exchange: Exchange, runtime: Runtime) -> None:
        """An exchange has ended and its connection is closed."""
        self.under_way.discard(exchange)
        if exchange.clean or self._running is None:
            self._slots.free(runtime.url)
            return
        self._slots.abandon(runtime.url, time.monotonic())
        if runtime.url not in self._drains:
            self._drains[runtime.url] = asyncio.get_running_loop().create_task(self._drain(runtime, self._running))

    def _choose(self, order: Order) -> Runtime | Refusal:
        """A runtime with a slot taken in it, or why there is none."""
        if not order.allowed:
            return Refusal.POLICY
        unwilling = self.stopping or self._may_serve()
        if unwilling is not None:
            return unwilling
        having = holders(self._runtimes(), order.model)
        for runtime in having:
            if self._slots.take(runtime.url, runtime.slots):
                return runtime
        return Refusal.BUSY if having else Refusal.NO_MODEL

    async def _drain(self, runtime: Runtime, running: Callable[[Runtime], Awaitable[int | None]]) -> None:
        """Ask until the runtime has dropped what was abandoned, or has had its time."""
        asked = 0
        try:
            while self._slots.drains(runtime.url):
                await asyncio.sleep(_ASK_AGAIN[min(asked, len(_ASK_AGAIN) - 1)])
                asked += 1
                try:
                    count = await running(runtime)
                except RuntimeGone:  # perhaps too busy to say
                    count = self._slots.used(runtime.url)
                self._slots.settle(runtime.url, count, time.monotonic())
                self.changed()
        finally:
            self._drains.pop(runtime.url, None)
