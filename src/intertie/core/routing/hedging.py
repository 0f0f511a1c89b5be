"""When a second target is asked beside the first, and how often (S8)."""

from __future__ import annotations

from collections import deque
from typing import Final

LIMIT: Final = 1024
"""Groups remembered."""
SAVED: Final = 10.0
"""Hedges that quiet times may save up."""
ENOUGH: Final = 20
"""Samples below which nothing is said about what is usual."""
_RECENT: Final = 100
_RENEWED: Final = 10
"""New samples after which the percentile is worked out again: sorting is not free."""

GroupKey = tuple[str, str]
"""(organisation, route): who shares experience and allowance."""


class _Firsts:
    """The newest times to a first output, and their 95th percentile."""

    __slots__ = ("_new", "_recent", "p95")

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._new = 0
        self.p95 = 0.0
        """Seconds; 0 until there are enough."""

    def add(self, seconds: float) -> None:
        self._recent.append(seconds)
        self._new += 1
        if len(self._recent) >= ENOUGH and (self._new >= _RENEWED or not self.p95):
            self._new = 0
            ranked = sorted(self._recent)
            self.p95 = ranked[int(0.95 * (len(ranked) - 1))]


class _Group:
    __slots__ = ("saved", "streamed", "whole")

    def __init__(self) -> None:
        self.saved = 0.0
        self.streamed = _Firsts()
        self.whole = _Firsts()


class Hedges:
    """One allowance per group. It begins empty, so hedges are never more than their share of the requests so far.

    Per request: `begin`; if it is to be hedged, `able` and then `take`; and `saw` for the attempt that answered.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._groups: dict[GroupKey, _Group] = {}

    def __repr__(self) -> str:
        return f"<Hedges of {len(self._groups)} groups>"

    def begin(self, key: GroupKey, share: float) -> None:
        """A request makes its first attempt, and pays `share` of a hedge in."""
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= self._limit:
                del self._groups[next(iter(self._groups))]
            group = self._groups[key] = _Group()
        group.saved = min(SAVED, group.saved + share)

    def delay(self, key: GroupKey, least: float, *, stream: bool) -> float:
        """Seconds without output after which a second target is asked: `least`, or what is usual here if longer."""
        group = self._groups.get(key)
        if group is None:
            return least
        return max(least, (group.streamed if stream else group.whole).p95)

    def able(self, key: GroupKey) -> bool:
        """Whether the share leaves room for one."""
        group = self._groups.get(key)
        return group is not None and group.saved >= _ONE

    def take(self, key: GroupKey) -> None:
        """One begins."""
        self._groups[key].saved -= 1.0

    def saw(self, key: GroupKey, seconds: float, *, stream: bool) -> None:
        """An attempt had its first output (of a whole answer: its end) after so many seconds."""
        group = self._groups.get(key)
        if group is not None:
            (group.streamed if stream else group.whole).add(seconds)


_ONE: Final = 1.0 - 1e-9
"""Fifty times a fiftieth is a little less than one."""
