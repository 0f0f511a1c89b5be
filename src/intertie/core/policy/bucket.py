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

    __slots__ = ("_at", "_credit", "_full", "_seen", "limit")

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._full = self._credit = limit * MINUTE
        self._at = int(now * 1e9)
        self._seen = now

    def __repr__(self) -> str:
        return f"<Bucket {self._credit // MINUTE} of {self.limit}>"

    def resize(self, limit: int, now: float) -> None:
        """The operator changed the limit; what was taken stays taken."""
        self._flow(now)
        self._credit += (limit - self.limit) * MINUTE
        self.limit, self._full = limit, limit * MINUTE

    def wait(self, units: int, now: float) -> float:
        """Seconds until `units` fit: 0 if they do now, infinite if they never will."""
        if units > self.limit:
            return math.inf
        if now != self._seen:
            self._flow(now)
        missing = units * MINUTE - self._credit
        return 0.0 if missing <= 0 else math.ceil(missing / self.limit) / 1e9

    def take(self, units: int, now: float) -> None:
        """Take units, whether they fit or not: what was used is used. Negative ones are given back."""
        if now != self._seen:
            self._flow(now)
        credit = self._credit - units * MINUTE
        self._credit = min(credit, self._full)

    def remaining(self, now: float) -> int:
        """Whole units that would fit now."""
        if now != self._seen:
            self._flow(now)
        return self._credit // MINUTE if self._credit > 0 else 0

    def reset(self, now: float) -> float:
        """Seconds until the bucket is full again."""
        if now != self._seen:
            self._flow(now)
        return math.ceil((self._full - self._credit) / self.limit) / 1e9 if self.limit else math.inf

    def _flow(self, now: float) -> None:
        # One request looks several times at one moment, and only the first look changes anything.
        self._seen = now
        moment = int(now * 1e9)
        if moment > self._at:
            credit = self._credit + (moment - self._at) * self.limit
            self._credit = min(credit, self._full)
            self._at = moment
