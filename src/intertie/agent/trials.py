"""Measures each loaded model once by a short question, when the node serves and nobody asks for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from intertie.agent import measure
from intertie.agent.inventory import Model, Runtime
from intertie.agent.measure import Rates

FIRST: Final = 30.0
"""Seconds after the start; a node that has just joined is for its first callers."""
EVERY: Final = 15.0


class Trials:
    """`free` says whether a question would disturb nobody now. A model that does not answer is not asked again."""

    def __init__(self, rates: Rates, runtimes: Callable[[], Sequence[Runtime]], free: Callable[[], bool]) -> None:
        self._rates = rates
        self._runtimes = runtimes
        self._free = free
        self._tried: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<Trials, {len(self._tried)} made>"

    async def run(self) -> None:
        """Go on for ever."""
        await asyncio.sleep(FIRST)
        while True:
            await self.once()
            await asyncio.sleep(EVERY)

    async def once(self) -> bool:
        """Measure one model that was not measured yet; true if there was one and it could be asked."""
        found = self._next()
        if found is None or not self._free():
            return False
        runtime, model = found
        self._tried.add((runtime.url, model.name))
        await measure.self_test(runtime, model, busy=lambda: not self._free(), rates=self._rates)
        return True

    def _next(self) -> tuple[Runtime, Model] | None:
        for runtime in self._runtimes():
            for model in runtime.models:
                unknown = model.loaded and "chat" in model.capabilities and self._rates.of(model.name).decode is None
                if unknown and (runtime.url, model.name) not in self._tried:
                    return runtime, model
        return None
