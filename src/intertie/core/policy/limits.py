"""What an operator may limit, for whom: the nouns of policy."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from intertie.core.policy.windows import Per


class Level(StrEnum):
    """Whose limit it is. The first five are known when a call arrives, the last two when a target is chosen."""

    ORGANISATION = "organisation"
    PROJECT = "project"
    MEMBER = "member"
    KEY = "key"
    ROUTE = "route"
    MODEL = "model"
    """A model as targets name it."""
    UPSTREAM = "upstream"

    @property
    def of_target(self) -> bool:
        """Only known once a target is chosen."""
        return self is Level.MODEL or self is Level.UPSTREAM

    @property
    def of_caller(self) -> bool:
        """Of whoever calls, who is not charged for what nobody was answered with."""
        return not self.of_target and self is not Level.ORGANISATION


class Measure(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    MONEY = "money"
    """Micro-units."""
    CONCURRENCY = "concurrency"
    """Calls under way."""


class AtCap(StrEnum):
    """What happens to a call that a budget has no room for."""

    REFUSE = "refuse"
    CHEAPER = "cheaper"
    """Targets that still fit are asked, in the plan's order; own machines cost nothing and always fit."""


class Limit(msgspec.Struct, frozen=True, gc=False):
    """One limit. A rate has no `per` and flows continuously; a quota or budget has one and starts afresh with it."""

    id: str
    """Stable across restarts: level, holder, measure and period."""
    level: Level
    holder: str
    """Whose: an organisation's or key's id, a member's address, a project's, route's, model's or upstream's name."""
    measure: Measure
    amount: int
    """Per minute for a rate; per window for a quota or budget; at a time for concurrency."""
    per: Per | None = None
    zone: str = "UTC"
    at_cap: AtCap = AtCap.REFUSE
    thresholds: tuple[int, ...] = (50, 80, 100)
    """Percent of a quota or budget at which somebody is told."""
    wait: float = 0.0
    """Seconds a call may wait for its turn under a limit of concurrency; 0: it is refused at once."""

    @property
    def is_account(self) -> bool:
        """A sum per window: a quota or a budget."""
        return self.per is not None

    @property
    def is_rate(self) -> bool:
        """A continuous rate, as opposed to a sum per window or a number at a time."""
        return self.per is None and self.measure is not Measure.CONCURRENCY


def limit_id(level: Level, holder: str, measure: Measure, per: Per | None) -> str:
    """The id of a limit; one holder has one limit per measure and period."""
    return f"{level}:{holder}:{measure}:{per or 'rate'}"


Amounts = tuple[int, int, int, int]
"""What a call takes, at most before it runs and exactly after: requests, tokens, micro-units and tokens once more.

Rates of tokens count the first of these, before a call runs as many as are likely; quotas of tokens count the last, as
many as are possible. It is a plain tuple because every call makes several.
"""
REQUESTS, TOKENS, MONEY, MOST = range(4)
"""The places in `Amounts`."""
NOTHING: Final[Amounts] = (0, 0, 0, 0)


class Sums(NamedTuple):
    """What one holder took. Money is micro-units, unknown costs left out."""

    requests: int = 0
    tokens: int = 0
    money: int = 0

    def of(self, limit: Limit) -> int:
        """The one that the limit counts."""
        if limit.measure is Measure.REQUESTS:
            return self.requests
        return self.tokens if limit.measure is Measure.TOKENS else self.money
