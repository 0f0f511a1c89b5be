"""A rate as a bucket of credit: the generic cell rate algorithm in whole numbers, so nothing is lost to rounding."""

from __future__ import annotations

import math
from typing import Final

MINUTE: Final = 60_000_000_000
"""Nanoseconds in which a whole limit flows back, and so what one unit costs: see `Bucket.due`."""


class Bucket:
    """`limit` units per minute, all of them at once after a minute's rest. Times are monotonic seconds."""

    __slots__ = ("due", "full", "limit")

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.full = limit * MINUTE
        self.due = int(now * 1e9) * limit
        """The moment at which nothing is owed any more, in nanoseconds times the limit. In that measure a unit that is
        taken moves it by `MINUTE`, and it may lie at most `full` ahead.
        """

    def __repr__(self) -> str:
        return f"<Bucket of {self.limit} per minute>"

    def resize(self, limit: int, now: float) -> None:
        """The operator changed the limit; what was taken stays taken."""
        moment = int(now * 1e9)
        owed = max(0, self.due - moment * self.limit)
        self.limit, self.full = limit, limit * MINUTE
        self.due = moment * limit + owed

    def wait(self, units: int, now: float) -> float:
        """Seconds until `units` fit: 0 if they do now, infinite if they never will."""
        if units > self.limit:
            return math.inf
        missing = units * MINUTE + self._owed(now) - self.full
        return 0.0 if missing <= 0 else math.ceil(missing / self.limit) / 1e9

    def take(self, units: int, now: float) -> None:
        """Take units, whether they fit or not: what was used is used. Negative ones are given back."""
        base = int(now * 1e9) * self.limit
        self.due = max(base, self.due) + units * MINUTE

    def remaining(self, now: float) -> int:
        """Whole units that would fit now."""
        free = self.full - self._owed(now)
        return free // MINUTE if free > 0 else 0

    def reset(self, now: float) -> float:
        """Seconds until the bucket is full again."""
        return math.ceil(self._owed(now) / self.limit) / 1e9 if self.limit else math.inf

    def _owed(self, now: float) -> int:
        return max(0, self.due - int(now * 1e9) * self.limit)
