"""Who is measured to answer soonest, lower tiers first; a few calls go to others, so that what is known stays true."""

from __future__ import annotations

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
"""Seconds after which a target that was sent nothing gets the next call."""


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

        Explored is the first tier only, and never a node without a free slot: its call would have to wait.
        """
        timed = sorted((_timed(one, call, known) for one in targets), key=lambda one: (*one.turn(), one.position))
        order = evened(timed, rng)
        others = [one for one in order[1:] if one.target.tier == order[0].target.tier and not _full(one)]
        if not others or not known.exploring:
            return order
        stalest = max(others, key=lambda one: known.traffic.idle(one.key, known.now))
        chosen = None
        if known.traffic.idle(stalest.key, known.now) >= STALE:
            chosen = stalest
        elif rng.random() < EXPLORED:
            chosen = rng.choice(others)
        if chosen is None:
            return order
        first = replace(chosen, why=f"asked to keep its figures fresh; {chosen.why}")
        return [first, *(one for one in order if one is not chosen)]


def _timed(one: Candidate, call: Call, known: Known) -> Candidate:
    seconds = known.traffic.expected(one.key, known.now, known.tokens, known.output, stream=call.stream)
    if seconds is None:
        return replace(one, score=None, why="not measured yet")
    return replace(one, score=seconds, why=f"{seconds:.2f} s for about {known.output} output tokens")


def _full(one: Candidate) -> bool:
    return one.room is not None and one.room.full


STRATEGY = Fastest()
