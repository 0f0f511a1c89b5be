"""In the order the operator wrote them, lower tiers first."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.known import Known
from intertie.core.terms import Call, StrategyName


class Priority:
    """The first target of the lowest tier takes everything while it can."""

    name = StrategyName.PRIORITY
    shares = True

    def order(self, targets: Sequence[Candidate], _call: Call, _known: Known, _rng: Random, /) -> Sequence[Candidate]:
        """By tier, then as listed. Weight and pace play no part: the order is the operator's decision."""
        placed = (replace(one, score=float(one.position), why=f"listed at {one.position + 1}") for one in targets)
        return sorted(placed, key=lambda one: one.target.tier)


STRATEGY = Priority()
