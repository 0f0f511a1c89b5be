"""A rate as a bucket of credit: the generic cell rate algorithm in whole numbers, so nothing is lost to rounding."""

from __future__ import annotations

import math
from typing import Final

MINUTE: Final = 60_000_000_000
"""Nanoseconds in which a whole limit flows back."""


class Bucket:
    """`limit` units per minute, all of them at once after a minute's rest. Times are monotonic seconds.

    Credit is kept in units times nanoseconds: `limit` of it comes back each nanosecond, one unit costs `MINUTE`.
    """

    __slots__ = ("_at", "_credit", "limit")

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._credit = limit * MINUTE
        self._at = _nanoseconds(now)

    def __repr__(self) -> str:
        return f"<Bucket {self._credit // MINUTE} of {self.limit}>"

    def resize(self, limit: int, now: float) -> None:
        """The operator changed the limit; what was taken stays taken."""
        self._flow(now)
        self._credit += (limit - self.limit) * MINUTE
        self.limit = limit

    def wait(self, units: int, now: float) -> float:
        """Seconds until `units` fit: 0 if they do now, infinite if they never will."""
        if units > self.limit:
            return math.inf
        self._flow(now)
        missing = units * MINUTE - self._credit
        return 0.0 if missing <= 0 else math.ceil(missing / self.limit) / 1e9

    def take(self, units: int, now: float) -> None:
        """Take units, whether they fit or not: what was used is used. Negative ones are given back."""
        self._flow(now)
        self._credit = min(self._credit - units * MINUTE, self.limit * MINUTE)

    def remaining(self, now: float) -> int:
        """Whole units that would fit now."""
        self._flow(now)
        return max(0, self._credit // MINUTE)

    def reset(self, now: float) -> float:
        """Seconds until the bucket is full again."""
        self._flow(now)
        missing = self.limit * MINUTE - self._credit
        return math.ceil(missing / self.limit) / 1e9 if self.limit else math.inf

    def _flow(self, now: float) -> None:
        moment = _nanoseconds(now)
        if moment > self._at:
            self._credit = min(self._credit + (moment - self._at) * self.limit, self.limit * MINUTE)
            self._at = moment


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
