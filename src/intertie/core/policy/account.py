"""The running account of one quota or budget: spent plus reserved never exceeds its cap."""

from __future__ import annotations

from collections.abc import Iterable

from intertie.core.policy.windows import Window


class Account:
    """One limit's sums. A reservation belongs to the window in which it was made, and is settled there."""

    __slots__ = ("_past", "cap", "reserved", "spent", "told", "window")

    def __init__(self, cap: int, window: Window, spent: int = 0) -> None:
        self.cap = cap
        self.window = window
        self.spent = spent
        self.reserved = 0
        self.told = 0
        """The highest threshold that was told in this window, in percent."""
        self._past: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Account {self.spent} spent + {self.reserved} reserved of {self.cap} in {self.window.id}>"

    @property
    def free(self) -> int:
        """What can still be reserved."""
        return max(0, self.cap - self.spent - self.reserved)

    def enter(self, window: Window, spent: int = 0) -> None:
        """Time has come into `window`. A clock that goes back opens no window again: the later one stays in force.

        `spent` is what was spent in it before: by an earlier run, whose clock was ahead.
        """
        if window.start > self.window.start:
            if self.reserved:
                self._past[self.window.id] = self.reserved
            self.window, self.spent, self.reserved, self.told = window, spent, 0, 0

    def resize(self, cap: int, thresholds: Iterable[int]) -> None:
        """The operator changed the cap. Thresholds are shares of the new one; those that are passed count as told."""
        self.cap, self.told = cap, 0
        self.crossed(thresholds)

    def fits(self, amount: int) -> bool:
        """May `amount` be reserved? Nothing always fits."""
        return amount <= 0 or self.spent + self.reserved + amount <= self.cap

    def reserve(self, amount: int) -> str:
        """Reserve what `fits`; the id of the window it belongs to, for `settle`."""
        assert self.fits(amount)
        self.reserved += amount
        return self.window.id

    def settle(self, window: str, reserved: int, spent: int) -> None:
        """End a reservation with what was really spent, once. More than was reserved is recorded in full."""
        if window == self.window.id:
            self.reserved -= reserved
            self.spent += spent
            return
        left = self._past.get(window, 0) - reserved
        if left > 0:
            self._past[window] = left
        else:
            self._past.pop(window, None)

    def due(self, thresholds: Iterable[int]) -> bool:
        """Whether `crossed` would find any."""
        if not self.spent:
            return False
        share = self.spent * 100 // self.cap if self.cap > 0 else 0
        return share > self.told and any(self.told < percent <= share for percent in thresholds)

    def crossed(self, thresholds: Iterable[int]) -> list[int]:
        """Thresholds (percent) that the spent sum has reached since the last call, each once per window."""
        if self.cap <= 0:
            return []
        share = self.spent * 100 // self.cap
        found = [percent for percent in sorted(thresholds) if self.told < percent <= share]
        if found:
            self.told = found[-1]
        return found
