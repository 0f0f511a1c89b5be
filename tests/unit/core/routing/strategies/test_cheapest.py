"""What this very call costs decides."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.strategies.cheapest import STRATEGY
from intertie.core.routing.traffic import Held
from intertie.core.terms import Price
from tests.unit.core.routing.grid import MODEL, call, candidate, known, room


def priced(name: str, price: Price | None, *, tier: int = 0, position: int = 0) -> Candidate:
    made = candidate(name, tier=tier)
    return replace(made, upstream=replace(made.upstream, models={MODEL: price}), position=position)


def order(*given: Candidate, tokens: int = 1000, output: int = 100, held: Held | None = None) -> list[str]:
    told = known(tokens=tokens, output=output, held=held)
    return [one.upstream.id for one in STRATEGY.order(given, call(), told, Random(1))]


LONG_IN = Price(1_000_000, 20_000_000)
LONG_OUT = Price(5_000_000, 4_000_000)


def test_the_calls_own_shape_decides() -> None:
    """Cheap input wins for a long prompt, cheap output for a long answer."""
    given = priced("in", LONG_IN), priced("out", LONG_OUT, position=1)
    assert order(*given, tokens=10_000, output=10) == ["in", "out"]
    assert order(*given, tokens=10, output=10_000) == ["out", "in"]


def test_free_comes_first_and_unknown_last_in_its_tier() -> None:
    """Unknown is never zero; a lower tier still comes before."""
    given = (
        priced("unknown", None),
        priced("dear", LONG_OUT, position=1),
        priced("free", Price(0, 0), position=2),
        priced("far", Price(0, 0), tier=1, position=3),
    )
    assert order(*given) == ["free", "dear", "unknown", "far"]


def test_a_known_conversation_gets_its_discount() -> None:
    """The holder is dearer by list, and cheaper for what it has cached."""
    cached = Price(2_000_000, 4_000_000, cached_input=200_000)
    given = priced("plain", Price(1_500_000, 4_000_000)), priced("holder", cached, position=1)
    assert order(*given) == ["plain", "holder"]
    held = Held(("holder", MODEL), 900, 0.0)
    assert order(*given, held=held) == ["holder", "plain"]
    assert order(*given, held=Held(("plain", MODEL), 900, 0.0)) == ["plain", "holder"]


def test_the_score_is_the_cost_and_the_reason_says_of_what() -> None:
    """Micro-units for 1,000 tokens in and 100 out."""
    (one,) = STRATEGY.order([priced("in", LONG_IN)], call(), known(tokens=1000, output=100), Random(1))
    assert one.score == 3000.0
    assert one.why == "0.003000 for 1000 input and about 100 output tokens"


def test_of_equal_cost_as_listed_and_nodes_share() -> None:
    """Three machines of one's own: the one with room comes first."""
    free = Price(0, 0)
    assert order(priced("b", free, position=1), priced("a", free)) == ["a", "b"]
    full = replace(priced("full", free), room=room(0))
    idle = replace(priced("idle", free, position=1), room=room(4))
    assert order(full, idle) == ["idle", "full"]
