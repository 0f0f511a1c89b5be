"""In the order the operator wrote them, lower tiers first."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.health import HealthBook
from intertie.core.terms import Call, StrategyName


class Priority:
    """The first target of the lowest tier takes everything while it can."""

    name = StrategyName.PRIORITY

    def order(
        self, targets: Sequence[Candidate], _call: Call, _health: HealthBook, _rng: Random, /
    ) -> Sequence[Candidate]:
        """By tier, then as listed. Weight and pace play no part: the order is the operator's decision."""
        return sorted(targets, key=lambda candidate: candidate.target.tier)


STRATEGY = Priority()
