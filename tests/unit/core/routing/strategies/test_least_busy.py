"""Whoever has most room left comes first."""

from __future__ import annotations

from collections import Counter
from random import Random

from msgspec.structs import replace

from intertie.core.routing.strategies.least_busy import STRATEGY, UPSTREAM_SLOTS
from intertie.core.routing.traffic import Traffic
from tests.unit.core.routing.grid import MODEL, call, candidate, known, room


def busy(**running: int) -> Traffic:
    made = Traffic()
    for name, count in running.items():
        for _ in range(count):
            made.begin((name, MODEL), 0.0, 10, stream=True)
    return made


def test_calls_under_way_decide_among_upstreams() -> None:
    """By weight: three times the weight, three times the places."""
    given = [candidate("a"), candidate("b"), candidate("big", weight=3)]
    ordered = STRATEGY.order(given, call(), known(traffic=busy(a=9, b=3, big=6)), Random(1))
    assert [one.upstream.id for one in ordered] == ["big", "b", "a"]
    assert ordered[1].why == f"3 of {UPSTREAM_SLOTS} places taken"


def test_a_nodes_own_count_decides_which_knows_of_others_calls() -> None:
    """Its slots as it tells them."""
    full = replace(candidate("full"), room=room(1, 4))
    idle = replace(candidate("idle"), room=room(4, 4))
    ordered = STRATEGY.order([full, idle], call(), known(), Random(1))
    assert [(one.upstream.id, one.score) for one in ordered] == [("idle", 0.25), ("full", 1.0)]


def test_even_loads_are_shared_and_tiers_stay() -> None:
    """By chance, so that a burst does not go to one."""
    given = [candidate("a"), candidate("b"), candidate("far", tier=1)]
    rng = Random(2)
    counts = Counter(STRATEGY.order(given, call(), known(), rng)[0].upstream.id for _ in range(2000))
    assert 800 < counts["a"] < 1200
    assert counts["far"] == 0
