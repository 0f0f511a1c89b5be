"""Where answers are kept and awaited: the store, the flights under way, and the tasks that keep what has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from intertie.core.policy.answers import CacheStatistics, Selection, placing
from intertie.core.terms import Route, Snapshot, Target
from intertie.dataplane.flights import Flights
from intertie.dataplane.neighbours import Neighbours
from intertie.dataplane.ports import Embedder, ResponseCache

T = TypeVar("T")

REMEMBERED: Final = 4096
"""Placings; a route that passes models through has one for each of them."""


class Answers:
    """What the cache step of the pipeline shares between requests. Belongs to the event loop."""

    def __init__(self, store: ResponseCache, salt: str) -> None:
        self.store = store
        self.embedder: Embedder | None = None
        """Who makes vectors of questions; `None`: nothing is like another."""
        self.neighbours = Neighbours()
        self.salt = salt
        """Secret; part of every key, so that a key on disk does not tell what was asked."""
        self.flights = Flights()
        self._revision = -1
        self._placings: dict[tuple[Target, ...], str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Answers {len(self.flights)} flights, {len(self._tasks)} being kept>"

    def placing(self, route: Route, snapshot: Snapshot) -> str:
        """`core.policy.answers.placing`, worked out once per targets and configuration."""
        if snapshot.revision != self._revision or len(self._placings) >= REMEMBERED:
            self._placings.clear()
            self._revision = snapshot.revision
        found = self._placings.get(route.targets)
        if found is None:
            found = self._placings[route.targets] = placing(route, snapshot)
        return found

    def background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` past the end of its request."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def forget(self, which: Selection) -> int:
        """Forget the answers chosen, and what similar questions would find them by; how many there were."""
        self.neighbours.clear(which)
        return await self.store.clear(which)

    def statistics(self) -> CacheStatistics:
        """Numbers of this moment."""
        return replace(
            self.store.statistics(),
            similar_entries=len(self.neighbours),
            similar_bytes=self.neighbours.bytes,
            similar_failure=self.embedder.failure if self.embedder is not None else "",
        )

    async def settled(self) -> None:
        """Return once nothing is being kept any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)
