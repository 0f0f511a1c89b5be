"""Who is measured to answer soonest, lower tiers first; a few calls go to others, so that what is known stays true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.known import Known
from intertie.core.routing.sharing import evened
from intertie.core.terms import Call, StrategyName

EXPLORED: Final = 0.04
"""Share of calls that go to another target than the best, by chance."""
STALE: Final = 20.0
"""Seconds after which a target that was sent nothing of a kind and size gets the next such call."""
SPARING: Final = 5.0
"""At most one call in so many refreshes a stale target: where calls are rare, all would be stale always."""


class Fastest:
    """Knows, from real traffic of the last seconds, each target's time to the first output and its tokens per second,
    for small, medium and large inputs, streamed and whole; and the usual output of the route. Does not know the future,
    and nothing of a target that was never asked: that one is asked.
    """

    name = StrategyName.FASTEST
    shares = False

    def order(self, targets: Sequence[Candidate], call: Call, known: Known, rng: Random, /) -> Sequence[Candidate]:
        """By tier, then by expected seconds; what nobody measured comes last in its tier, unless it is explored. Nodes
        that nobody measured share among themselves.

        Explored is the first tier only, and never a node without a free slot: its call would have to wait. Of calls for
        which rules prefer some targets, only those are explored: the others would come behind them all the same.
        """
        timed = sorted((_timed(one, call, known) for one in targets), key=lambda one: (*one.turn(), one.position))
        order = evened(timed, rng)
        chosen = _explored(order, call, known, rng) if known.exploring else None
        if chosen is None:
            return order
        ahead = [one for one in order if one.target.tier < chosen.target.tier]
        first = replace(chosen, why=f"asked to keep its figures fresh; {chosen.why}")
        return [*ahead, first, *(one for one in order[len(ahead) :] if one is not chosen)]


def _explored(order: Sequence[Candidate], call: Call, known: Known, rng: Random) -> Candidate | None:
    """Who gets this call instead of the best one of those that rules prefer most, if anybody.

    By chance and not by turns: one that never gets what it is chosen for, because its credentials or limits are spent,
    must not stand in the way of the others.
    """
    preferred = max(one.preferred for one in order)
    best, *rest = (one for one in order if one.preferred == preferred)
    others = [one for one in rest if one.target.tier == best.target.tier and not _full(one)]
    if not others:
        return None
    rested, *idle = (
        known.traffic.idle(one.key, known.now, known.tokens, stream=call.stream) for one in (best, *others)
    )
    if rested == math.inf:
        return None
    if rng.random() < EXPLORED:
        return rng.choice(others)
    stale = [one for one, seconds in zip(others, idle, strict=True) if seconds >= STALE]
    if stale and min(idle) >= SPARING * rested:
        return rng.choice(stale)
    new = [one for one, seconds in zip(others, idle, strict=True) if seconds == math.inf]
    return rng.choice(new) if new else None


def _timed(one: Candidate, call: Call, known: Known) -> Candidate:
    seconds = known.traffic.expected(one.key, known.now, known.tokens, known.output, stream=call.stream)
    if seconds is None:
        return replace(one, score=None, why="not measured yet")
    return replace(one, score=seconds, why=f"{seconds:.2f} s for about {known.output} output tokens")


def _full(one: Candidate) -> bool:
    return one.room is not None and one.room.full


STRATEGY = Fastest()
