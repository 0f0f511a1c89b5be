"""The fastest strategy keeps its measurements fresh with a few calls."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.strategies.fastest import EXPLORED, STRATEGY
from intertie.core.routing.traffic import Traffic
from tests.unit.core.routing.grid import MODEL, call, candidate, known

NOW = 1000.0


def taught(**first: float) -> Traffic:
    """Streams of about a second's age, by upstream and seconds to the first output."""
    made = Traffic()
    for name, seconds in first.items():
        ticket = made.begin((name, MODEL), NOW - 1 - seconds, 10, stream=True)
        ticket.first = seconds
        made.end(ticket, NOW - 1, 1)
    return made


def order(given: list[Candidate], made: Traffic, rng: Random | None = None, *, exploring: bool = False) -> list[str]:
    told = known(traffic=made, now=NOW, tokens=10, output=1, exploring=exploring)
    return [one.upstream.id for one in STRATEGY.order(given, call(), told, rng or Random(3))]


def test_a_few_calls_explore() -> None:
    """About four in a hundred, evenly among the others, and never beyond the first tier."""
    made = taught(a=0.1, b=0.5, c=0.6, far=0.1)
    given = [candidate("a"), candidate("b"), candidate("c"), candidate("far", tier=1)]
    rng = Random(5)
    counts = Counter(order(given, made, rng, exploring=True)[0] for _ in range(20_000))
    assert counts["a"] / 20_000 == pytest.approx(1 - EXPLORED, abs=0.01)
    assert counts["b"] / 20_000 == pytest.approx(EXPLORED / 2, abs=0.005)
    assert counts["far"] == 0
