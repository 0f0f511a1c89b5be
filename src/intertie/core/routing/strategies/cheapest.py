"""What this very call is expected to cost, lower tiers first."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from intertie.core.pricing import cost
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.known import Known
from intertie.core.routing.sharing import evened
from intertie.core.terms import Call, StrategyName, Usage


class Cheapest:
    """Knows the counted input, the usual output of the route within the caller's bound, prices, and whose prompt cache
    has the conversation. Does not know how good answers are, how long they take, or who will fail.
    """

    name = StrategyName.CHEAPEST
    shares = False

    def order(self, targets: Sequence[Candidate], _call: Call, known: Known, rng: Random, /) -> Sequence[Candidate]:
        """By tier, then by expected cost in micro-units; an unknown price comes last in its tier, for it has no bound.

        Of equal cost, such as several machines of one's own: nodes share among themselves, others as listed.
        """
        costed = sorted((_costed(one, known) for one in targets), key=lambda one: (*one.turn(), one.position))
        return evened(costed, rng)


def _costed(one: Candidate, known: Known) -> Candidate:
    price = one.upstream.models.get(one.target.model)
    if price is None:
        return replace(one, score=None, why="its price is unknown")
    cached = min(known.tokens, known.held.tokens) if known.held is not None and known.held.key == one.key else 0
    spent = cost(Usage(input=known.tokens, output=known.output, cached=cached), price)
    assert spent is not None
    why = f"{spent / 1e6:.6f} for {known.tokens} input and about {known.output} output tokens"
    if cached and price.cached_input is not None:
        why += f", {cached} of them cached there"
    return replace(one, score=float(spent), why=why)


STRATEGY = Cheapest()
