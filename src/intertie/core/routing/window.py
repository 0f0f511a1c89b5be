"""Counting over the last seconds in constant memory."""

from __future__ import annotations


class Window:
    """Attempts and failures of the last `span` seconds, in `slots` equal slots of a ring.

    The oldest slot leaves whole, so the window reaches back between `span - span / slots` and `span` seconds. Read the
    totals after `roll` or `add`. A `now` older than the newest one seen counts as the newest.
    """

    __slots__ = ("_attempts", "_failures", "_newest", "_slots", "_width", "attempts", "failures")

    def __init__(self, span: float, slots: int) -> None:
        self._width = span / slots
        self._slots = slots
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._newest = -1
        self._attempts = [0] * self._slots
        self._failures = [0.0] * self._slots
        self.attempts = 0
        self.failures = 0.0
        """May count halves; sums of halves are exact."""

    def roll(self, now: float) -> None:
        """Drop what is too old at `now`."""
        slot = int(now / self._width)
        if slot <= self._newest:
            return
        if slot - self._newest >= self._slots or self._newest < 0:
            if self.attempts or self.failures:
                self.clear()
        else:
            for stale in range(self._newest + 1, slot + 1):
                place = stale % self._slots
                self.attempts -= self._attempts[place]
                self.failures -= self._failures[place]
                self._attempts[place] = 0
                self._failures[place] = 0.0
        self._newest = slot

    def add(self, now: float, attempts: int, failures: float) -> None:
        """Count at `now`."""
        self.roll(now)
        place = self._newest % self._slots
        self._attempts[place] += attempts
        self.attempts += attempts
        if failures:
            self._failures[place] += failures
            self.failures += failures
