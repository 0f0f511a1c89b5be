"""Traffic shared in proportion to weight, lower tiers first."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.known import Known
from intertie.core.terms import Call, StrategyName


class Weighted:
    """Each target of a tier comes first as often as its share of the tier's weight says."""

    name = StrategyName.WEIGHTED
    shares = True

    def order(self, targets: Sequence[Candidate], _call: Call, _known: Known, rng: Random, /) -> Sequence[Candidate]:
        """A weighted random order within each tier; the weight of a slow target is reduced by its pace.

        Exponential waiting times: the one with the shortest is first with probability weight / sum of weights, and the
        rest are ordered alike among themselves. Weight 0 comes last in its tier, for failover only.
        """

        def drawn(candidate: Candidate) -> Candidate:
            weight = candidate.target.weight * candidate.pace
            return replace(candidate, score=rng.expovariate(weight) if weight > 0 else None, why=f"weight {weight:g}")

        return sorted(map(drawn, targets), key=Candidate.turn)


STRATEGY = Weighted()
