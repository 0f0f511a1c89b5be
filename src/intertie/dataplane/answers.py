"""Where answers are kept and awaited: the store, the flights under way, and the tasks that keep what has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from intertie.core.policy.answers import placing
from intertie.core.routing.resolve import ANY
from intertie.core.terms import Route, Snapshot
from intertie.dataplane.flights import Flights
from intertie.dataplane.ports import ResponseCache


class Answers:
    """What the cache step of the pipeline shares between requests. Belongs to the event loop."""

    def __init__(self, store: ResponseCache, salt: str) -> None:
        self.store = store
        self.salt = salt
        """Secret; part of every key, so that a key on disk does not tell what was asked."""
        self.flights = Flights()
        self._revision = -1
        self._placings: dict[tuple[str, str], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Answers {len(self.flights)} flights, {len(self._tasks)} being kept>"

    def placing(self, route: Route, snapshot: Snapshot) -> str:
        """`core.policy.answers.placing`, worked out once per route and configuration.

        Each time for the route `*`, which has other targets for each of any number of models.
        """
        if route.model == ANY:
            return placing(route, snapshot)
        if snapshot.revision != self._revision:
            self._placings.clear()
            self._revision = snapshot.revision
        key = (route.organisation, route.model)
        found = self._placings.get(key)
        if found is None:
            found = self._placings[key] = placing(route, snapshot)
        return found

    def background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` past the end of its request."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settled(self) -> None:
        """Return once nothing is being kept any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)
