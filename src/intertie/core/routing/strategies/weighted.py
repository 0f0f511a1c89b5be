"""Traffic shared in proportion to weight, lower tiers first."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.health import HealthBook
from intertie.core.terms import Call, StrategyName


class Weighted:
    """Each target of a tier comes first as often as its share of the tier's weight says."""

    name = StrategyName.WEIGHTED

    def order(
        self, targets: Sequence[Candidate], _call: Call, _health: HealthBook, rng: Random, /
    ) -> Sequence[Candidate]:
        """A weighted random order within each tier; the weight of a slow target is reduced by its pace.

        Exponential waiting times: the one with the shortest is first with probability weight / sum of weights, and the
        rest are ordered alike among themselves. Weight 0 comes last in its tier, for failover only.
        """

        def turn(candidate: Candidate) -> tuple[int, float]:
            weight = candidate.target.weight * candidate.pace
            return candidate.target.tier, rng.expovariate(weight) if weight > 0 else float("inf")

        return sorted(targets, key=turn)


STRATEGY = Weighted()
