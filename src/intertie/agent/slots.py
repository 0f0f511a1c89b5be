"""How many exchanges each runtime works on, counting those it was told to drop and may not have noticed yet."""

from __future__ import annotations

from collections import deque
from typing import Final

DRAIN_SECONDS: Final = 30.0
"""How long an abandoned exchange is counted at most, whatever the runtime says of itself."""


class _Place:
    __slots__ = ("busy", "draining")

    def __init__(self) -> None:
        self.busy = 0
        self.draining: deque[float] = deque()


class Slots:
    """Accounts by a runtime's address. Times are seconds of one steady clock."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.busy} busy, {self.draining} draining>"

    @property
    def busy(self) -> int:
        """Exchanges under way, at all runtimes."""
        return sum(place.busy for place in self._places.values())

    @property
    def draining(self) -> int:
        """Exchanges given up on which a runtime may still work."""
        return sum(len(place.draining) for place in self._places.values())

    def used(self, where: str) -> int:
        """Slots of one runtime that cannot be taken."""
        place = self._places.get(where)
        return place.busy + len(place.draining) if place is not None else 0

    def drains(self, where: str) -> bool:
        """Whether exchanges were given up on which this runtime may still work."""
        place = self._places.get(where)
        return place is not None and bool(place.draining)

    def take(self, where: str, capacity: int) -> bool:
        """Count one more exchange, unless `capacity` is reached."""
        if self.used(where) >= capacity:
            return False
        self._places.setdefault(where, _Place()).busy += 1
        return True

    def free(self, where: str) -> None:
        """An exchange has ended, and the runtime knows."""
        self._places[where].busy -= 1
        self._forget(where)

    def abandon(self, where: str, now: float) -> None:
        """An exchange was given up: its connection is closed, but the runtime may not have stopped."""
        place = self._places[where]
        place.busy -= 1
        place.draining.append(now)

    def settle(self, where: str, count: int | None, now: float) -> None:
        """The runtime says that it works on `count` exchanges, `None` if it does not tell.

        What goes beyond those under way must be abandoned ones, so as many are still counted, but none too long.
        """
        place = self._places.get(where)
        if place is None:
            return
        left = 0 if count is None else max(0, count - place.busy)
        while place.draining and (len(place.draining) > left or now - place.draining[0] >= DRAIN_SECONDS):
            place.draining.popleft()
        self._forget(where)

    def _forget(self, where: str) -> None:
        place = self._places[where]
        if not place.busy and not place.draining:
            del self._places[where]
