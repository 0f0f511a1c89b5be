"""The fastest strategy keeps its measurements fresh with a few calls."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from intertie.core.routing.strategies.fastest import EXPLORED
from tests.unit.core.routing.grid import candidate
from tests.unit.core.routing.strategies.test_fastest import order, taught


def test_a_few_calls_explore() -> None:
    """About four in a hundred, evenly among the others, and never beyond the first tier."""
    made = taught(a=0.1, b=0.5, c=0.6, far=0.1)
    given = [candidate("a"), candidate("b"), candidate("c"), candidate("far", tier=1)]
    rng = Random(5)
    counts = Counter(order(given, made, rng, exploring=True)[0] for _ in range(20_000))
    assert counts["a"] / 20_000 == pytest.approx(1 - EXPLORED, abs=0.01)
    assert counts["b"] / 20_000 == pytest.approx(EXPLORED / 2, abs=0.005)
    assert counts["far"] == 0
