"""A quota or budget that passed one of the percentages at which somebody is to be told."""

from __future__ import annotations

from typing import Any, NamedTuple

from intertie.core.policy.limits import Limit, Measure
from intertie.core.policy.windows import Window


class Threshold(NamedTuple):
    """Which limit, how far, in which window. Money is micro-units."""

    limit: Limit
    percent: int
    spent: int
    amount: int
    window: Window

    @property
    def organisation(self) -> str:
        """Whose limits these are."""
        return self.limit.id.partition("/")[0]

    def words(self) -> dict[str, Any]:
        """As JSON values, for logs and webhooks."""
        limit = self.limit
        unit = "micros" if limit.measure is Measure.MONEY else str(limit.measure)
        ends = None if self.window.end == float("inf") else int(self.window.end)
        return {
            "organisation": self.organisation,
            "limit": limit.id.partition("/")[2],
            "level": str(limit.level),
            "holder": limit.holder,
            "per": str(limit.per),
            "percent": self.percent,
            "spent": self.spent,
            "amount": self.amount,
            "unit": unit,
            "window": self.window.id,
            "resets_at": ends,
        }
