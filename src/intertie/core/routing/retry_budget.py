"""How many extra attempts we allow ourselves, so that an outage upstream is not made worse by us (S3)."""

from __future__ import annotations

from random import Random
from typing import Final

DEPOSIT: Final = 0.1
COST: Final = 1.0
CHEAP_COST: Final = 0.25
CAPACITY: Final = 10.0
TRICKLE: Final = 0.3
"""Per second, so that low traffic can still fail over."""
LEAST_EXTRAS: Final = 3
EXTRA_SHARE: Final = 0.2
LIMIT: Final = 4096
"""Groups remembered."""

BudgetKey = tuple[str, str]
"""(organisation, route): what shares one budget."""


class _Budget:
    """One group's bucket and what runs in it."""

    __slots__ = ("active", "at", "extras", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = CAPACITY
        self.at = now
        self.active = 0
        self.extras = 0

    def refill(self, now: float) -> None:
        if now > self.at:
            self.tokens = min(CAPACITY, self.tokens + TRICKLE * (now - self.at))
            self.at = now


class RetryBudgets:
    """One budget per group, for retries, failovers and hedges together.

    Each first attempt pays in 0.1, each extra attempt takes 1 out (0.25 if the failed one cost the upstream nothing),
    at most 10 are saved up and 0.3 per second trickle in. Extra attempts in flight are at most 3 or a fifth of the
    active requests. Sustained amplification is therefore at most 1.1, plus the trickle.

    Per request: `begin`, then for each extra attempt `extra` and (if it said yes) `extra_done`, then `end`.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._budgets: dict[BudgetKey, _Budget] = {}

    def __repr__(self) -> str:
        extras = sum(budget.extras for budget in self._budgets.values())
        return f"<RetryBudgets {len(self._budgets)} groups, {extras} extra attempts in flight>"

    def begin(self, key: BudgetKey, now: float) -> None:
        """A request makes its first attempt."""
        budget = self._budgets.get(key)
        if budget is None:
            if len(self._budgets) >= self._limit:
                self._evict(now)
            budget = self._budgets[key] = _Budget(now)
        budget.refill(now)
        budget.tokens = min(CAPACITY, budget.tokens + DEPOSIT)
        budget.active += 1

    def extra(self, key: BudgetKey, now: float, cheap: bool) -> bool:  # noqa: FBT001 - a column of the error table
        """Ask for one extra attempt; yes takes its cost. `cheap`: the failed attempt cost the upstream no work."""
        budget = self._budgets.get(key)
        if budget is None:
            return False
        budget.refill(now)
        cost = CHEAP_COST if cheap else COST
        if budget.tokens < cost or budget.extras >= max(LEAST_EXTRAS, EXTRA_SHARE * budget.active):
            return False
        budget.tokens -= cost
        budget.extras += 1
        return True

    def extra_done(self, key: BudgetKey) -> None:
        """An extra attempt is over, whatever came of it."""
        budget = self._budgets.get(key)
        if budget is not None and budget.extras > 0:
            budget.extras -= 1

    def end(self, key: BudgetKey) -> None:
        """A request is over."""
        budget = self._budgets.get(key)
        if budget is not None and budget.active > 0:
            budget.active -= 1

    def tokens(self, key: BudgetKey, now: float) -> float:
        """What the group has saved up, within [0, 10]."""
        budget = self._budgets.get(key)
        if budget is None:
            return CAPACITY
        budget.refill(now)
        return budget.tokens

    def _evict(self, now: float) -> None:
        """Forget idle groups: a full bucket loses nothing; if that is not enough, the fullest of the rest."""
        idle = [(key, budget) for key, budget in self._budgets.items() if not budget.active and not budget.extras]
        for _, budget in idle:
            budget.refill(now)
        idle.sort(key=lambda entry: -entry[1].tokens)
        keep = max(1, self._limit // 4)
        for place, (key, budget) in enumerate(idle):
            if budget.tokens < CAPACITY and place >= keep:
                break
            del self._budgets[key]


def backoff(n: int, rng: Random, same_target: bool) -> float:  # noqa: FBT001 - two kinds of one question
    """Seconds to wait before attempt `n`, counted from 1.

    Up to 0.25 s x 2^n and at most 4 s for the target that just failed, up to 50 ms for another one. Random from zero,
    so that callers who failed together do not return together.
    """
    return rng.uniform(0.0, min(4.0, 0.25 * 2.0 ** min(n, 16)) if same_target else 0.05)


def patience(remaining: float) -> float:
    """Seconds a request may spend waiting between attempts in all: a quarter of the time left, at most 10."""
    return max(0.0, min(0.25 * remaining, 10.0))
