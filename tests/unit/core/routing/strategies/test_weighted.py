"""Traffic in proportion to weight."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.strategies.weighted import STRATEGY
from tests.unit.core.routing.grid import call, candidate, known


def firsts(given: list[Candidate], rounds: int = 4000) -> dict[str, float]:
    """How often each comes first."""
    rng, told = Random(7), known()
    counts = Counter(STRATEGY.order(given, call(), told, rng)[0].upstream.id for _ in range(rounds))
    return {name: n / rounds for name, n in counts.items()}


def test_each_comes_first_as_often_as_its_weight_says() -> None:
    """Weights 6, 3, 1."""
    shares = firsts([candidate("a", weight=6), candidate("b", weight=3), candidate("c", weight=1)])
    assert shares == {
        "a": pytest.approx(0.6, abs=0.03),
        "b": pytest.approx(0.3, abs=0.03),
        "c": pytest.approx(0.1, abs=0.02),
    }


def test_the_second_place_is_shared_by_weight_as_well() -> None:
    """With the first one gone, 3 to 1 decide among the rest."""
    rng, told = Random(7), known()
    given = [candidate("a", weight=100), candidate("b", weight=3), candidate("c", weight=1)]
    seconds = Counter(STRATEGY.order(given, call(), told, rng)[1].upstream.id for _ in range(4000))
    assert seconds["b"] / (seconds["b"] + seconds["c"]) == pytest.approx(0.75, abs=0.03)


def test_a_slow_targets_weight_is_scaled_by_its_pace() -> None:
    """Half the pace, a third of the traffic instead of half."""
    assert firsts([candidate("a", pace=0.5), candidate("b")])["a"] == pytest.approx(1 / 3, abs=0.03)


def test_weight_zero_is_last_in_its_tier_but_before_the_next() -> None:
    """For failover only."""
    given = [candidate("spare", weight=0), candidate("main"), candidate("far", tier=1)]
    for seed in range(50):
        ordered = STRATEGY.order(given, call(), known(), Random(seed))
        assert [one.upstream.id for one in ordered] == ["main", "spare", "far"]
