"""The clock by which windows are chosen, and what is known of windows that have not begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from intertie.core.policy.limits import Limit
from intertie.core.policy.windows import Window

_NOTHING_LATER: Final[Mapping[str, int]] = MappingProxyType({})


class Calendar:
    """It stands still while the wall's clock is set back: else an entry could be dated in another window than the one
    that it was held in. Times are UTC seconds.
    """

    __slots__ = ("_later", "_latest", "_wall")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._latest = 0.0
        self._later: dict[str, Mapping[str, int]] = {}

    def __repr__(self) -> str:
        return f"<Calendar at {self._latest:.0f}>"

    def now(self) -> float:
        """This moment."""
        return max(self._latest, self._wall())

    def tick(self, at: float | None = None) -> float:
        """The moment `at` (now, if omitted) by this clock: nothing is dated earlier from then on."""
        if at is None:
            at = self._wall()
        self._latest = max(self._latest, at)
        return self._latest

    def expect(self, limit: Limit, later: Mapping[str, int]) -> None:
        """When time comes into one of these windows (by id), so much of the limit is spent in it already."""
        if later:
            self._later[limit.id] = later
        else:
            self._later.pop(limit.id, None)

    def spent(self, limit: Limit, span: Window) -> int:
        """What was spent in a window before time came into it."""
        return self._later.get(limit.id, _NOTHING_LATER).get(span.id, 0) if self._later else 0
