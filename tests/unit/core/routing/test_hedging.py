"""How long a hedge waits, and how many there may be (S8)."""

from __future__ import annotations

from random import Random

from intertie.core.routing.hedging import ENOUGH, SAVED, Hedges

KEY = ("org", "chat")


def test_s8_the_first_hedge_of_a_fiftieth_comes_with_the_fiftieth_request() -> None:
    """The allowance begins empty."""
    hedges = Hedges()
    assert not hedges.able(KEY)
    for _ in range(49):
        hedges.begin(KEY, 0.02)
        assert not hedges.able(KEY)
    hedges.begin(KEY, 0.02)
    assert hedges.able(KEY)
    hedges.take(KEY)
    assert not hedges.able(KEY)


def test_s8_hedges_are_never_more_than_their_share_and_no_burst_follows_a_quiet_time() -> None:
    """Whatever the order of requests and wishes."""
    rng, hedges = Random(3), Hedges()
    begun = taken = 0
    for _ in range(20_000):
        if rng.random() < 0.7:
            hedges.begin(KEY, 0.02)
            begun += 1
        elif hedges.able(KEY):
            hedges.take(KEY)
            taken += 1
        assert taken <= 0.02 * begun + 1e-6
    assert taken > 200
    for _ in range(100_000):
        hedges.begin(KEY, 0.02)
    burst = 0
    while hedges.able(KEY):
        hedges.take(KEY)
        burst += 1
    assert burst == SAVED


def test_s8_it_waits_for_what_is_usual_on_the_route_and_never_less_than_it_must() -> None:
    """The 95th percentile of the newest hundred, for streams and whole answers apart."""
    hedges = Hedges()
    assert hedges.delay(KEY, 1.0, stream=True) == 1.0
    hedges.begin(KEY, 0.02)
    for n in range(ENOUGH - 1):
        hedges.saw(KEY, float(n), stream=True)
    assert hedges.delay(KEY, 1.0, stream=True) == 1.0
    hedges.saw(KEY, 19.0, stream=True)
    assert hedges.delay(KEY, 1.0, stream=True) == 18.0
    assert hedges.delay(KEY, 1.0, stream=False) == 1.0
    for _ in range(100):
        hedges.saw(KEY, 0.2, stream=True)
    assert hedges.delay(KEY, 1.0, stream=True) == 1.0
    assert hedges.delay(KEY, 0.1, stream=True) == 0.2


def test_groups_are_bounded_and_apart() -> None:
    """The one that was met first is forgotten first."""
    hedges = Hedges(limit=2)
    for name in "abc":
        hedges.begin(("org", name), 1.0)
    assert [hedges.able(("org", name)) for name in "abc"] == [False, True, True]
    hedges.saw(("org", "a"), 1.0, stream=True)
    assert repr(hedges) == "<Hedges of 2 groups>"
