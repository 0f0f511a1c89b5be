"""The book of circuits."""

from __future__ import annotations

from random import Random

from intertie.core.errors import UpstreamFailed, UpstreamNoModel, UpstreamUnreachable
from intertie.core.routing.circuit import CircuitState
from intertie.core.routing.health import HealthBook, Standing

KEY = ("up", "small")
NOW = 1000.0


def book(limit: int = 2048) -> HealthBook:
    return HealthBook(Random(1), limit)


def eject(health: HealthBook, key: tuple[str, str], now: float = NOW) -> None:
    for _ in range(3):
        health.admit(key, now)
        health.failure(key, UpstreamUnreachable("x"), now)


def test_a_target_never_seen_is_ready_and_takes_no_memory_until_used() -> None:
    """Reading makes no entries."""
    health = book()
    assert health.standing(KEY, NOW) is Standing.READY
    assert health.share(KEY, NOW) == health.pace(KEY, [KEY], NOW) == 1.0
    assert not health.alive(KEY, NOW)
    health.success(KEY, NOW, 1.0)
    health.release(KEY, NOW)
    health.answering(KEY, NOW)
    assert health.view(NOW) == []


def test_circuits_are_per_upstream_and_model() -> None:
    """One model's trouble leaves the upstream's others alone."""
    health = book()
    eject(health, KEY)
    assert not health.admit(KEY, NOW)
    assert health.admit(("up", "other"), NOW)
    assert health.admit(("other", "small"), NOW)


def test_view_tells_what_people_need_to_know() -> None:
    """State, reason, causes and times as ages."""
    health = book()
    eject(health, KEY)
    health.admit(("a", "small"), NOW)
    for n in range(30):
        health.success(("a", "small"), NOW + n / 10, 0.5)
    health.failure(("b", "gone"), UpstreamNoModel("x"), NOW)
    well, resting, ejected = health.view(NOW + 4)

    assert (well.upstream, well.state, well.attempts, well.failures) == ("a", CircuitState.CLOSED, 30, 0)
    assert (well.ttft_median, well.ttft_p90) == (0.5, 0.5)
    assert resting.resting_for == 56
    assert (ejected.state, ejected.reason) == (CircuitState.OPEN, "3 connection failures in a row")
    assert ejected.causes == ((4.0, "upstream_unreachable"),) * 3
    assert ejected.retry_in is not None
    assert 8 <= ejected.retry_in <= 14


def test_memory_is_bounded_however_many_models_are_named() -> None:
    """A caller of a pass-through route invents ten thousand models."""
    health = book(limit=100)
    for n in range(10_000):
        health.failure(("up", f"model-{n}"), UpstreamNoModel("x"), NOW + n)
    assert len(health.view(NOW)) <= 100


def test_eviction_keeps_what_matters() -> None:
    """Ejected targets stay longer than idle healthy ones."""
    health = book(limit=8)
    eject(health, KEY)
    for n in range(8):
        health.admit(("up", f"model-{n}"), NOW + 1 + n)
    kept = {(entry.upstream, entry.model) for entry in health.view(NOW)}
    assert {KEY, ("up", "model-7")} <= kept
    assert ("up", "model-0") not in kept


def test_earliest_is_the_soonest_of_the_group_and_at_least_a_second() -> None:
    """For Retry-After."""
    health = book()
    eject(health, KEY)
    eject(health, ("late", "small"), NOW + 100)
    assert 12 <= health.earliest([KEY, ("late", "small")], NOW) <= 18
    assert health.earliest([KEY], NOW + 1000) == 1.0
    assert health.earliest([("unknown", "m")], NOW) == 1.0


def test_the_book_tells_its_size_in_its_repr() -> None:
    """Read at three in the morning."""
    health = book()
    eject(health, KEY)
    assert repr(health) == "<HealthBook 1 targets, 1 not closed>"


def test_a_failure_without_a_claim_counts_too() -> None:
    """Nothing is lost if an entry was evicted while its attempt ran."""
    health = book()
    for _ in range(5):
        health.failure(KEY, UpstreamFailed("x"), NOW)
    assert not health.admit(KEY, NOW)
