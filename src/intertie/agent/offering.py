"""What this machine offers now: asks its runtimes every few seconds and tells the gateway only what is new."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from intertie.agent import discover, hardware, inventory
from intertie.agent.enrol import is_loopback
from intertie.agent.home import Offer
from intertie.agent.inventory import Runtime
from intertie.agent.measure import Rates

EVERY: Final = 10.0
"""Seconds between two looks, so that a model that was loaded or unloaded is known after so long."""
HARDWARE_EVERY: Final = 300.0
"""Seconds between two readings of the hardware, which hardly changes."""
FORGIVEN: Final = 1
"""Looks a runtime may miss before its models are withdrawn: one that loads a large model may not answer in time."""
_FLEETING: Final = ("memory_used_bytes", "utilisation", "temperature")
"""What graphics cards say differently at each look."""


class Offering:
    """The runtimes and their models, as last seen. `changed(message)` gets each new inventory."""

    def __init__(
        self,
        offer: Offer,
        rates: Rates,
        slots: Callable[[Sequence[Runtime]], int],
        changed: Callable[[dict[str, Any]], None],
    ) -> None:
        self._offer = offer
        self._rates = rates
        self._slots = slots
        self._changed = changed
        self._missed: dict[str, int] = {}
        self._hardware: dict[str, Any] = {}
        self._hardware_at = float("-inf")
        self._told: Mapping[str, Any] | None = None
        self._look_now = asyncio.Event()
        self.runtimes: tuple[Runtime, ...] = ()
        self.revision = 0
        self.looked = False
        """True once the first look is over."""

    def __repr__(self) -> str:
        return f"<Offering revision {self.revision}, {len(self.runtimes)} runtimes>"

    async def run(self) -> None:
        """Look again and again."""
        while True:
            self._look_now.clear()
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._look_now.wait()

    def take(self, offer: Offer) -> None:
        """The owner approved other runtimes: what is no longer approved goes at once, and a look follows."""
        self._offer = offer
        self.runtimes = tuple(one for one in self.runtimes if self._approved(one))
        self._missed.clear()
        self.tell()
        self._look_now.set()

    async def look(self) -> None:
        """Look once."""
        offer = self._offer
        found, _ = await asyncio.gather(
            discover.discover(offer.approved, loopback=offer.discover), self._read_hardware()
        )
        if offer is not self._offer:
            return
        self.runtimes = self._rates.applied(self._with_missed(found))
        self.looked = True
        self.tell()

    def tell(self, *, again: bool = False) -> None:
        """Tell the inventory if it, or the number of slots, differs from what was told last, or `again`."""
        if not self.looked:
            return
        slots = self._slots(self.runtimes)
        lasting = _lasting(inventory.message(self.runtimes, self._hardware, revision=0, slots=slots))
        if lasting == self._told and not again:
            return
        self._told = lasting
        self.revision += 1
        self._changed(inventory.message(self.runtimes, self._hardware, revision=self.revision, slots=slots))

    @property
    def queue(self) -> int | None:
        """Requests that wait inside the runtimes; `None` if none of them tells."""
        known = [runtime.queue for runtime in self.runtimes if runtime.queue is not None]
        return sum(known) if known else None

    async def _read_hardware(self) -> None:
        if (now := time.monotonic()) - self._hardware_at >= HARDWARE_EVERY:
            self._hardware_at = now
            self._hardware = await asyncio.to_thread(hardware.read)

    def _approved(self, runtime: Runtime) -> bool:
        typed = any(discover.origin(one.url) == runtime.url for one in self._offer.approved)
        return typed or (self._offer.discover and is_loopback(urlsplit(runtime.url).hostname or ""))

    def _with_missed(self, found: Sequence[Runtime]) -> tuple[Runtime, ...]:
        there = {runtime.url for runtime in found}
        kept = []
        for runtime in self.runtimes:
            if runtime.url in there:
                self._missed.pop(runtime.url, None)
                continue
            missed = self._missed[runtime.url] = self._missed.get(runtime.url, 0) + 1
            if missed <= FORGIVEN:
                kept.append(runtime)
            else:
                del self._missed[runtime.url]
        return (*found, *kept)


def _lasting(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message without what differs at each look."""
    gpus = message["hardware"].get("gpus") or ()
    steady = [{name: value for name, value in gpu.items() if name not in _FLEETING} for gpu in gpus]
    runtimes = [{**runtime, "queue": None} for runtime in message["runtimes"]]
    return {**message, "hardware": {**message["hardware"], "gpus": steady}, "runtimes": runtimes}
