"""How nodes that are as good as each other share the work."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.sharing import shared
from tests.unit.core.routing.grid import candidate, room


def first(*nodes: Candidate, calls: int = 2000) -> dict[str, float]:
    """Which part of the calls each node gets first."""
    rng = Random(5)
    counts = Counter(shared(nodes, rng)[0].upstream.id for _ in range(calls))
    return {one.upstream.id: counts[one.upstream.id] / calls for one in nodes}


def names(order: object) -> list[str]:
    assert isinstance(order, list | tuple)
    return [one.upstream.id for one in order]


def test_idle_equals_get_equal_shares() -> None:
    """Also when all are planned at once, before any has taken a slot."""
    assert first(*(candidate(name, room=room()) for name in "ab")) == {
        "a": pytest.approx(0.5, abs=0.05),
        "b": pytest.approx(0.5, abs=0.05),
    }
    shares = first(*(candidate(name, room=room()) for name in "abcdefgh"))
    assert all(share == pytest.approx(1 / 8, abs=0.03) for share in shares.values())


def test_the_less_loaded_one_comes_first() -> None:
    """By the share of slots that is free, not by their number."""
    shares = first(candidate("busy", room=room(2, 8)), candidate("idle", room=room(2, 2)))
    assert shares == {"busy": 0.0, "idle": 1.0}


def test_the_faster_one_comes_first_until_it_is_busy() -> None:
    """Spare speed counts: half of forty tokens per second is as much as all of twenty."""
    slow = candidate("slow", room=room(4, 4, decode=20.0))
    assert first(candidate("fast", room=room(4, 4, decode=40.0)), slow)["fast"] == 1.0
    assert first(candidate("fast", room=room(2, 4, decode=40.0)), slow)["fast"] == pytest.approx(0.5, abs=0.05)
    assert first(candidate("fast", room=room(1, 4, decode=40.0)), slow)["fast"] == 0.0


def test_a_speed_nobody_measured_is_taken_for_average_and_slowness_seen_from_here_counts() -> None:
    """A new machine is neither shunned nor flooded."""
    shares = first(*(candidate(f"n{at}", room=room(decode=speed)) for at, speed in enumerate((10.0, None, 30.0))))
    assert shares["n2"] > shares["n1"] > shares["n0"]
    lagging = candidate("lagging", pace=0.25, room=room())
    assert first(lagging, candidate("well", room=room()))["well"] == 1.0


def test_a_loaded_model_beats_speed_and_a_free_slot_beats_a_loaded_model() -> None:
    """Loading takes longer than any difference of speed; waiting may take for ever."""
    warm = candidate("warm", room=room(1, 4, decode=5.0))
    cold = candidate("cold", room=room(4, 4, warm=False, decode=90.0))
    full = candidate("full", room=room(0, 4, decode=90.0))
    assert names(shared([full, cold, warm], Random(1))) == ["warm", "cold", "full"]


def test_what_an_operator_distinguished_is_not_mixed() -> None:
    """Another tier, another weight, another model, and whatever is no node: all stay where the strategy put them."""
    order = [
        candidate("vendor"),
        candidate("busy", room=room(1, 4)),
        candidate("heavy", weight=3, room=room(1, 4)),
        candidate("large", model="large", room=room(1, 4)),
        candidate("idle", room=room(4, 4)),
        candidate("next", tier=1, room=room(4, 4)),
    ]
    assert names(shared(order, Random(1))) == ["vendor", "idle", "heavy", "large", "busy", "next"]


def test_without_equals_nothing_is_drawn_or_copied() -> None:
    """The usual case costs nothing."""
    order = [candidate("a"), candidate("b", room=room())]
    rng = Random(1)
    before = rng.getstate()
    assert shared(order, rng) is order
    assert rng.getstate() == before
