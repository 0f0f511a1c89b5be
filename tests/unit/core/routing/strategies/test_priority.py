"""The operator's order."""

from __future__ import annotations

from random import Random

from intertie.core.routing.strategies.priority import STRATEGY
from tests.unit.core.routing.grid import call, candidate, known


def test_lower_tiers_come_first_then_the_order_as_written() -> None:
    """Weight and pace play no part."""
    given = [candidate("c", tier=1, weight=99), candidate("b", pace=0.1), candidate("a", weight=50)]
    ordered = STRATEGY.order(given, call(), known(), Random(1))
    assert [one.upstream.id for one in ordered] == ["b", "a", "c"]
