"""The running account of one quota or budget: spent plus reserved never exceeds its cap."""

from __future__ import annotations

import math

from intertie.core.policy.limits import Limit
from intertie.core.policy.windows import Window


class Age:
    """How often the window of any account has changed: what was held at this age is held in the present windows."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __repr__(self) -> str:
        return f"<Age {self.count}>"


class Account:
    """One limit's sums. A reservation belongs to the window in which it was made, and is settled there."""

    __slots__ = ("cap", "due", "limit", "reserved", "since", "spent", "told", "window")

    def __init__(self, limit: Limit, window: Window, spent: int = 0) -> None:
        self.window = window
        self.since = 0
        """The `Age` at which this window came into force; written by `Counters`."""
        self.spent = spent
        self.reserved = 0
        self.told = 0
        """The highest threshold that was told in this window, in percent."""
        self.due: float = math.inf
        """The sum at which `crossed` has something to say."""
        self.allow(limit)

    def __repr__(self) -> str:
        return f"<Account {self.spent} spent + {self.reserved} reserved of {self.cap} in {self.window.id}>"

    @property
    def free(self) -> int:
        """What can still be reserved."""
        return max(0, self.cap - self.spent - self.reserved)

    def allow(self, limit: Limit) -> None:
        """What the operator allows now. Thresholds are shares of it; those that are passed count as told."""
        self.limit, self.cap, self.told = limit, limit.amount, 0
        self.crossed()

    def begin(self, window: Window, spent: int) -> bool:
        """`spent` is what the books say about `window`; what they say is not told again.

        What is held in that very window stays held. In another one, nothing is: then true.
        """
        other = window.id != self.window.id
        if other:
            # Another object, even if this one was in force before: what was held then is not held any more.
            self.window, self.reserved = Window(*window), 0
        self.spent, self.told = spent, 0
        self.crossed()
        return other

    def enter(self, window: Window, spent: int = 0) -> bool:
        """Time has come into `window`. A clock that goes back opens no window again: the later one stays in force.

        `spent` is what was spent in it before: by an earlier run, whose clock was ahead. True if it is another one.
        """
        later = window.start > self.window.start
        if later:
            self.window, self.spent, self.reserved, self.told = window, spent, 0, 0
            self._expect()
        return later

    def fits(self, amount: int) -> bool:
        """May `amount` be reserved? Nothing always fits."""
        return amount <= 0 or self.spent + self.reserved + amount <= self.cap

    def settle(self, window: Window, reserved: int, spent: int) -> None:
        """End a reservation with what was really spent, once. More than was reserved is recorded in full.

        One of a window that is over ends with it: it takes nothing from the present one.
        """
        if window is self.window:
            self.reserved -= reserved
            self.spent += spent

    def crossed(self) -> list[int]:
        """Thresholds (percent) that the spent sum has reached since the last call, each once per window."""
        found: list[int] = []
        if self.cap > 0:
            share = self.spent * 100 // self.cap
            found = [percent for percent in sorted(self.limit.thresholds) if self.told < percent <= share]
        if found:
            self.told = found[-1]
        self._expect()
        return found

    def _expect(self) -> None:
        ahead = [percent for percent in self.limit.thresholds if percent > self.told]
        self.due = -(-min(ahead) * self.cap // 100) if ahead and self.cap > 0 else math.inf
