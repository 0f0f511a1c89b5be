"""Strategies in a simulated clock: a slow cheap target, a fast dear one and a free machine of one's own."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from msgspec.structs import replace

from intertie.core.errors import UpstreamError
from intertie.core.ledger import CallFacts
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.rules import Rule, Wish
from intertie.core.routing.strategies.fastest import EXPLORED, SPARING, STALE
from intertie.core.terms import Operation, Price, StrategyName, Trust
from tests.unit.core.routing.grid import MODEL, Behaviour, Simulation, call, caller

PRICES = {"cheap": Price(1_000_000, 2_000_000), "dear": Price(10_000_000, 30_000_000), "own": Price(0, 0)}
FACTS = CallFacts(key="k", project="p", model="chat", operation=Operation.CHAT, tokens=1000, output=100)


def taking(seconds: float, *, later: float | None = None, since: float = 0.0, until: float = 1e9) -> Behaviour:
    """Answers after some seconds, give or take a fifth; after `later` seconds within a span of time."""

    def answer(now: float, rng: Random) -> tuple[float, UpstreamError | None]:
        usual = later if later is not None and since <= now < until else seconds
        return usual * rng.uniform(0.8, 1.2), None

    return answer


def simulation(strategy: StrategyName, dear: Behaviour, *rules: Rule) -> Simulation:
    made = Simulation(strategy, {"cheap": taking(2.0), "dear": dear, "own": taking(0.8)})
    ups = {
        name: replace(one, models={MODEL: PRICES[name]}, trust=Trust.OWN if name == "own" else Trust.VENDOR)
        for name, one in made.snapshot.upstreams.items()
    }
    made.snapshot = replace(made.snapshot, upstreams=ups)
    made.docket = lambda: Docket(FACTS, rules, noting=False)
    return made


def test_cheapest_takes_what_this_call_costs_least_with() -> None:
    """The free machine; and where rules keep calls from it, the cheaper vendor, however slow."""
    for rules, best in (((), "own"), ((Rule("paid", forbid=Wish(trust=Trust.OWN)),), "cheap")):
        sim = simulation(StrategyName.CHEAPEST, taking(0.2), *rules)
        start = sim.now
        sim.arrivals(rate=5, seconds=30)
        sim.run(40)
        assert sim.share(start, sim.now)[best] == 1.0


@pytest.mark.parametrize("rate", [0.5, 2.0, 20.0])
def test_fastest_finds_the_fast_one_follows_within_thirty_seconds_and_comes_back(rate: float) -> None:
    """It slows down after two minutes, and recovers two minutes later."""
    start = 1000.0
    sim = simulation(StrategyName.FASTEST, taking(0.2, later=6.0, since=start + 120, until=start + 240))
    sim.arrivals(rate=rate, seconds=360)
    sim.run(380)
    usual = 0.8 if rate >= 2 else 0.6  # at one call in two seconds, keeping two others fresh takes a fifth of them
    assert sim.share(start + 30, start + 120)["dear"] > usual
    assert sim.share(start + 150, start + 240)["own"] > usual
    assert sim.share(start + 150, start + 240)["dear"] < 0.2
    assert sim.share(start + 290, start + 360)["dear"] > usual
    assert sim.succeeded(start, sim.now) == 1.0


@pytest.mark.parametrize("rate", [0.5, 5.0, 15.0])
def test_exploration_is_never_starved_and_never_runs_away(rate: float) -> None:
    """Each target is asked at least every twenty seconds and some calls, and the others get about their small share."""
    sim = simulation(StrategyName.FASTEST, taking(0.2))
    start = sim.now
    sim.arrivals(rate=rate, seconds=300)
    sim.run(310)
    for name in PRICES:
        times = [start, *(when for when, who in sim.sends if who == name), start + 300]
        longest = max(later - earlier for earlier, later in pairwise(times))
        assert longest <= STALE + 2 * (SPARING + 1) / rate
    others = 1 - sim.share(start + 60, start + 300)["dear"]
    assert others <= EXPLORED + 2 / STALE / rate + 0.03


WORLDS = 60
SIZES = (100, 3_000, 20_000)


@pytest.mark.parametrize("seed", range(WORLDS))
def test_whatever_the_targets_the_fastest_is_found_and_left_within_thirty_seconds_and_nobody_is_forgotten(
    seed: int,
) -> None:
    """Random worlds: two to six targets, each half as fast again as the next, calls of one to three sizes at any rate
    from one in four seconds up; the best one becomes slow, or hangs, at some moment."""
    rng = Random(seed)
    sizes = rng.sample(SIZES, rng.randint(1, 3))
    rate = rng.choice((0.25, 1.0, 4.0, 15.0)) * len(sizes)
    first = rng.uniform(0.1, 0.4)
    speeds = {f"t{n}": first * 1.6**n for n in range(rng.randint(2, 6))}
    round_ = SPARING * len(sizes) * (len(speeds) - 1) / rate  # seconds in which all others of all sizes have their turn
    known = 1060.0 + 2 * round_
    slowed = known + rng.uniform(60, 120)
    left, end = slowed + 30, slowed + 180 + round_
    behaviours = {name: taking(speed) for name, speed in speeds.items()}
    behaviours["t0"] = taking(first, later=rng.choice((4.0, 30.0)) * speeds["t1"], since=slowed)
    names = rng.sample(list(speeds), len(speeds))
    sim = Simulation(StrategyName.FASTEST, {name: behaviours[name] for name in names}, seed=seed)
    sim.docket = lambda: Docket(replace(FACTS, tokens=rng.choice(sizes)), noting=False)
    sim.arrivals(rate=rate, seconds=end - 1000)
    sim.run(end - 1000)

    learning = min(1 / SPARING, len(sizes) * (len(names) - 1) / STALE / rate) + EXPLORED + 0.08
    assert sim.share(known, slowed)["t0"] >= 1 - learning
    assert sim.share(left, end)["t0"] <= learning
    assert sim.share(left + round_, end)["t1"] >= 1 - learning
    for name in names:
        times = [1000.0, *(when for when, who in sim.sends if who == name), end]
        assert max(later - earlier for earlier, later in pairwise(times)) <= STALE + 4 * round_


def test_a_target_that_hangs_is_left_before_anything_of_it_ends() -> None:
    """From one moment on, nothing comes back for a minute."""
    start = 1000.0
    sim = simulation(StrategyName.FASTEST, taking(0.2, later=60.0, since=start + 60, until=start + 61))
    sim.arrivals(rate=10, seconds=75)
    sim.run(75)
    assert sim.share(start + 63, start + 75)["dear"] < 0.1


def test_every_choice_is_explained() -> None:
    """Seconds or money, and of what."""
    for strategy, words in (
        (StrategyName.FASTEST, "s for about 100 output"),
        (StrategyName.CHEAPEST, "for 1000 input"),
    ):
        sim = simulation(strategy, taking(0.2))
        sim.arrivals(rate=5, seconds=30)
        sim.run(40)
        docket = Docket(FACTS)
        plan(call(), caller(), sim.route, sim.snapshot, sim.world, sim.now, docket)
        assert all(words in one.why and one.score is not None for one in docket.considered)
