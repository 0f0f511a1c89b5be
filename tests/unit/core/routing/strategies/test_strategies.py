"""The folder of strategies is the list of strategies."""

from __future__ import annotations

from random import Random

import pytest

from intertie.core.routing.strategies import load
from intertie.core.terms import StrategyName
from tests.unit.core.routing.grid import call, candidate, known


def test_every_name_has_its_file_and_every_file_a_name() -> None:
    """A new strategy is one file and one name."""
    assert set(load()) == set(StrategyName)


@pytest.mark.parametrize("name", list(StrategyName))
@pytest.mark.parametrize("seed", range(20))
def test_a_strategy_orders_and_does_nothing_else(name: StrategyName, seed: int) -> None:
    """Same candidates, none lost or doubled, lower tiers first; same seed, same order."""
    rng = Random(seed)
    given = [
        candidate(f"u{n}", weight=rng.randint(0, 3), tier=rng.randint(0, 2), pace=rng.choice([1.0, 0.5]))
        for n in range(8)
    ]
    strategy = load()[name]
    orders = [strategy.order(given, call(), known(), Random(seed)) for _ in range(2)]
    assert orders[0] == orders[1]
    assert sorted(one.upstream.id for one in orders[0]) == [f"u{n}" for n in range(8)]
    assert [one.target.tier for one in orders[0]] == sorted(one.target.tier for one in given)
