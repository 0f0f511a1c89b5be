"""Fault cases F41 to F44 with a clock of their own: many clients, one route, targets in trouble."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from intertie.core.errors import UpstreamError, UpstreamFailed, UpstreamUnavailable, UpstreamUnreachable
from intertie.core.routing.circuit import CircuitState
from intertie.core.terms import StrategyName
from tests.unit.core.routing.grid import MODEL, Behaviour, Simulation

REFUSED = UpstreamUnreachable("x")
BROKEN = UpstreamFailed("x")


def good(seconds: float = 0.3) -> Behaviour:
    return lambda now, rng: (rng.uniform(0.7, 1.3) * seconds, None)


def down_between(start: float, end: float, error: UpstreamError, seconds: float = 0.05) -> Behaviour:
    """Fails within the span, well otherwise."""
    well = good()
    return lambda now, rng: (seconds, error) if start <= now < end else well(now, rng)


@pytest.mark.parametrize("strategy", [one for one in StrategyName if one is not StrategyName.FASTEST])
@pytest.mark.parametrize("error", [REFUSED, BROKEN, UpstreamUnavailable("x")])
def test_f42_a_flapping_target_harms_nobody_and_does_not_make_routing_flap(
    strategy: StrategyName, error: UpstreamError
) -> None:
    """Ten seconds good, ten bad, beside a healthy one: 99.9 % succeed, and each ejection lasts its time."""

    def flapping(now: float, rng: Random) -> tuple[float, UpstreamError | None]:
        return (0.05, error) if int(now / 10) % 2 else (0.3, None)

    sim = Simulation(strategy, {"flapping": flapping, "well": good()})
    ejected, state = [], CircuitState.CLOSED

    def watch() -> None:
        nonlocal state
        known = {entry.upstream: entry.state for entry in sim.world.health.view(sim.now)}
        before, state = state, known.get("flapping", CircuitState.CLOSED)
        if state is CircuitState.OPEN and before is not CircuitState.OPEN:
            ejected.append(sim.now)

    for n in range(3000):
        sim.at(sim.now + n / 10, watch)
    start = sim.now
    sim.arrivals(rate=5, seconds=300)
    sim.run(310)

    assert sim.succeeded(start, sim.now) >= 0.999
    assert 2 <= len(ejected) <= 300 / 12
    assert all(later - earlier >= 12 - 0.2 for earlier, later in pairwise(ejected))


@pytest.mark.parametrize("targets", [1, 2, 4])
@pytest.mark.parametrize("error", [REFUSED, BROKEN])
def test_f43_total_outage_is_probed_once_per_second_and_ends_within_35_seconds(
    targets: int, error: UpstreamError
) -> None:
    """All targets bad for a minute: few attempts, every refusal with a wait; then full traffic soon."""
    start = 1000.0
    sim = Simulation(
        StrategyName.WEIGHTED, {f"t{n}": down_between(start + 30, start + 90, error) for n in range(targets)}
    )
    sim.arrivals(rate=20, seconds=150)
    sim.run(160)

    assert sim.succeeded(start, start + 30) > 0.99
    probes = [when for when, _ in sim.sends if start + 50 <= when < start + 90]
    assert 35 <= len(probes) <= 41
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(probes))
    waits = [wait for when, wait in sim.refusals]
    assert waits
    assert all(wait is not None and 1 <= wait <= 360 for wait in waits)
    assert sim.succeeded(start + 95, start + 125) > 0.95
    assert sim.succeeded(start + 125, start + 150) == 1.0


def test_f43_b08_a_failed_group_of_two_shares_its_traffic_again_within_35_seconds() -> None:
    """Back to 90 % of the calls at once, and no refusals after that."""
    start = 1000.0
    sim = Simulation(
        StrategyName.WEIGHTED, {name: down_between(start + 10, start + 70, REFUSED) for name in ("a", "b")}
    )
    sim.arrivals(rate=20, seconds=140)
    sim.run(150)
    assert not [when for when, _ in sim.refusals if when > start + 75]
    assert sim.succeeded(start + 75, start + 105) == 1.0


@pytest.mark.parametrize("others", [1, 3])
def test_f44_a_target_ten_times_slower_keeps_less_than_a_tenth_within_a_minute(others: int) -> None:
    """It becomes slow after two good minutes; it is not ejected, and no call fails."""
    start = 1000.0

    def slowing(now: float, rng: Random) -> tuple[float, UpstreamError | None]:
        return rng.uniform(0.7, 1.3) * (0.5 if now < start + 120 else 5.0), None

    sim = Simulation(StrategyName.WEIGHTED, {"slowing": slowing} | {f"well{n}": good(0.5) for n in range(others)})
    sim.arrivals(rate=8, seconds=300)
    sim.run(310)

    assert sim.share(start, start + 120)["slowing"] == pytest.approx(1 / (1 + others), abs=0.06)
    assert sim.share(start + 180, start + 300)["slowing"] < 0.1
    assert sim.succeeded(start, sim.now) == 1.0
    assert {entry.state for entry in sim.world.health.view(sim.now)} == {CircuitState.CLOSED}


def test_f44_a_target_that_was_always_slower_is_found_by_its_peers_and_regains_its_share_once_it_is_fast() -> None:
    """Slow for two minutes from the start, then as fast as the other."""
    start = 1000.0

    def mending(now: float, rng: Random) -> tuple[float, UpstreamError | None]:
        return rng.uniform(0.7, 1.3) * (5.0 if now < start + 120 else 0.5), None

    sim = Simulation(StrategyName.WEIGHTED, {"mending": mending, "well": good(0.5)})
    sim.arrivals(rate=8, seconds=420)
    sim.run(430)
    assert sim.share(start + 60, start + 120)["mending"] < 0.1
    assert sim.share(start + 330, start + 420)["mending"] == pytest.approx(0.5, abs=0.1)


def test_f41_clients_that_retry_cannot_amplify_an_outage() -> None:
    """50 clients whose SDK retries twice, for a minute of total outage: bounded attempts upstream, quick answers."""
    start = 1000.0
    sim = Simulation(StrategyName.PRIORITY, {name: down_between(0, 1e9, BROKEN) for name in ("a", "b")})
    actions = 0

    def act(retries: int) -> None:
        def ended(outcome: str) -> None:
            if retries and outcome != "ok":
                sim.at(sim.now + 0.5, lambda: act(retries - 1))

        sim.on_end = ended
        sim.call()

    for client in range(50):
        for n in range(12):
            sim.at(start + client / 50 + 5 * n, lambda: act(2))
            actions += 1
    sim.run(60)

    assert len(sim.sends) <= 3 * 1.1 * actions + 0.3 * 60
    assert len(sim.sends) < 150
    assert not any(outcome == "ok" for _, outcome in sim.outcomes)


def test_a_mixed_group_keeps_serving_while_targets_fail_in_turn() -> None:
    """Three targets, each down for twenty seconds after another: hardly a call is lost."""
    start = 1000.0
    sim = Simulation(
        StrategyName.WEIGHTED,
        {f"t{n}": down_between(start + 20 * n, start + 20 * n + 20, BROKEN) for n in range(3)},
    )
    sim.arrivals(rate=10, seconds=120)
    sim.run(130)
    assert sim.succeeded(start, sim.now) >= 0.995


def test_one_half_broken_target_alone_still_serves_what_it_can() -> None:
    """Every second attempt fails; being the last one, it keeps nearly all calls and about half succeed."""

    def coin(now: float, rng: Random) -> tuple[float, UpstreamError | None]:
        return 0.2, BROKEN if rng.random() < 0.5 else None

    sim = Simulation(StrategyName.PRIORITY, {"only": coin})
    start = sim.now
    sim.arrivals(rate=20, seconds=120)
    sim.run(130)
    assert 0.42 <= sim.succeeded(start, sim.now) <= 0.58
    assert len(sim.refusals) <= 0.1 * 20 * 120
    assert sim.world.health.alive(("only", MODEL), sim.now - 10)


@pytest.mark.parametrize("strategy", [StrategyName.PRIORITY, StrategyName.WEIGHTED, StrategyName.CHEAPEST])
def test_nodes_share_by_what_they_can_do_and_overflow_to_the_vendor_when_all_are_busy(strategy: StrategyName) -> None:
    """A fast machine, a slow one and a vendor behind them: little traffic stays on the fast one, more fills both, and
    only what is beyond their slots is paid for."""
    behaviours = {"fast": good(1.0), "slow": good(4.0), "vendor": good(0.5)}
    sim = Simulation(
        strategy, behaviours, nodes={"fast": (4, 80.0), "slow": (4, 20.0)}, tiers={"fast": 0, "slow": 0, "vendor": 1}
    )
    calm = sim.now
    sim.arrivals(rate=1, seconds=60)
    sim.run(70)
    busy = sim.now
    sim.arrivals(rate=3, seconds=120)
    sim.run(130)
    flood = sim.now
    sim.arrivals(rate=10, seconds=60)
    sim.run(70)

    assert sim.share(calm, busy) == {
        "fast": pytest.approx(1.0, abs=0.05),
        "slow": pytest.approx(0.0, abs=0.05),
        "vendor": 0.0,
    }
    shares = sim.share(busy, flood)
    assert shares["fast"] > 2 * shares["slow"] > 0
    assert shares["vendor"] < 0.05
    assert sim.share(flood, flood + 60) == {
        "fast": pytest.approx(0.4, abs=0.05),
        "slow": pytest.approx(0.1, abs=0.03),
        "vendor": pytest.approx(0.5, abs=0.06),
    }
    assert sim.succeeded(calm, sim.now) == 1.0


def test_equal_nodes_are_filled_evenly_by_a_burst() -> None:
    """Forty calls at one moment on ten machines with four slots each: every slot is used, nothing fails."""
    sim = Simulation(
        StrategyName.PRIORITY,
        {f"n{at}": good(5.0) for at in range(10)},
        nodes={f"n{at}": (4, 30.0) for at in range(10)},
    )
    start = sim.now
    sim.arrivals(rate=1e6, seconds=4e-5)
    sim.run(20)
    assert sim.share(start, sim.now) == {f"n{at}": 0.1 for at in range(10)}
    assert sim.succeeded(start, sim.now) == 1.0
