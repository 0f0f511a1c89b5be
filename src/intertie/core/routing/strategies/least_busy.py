"""Who has the most room left, lower tiers first."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.known import Known
from intertie.core.terms import Call, StrategyName

CHANCE: Final = 0.05
"""Loads closer than this are even: calls planned at the same moment then go to different targets."""
UPSTREAM_SLOTS: Final = 16
"""Places that an upstream is taken to have for each unit of its weight, since a provider does not say."""


class LeastBusy:
    """Knows how many of its calls are under way at each target, and a node's own count of slots and what fills them,
    calls from elsewhere included. Does not know how busy a provider is with others.
    """

    name = StrategyName.LEAST_BUSY
    shares = False

    def order(self, targets: Sequence[Candidate], _call: Call, known: Known, rng: Random, /) -> Sequence[Candidate]:
        """By tier, then by the share of its places that would be taken with this call."""
        drawn = [(_loaded(one, known), rng.random() * CHANCE) for one in targets]
        drawn.sort(key=lambda pair: (pair[0].target.tier, (pair[0].score or 0.0) + pair[1]))
        return [one for one, _ in drawn]


def _loaded(one: Candidate, known: Known) -> Candidate:
    places = UPSTREAM_SLOTS * max(1, one.target.weight)
    taken = known.traffic.in_flight(one.key)
    if one.room is not None:
        places = max(1, one.room.slots)
        taken = max(places - one.room.free, 0)
    return replace(one, score=(taken + 1) / places, why=f"{taken} of {places} places taken")


STRATEGY = LeastBusy()
