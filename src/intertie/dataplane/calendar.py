"""The clock by which windows are chosen: it stands still while the wall's clock is set back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from intertie.core.policy.limits import Limit
from intertie.core.policy.windows import Window


class Calendar:
    """Times are UTC seconds. Nothing is dated in another window than the one that it was held in."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._latest = 0.0
        self._later: dict[str, Mapping[str, int]] = {}

    def __repr__(self) -> str:
        return f"<Calendar at {self.now()}>"

    def now(self) -> float:
        """This moment."""
        return max(self._latest, self._wall())

    def tick(self, at: float | None = None) -> float:
        """This moment, or `at` if that is later than any before: nothing is dated earlier from then on."""
        self._latest = max(self._latest, self._wall() if at is None else at)
        return self._latest

    def expect(self, limit: Limit, later: Mapping[str, int]) -> None:
        """When time comes into one of these windows (by id), so much of the limit is spent in it already."""
        if later:
            self._later[limit.id] = later
        else:
            self._later.pop(limit.id, None)

    def spent(self, limit: Limit, span: Window) -> int:
        """What is spent of a limit when time comes into a window: nothing, unless somebody said so."""
        if not self._later:
            return 0
        return self._later.get(limit.id, {}).get(span.id, 0)
