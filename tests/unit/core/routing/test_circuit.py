"""One target's state machine and throttle (S3, S4, S5)."""

from __future__ import annotations

from random import Random

import pytest

from intertie.core.errors import (
    DeadlineExceeded,
    GatewayError,
    StreamBroken,
    UpstreamBusy,
    UpstreamContended,
    UpstreamDenied,
    UpstreamEmpty,
    UpstreamExhausted,
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamNoModel,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from intertie.core.routing.circuit import TRIAL_LIMIT, Circuit, CircuitState, Standing

START = 1000.0


def failed(circuit: Circuit, kind: type[GatewayError], times: int, now: float = START) -> Circuit:
    for _ in range(times):
        circuit.admit(now)
        circuit.failure(now, kind("x"))
    return circuit


def fresh(seed: int = 1) -> Circuit:
    return Circuit(Random(seed))


def opened(now: float = START) -> Circuit:
    return failed(fresh(), UpstreamUnreachable, 3, now)


def reopened(times: int) -> Circuit:
    """Ejected, and `times` trials failed since."""
    circuit = opened()
    for _ in range(times):
        failed(circuit, UpstreamFailed, 1, circuit.until)
    return circuit


@pytest.mark.parametrize(
    ("kind", "enough"),
    [
        (UpstreamUnreachable, 3),
        (UpstreamFailed, 5),
        (UpstreamUnavailable, 5),
        (UpstreamInvalid, 5),
        (UpstreamTimeout, 5),
        (StreamBroken, 5),
        (UpstreamEmpty, 10),
        (UpstreamContended, 10),
    ],
)
def test_s4_failures_in_a_row_open_the_circuit(kind: type[GatewayError], enough: int) -> None:
    """Three connection failures, five server failures; half-weight errors need twice as many."""
    assert failed(fresh(), kind, enough - 1).state is CircuitState.CLOSED
    circuit = failed(fresh(), kind, enough)
    assert circuit.state is CircuitState.OPEN
    assert circuit.reason


def test_s4_a_success_breaks_the_run() -> None:
    """Four failures, a success, four failures: still in use."""
    circuit = failed(fresh(), UpstreamFailed, 4)
    for _ in range(20):
        circuit.success(START, None)
    failed(circuit, UpstreamFailed, 4)
    assert circuit.state is CircuitState.CLOSED


def test_s4_an_answer_of_any_kind_breaks_a_run_of_connection_failures() -> None:
    """A 500 in between proves that connecting works."""
    circuit = failed(fresh(), UpstreamUnreachable, 2)
    failed(circuit, UpstreamFailed, 1)
    failed(circuit, UpstreamUnreachable, 1)
    assert circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize(("pairs", "state"), [(4, CircuitState.CLOSED), (5, CircuitState.OPEN)])
def test_s4_half_of_ten_attempts_within_thirty_seconds(pairs: int, state: CircuitState) -> None:
    """Every second attempt fails: open at ten attempts, not at eight."""
    circuit = fresh()
    for n in range(pairs):
        circuit.success(START + n, None)
        failed(circuit, UpstreamFailed, 1, START + n)
    assert circuit.state is state


def test_s4_failures_spread_over_more_than_thirty_seconds_do_not_open() -> None:
    """Every second attempt fails, but slowly: under ten attempts fit the window."""
    circuit = fresh()
    for n in range(40):
        circuit.success(START + 8 * n, None)
        failed(circuit, UpstreamFailed, 1, START + 8 * n + 4)
    assert circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize(
    "kind", [UpstreamRejected, DeadlineExceeded, UpstreamBusy, UpstreamDenied, UpstreamExhausted, UpstreamNoModel]
)
def test_s4_what_is_not_the_targets_fault_never_opens(kind: type[GatewayError]) -> None:
    """Caller's errors and a credential's troubles are excluded, however many."""
    circuit = failed(fresh(), kind, 100)
    assert circuit.state is CircuitState.CLOSED
    assert circuit.recent(START) == (0, 0)


def test_s4_ejection_lasts_fifteen_seconds_give_or_take_a_fifth() -> None:
    """The first ejection, over many seeds."""
    waits = [failed(fresh(seed), UpstreamUnreachable, 3).until - START for seed in range(200)]
    assert 12 <= min(waits) < 13
    assert 17 < max(waits) <= 18


def test_s5_a_failed_trial_doubles_the_time_up_to_five_minutes() -> None:
    """15, 30, 60, 120, 240, 300, 300 s, each give or take a fifth."""
    circuit = opened()
    for expected in (30, 60, 120, 240, 300, 300):
        now = circuit.until
        assert circuit.admit(now)
        circuit.failure(now, UpstreamFailed("x"))
        assert circuit.state is CircuitState.OPEN
        assert 0.8 * expected <= circuit.until - now <= 1.2 * expected


def test_s4_ejections_add_up_and_are_forgiven_by_the_minute() -> None:
    """Ejected soon after its return: 30 s. After two quiet minutes: 15 s again."""
    circuit = opened()
    circuit.close(START + 20)
    failed(circuit, UpstreamUnreachable, 3, START + 30)
    assert circuit.ejections == 2
    circuit.close(START + 60)
    failed(circuit, UpstreamUnreachable, 3, START + 60 + 121)
    assert circuit.ejections == 1


def test_s5_open_admits_nobody_before_its_time() -> None:
    """Unless a plan spares it, see the tests of plan."""
    circuit = opened()
    assert not circuit.admit(circuit.until - 0.1)
    assert circuit.standing(circuit.until - 0.1) is Standing.OUT
    assert circuit.standing(circuit.until) is Standing.TRIAL


def test_s5_half_open_admits_one_trial_at_a_time_and_two_successes_close() -> None:
    """The second request waits for the first one's outcome."""
    circuit = opened()
    now = circuit.until
    assert circuit.admit(now)
    assert circuit.state is CircuitState.HALF_OPEN
    assert not circuit.admit(now)
    assert circuit.standing(now) is Standing.OUT
    circuit.success(now + 1, None)
    assert circuit.admit(now + 1)
    assert not circuit.admit(now + 1)
    circuit.success(now + 2, None)
    assert [circuit.admit(now + 2) for _ in range(3)] == [True] * 3


def test_s5_a_trial_that_answers_need_not_end_to_count() -> None:
    """A long stream proves itself with its first output."""
    circuit = opened()
    now = circuit.until
    for _ in range(2):
        assert circuit.admit(now)
        circuit.answering(now)
    assert circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize("kind", [UpstreamRejected, UpstreamBusy, UpstreamContended])
def test_s5_an_undecided_trial_makes_room_for_the_next(kind: type[GatewayError]) -> None:
    """Neither closed nor ejected again, and the trial is free."""
    circuit = opened()
    now = circuit.until
    circuit.admit(now)
    circuit.failure(now, kind("x"))
    assert circuit.state is CircuitState.HALF_OPEN
    assert circuit.admit(now)


def test_s5_a_client_that_leaves_frees_the_trial() -> None:
    """Released: neither success nor failure."""
    circuit = opened()
    now = circuit.until
    circuit.admit(now)
    circuit.release(now)
    assert circuit.state is CircuitState.HALF_OPEN
    assert circuit.admit(now)


def test_s5_a_trial_whose_outcome_is_lost_blocks_only_for_a_while() -> None:
    """Two minutes later another one may go."""
    circuit = opened()
    now = circuit.until
    circuit.admit(now)
    assert not circuit.admit(now + TRIAL_LIMIT - 1)
    assert circuit.admit(now + TRIAL_LIMIT)


def test_s5_stragglers_neither_prolong_nor_end_an_ejection() -> None:
    """Attempts sent before the ejection report late; only trials count then."""
    circuit = opened()
    until = circuit.until
    for _ in range(10):
        circuit.failure(START + 1, UpstreamTimeout("x"))
        circuit.success(START + 1, None)
    assert (circuit.state, circuit.until, circuit.ejections) == (CircuitState.OPEN, until, 1)


def test_s4_traffic_ramps_from_a_tenth_to_all_within_thirty_seconds() -> None:
    """A target that never was ejected has no ramp."""
    assert fresh().share(START) == 1.0
    circuit = opened()
    circuit.close(START)
    assert circuit.share(START) == pytest.approx(0.1)
    assert circuit.share(START + 15) == pytest.approx(0.55)
    assert circuit.share(START + 30) == 1.0


def test_old_failures_are_forgotten_when_it_closes() -> None:
    """One failure after coming back must not eject it again."""
    circuit = opened()
    circuit.close(START + 15)
    failed(circuit, UpstreamFailed, 1, START + 16)
    assert circuit.state is CircuitState.CLOSED


def test_s3_throttle_drops_as_the_formula_says() -> None:
    """40 of 60 attempts failed: (60 - 2 x 20) / 61, about a third, is dropped."""
    drops = 0
    for seed in range(2000):
        circuit = Circuit(Random(seed))
        circuit._sent.add(START, 60, 40.0)
        circuit._sent_at = START
        drops += not circuit.admit(START)
    assert drops / 2000 == pytest.approx(20 / 61, abs=0.04)


def test_s3_throttle_never_drops_more_than_nine_tenths() -> None:
    """Thousands failed: a tenth still goes through."""
    drops = 0
    for seed in range(2000):
        circuit = Circuit(Random(seed))
        circuit._sent.add(START, 5000, 5000.0)
        circuit._sent_at = START
        drops += not circuit.admit(START)
    assert drops / 2000 == pytest.approx(0.9, abs=0.03)


def test_s3_throttle_leaves_low_traffic_and_one_call_per_second_alone() -> None:
    """Nine failures are too few; and a second of silence always lets one through."""
    few = fresh()
    few._sent.add(START, 9, 9.0)
    few._sent_at = START
    assert all(Circuit(Random(seed)).admit(START) for seed in range(50))
    assert few.admit(START)
    many = fresh()
    many._sent.add(START, 500, 500.0)
    assert all(many.admit(START + n) for n in range(1, 100))


def test_s3_attempts_still_in_flight_do_not_throttle_a_slow_target() -> None:
    """A hundred calls wait for a model's first token: the next one is sent as well."""
    circuit = fresh()
    assert all(circuit.admit(START) for _ in range(100))


def test_s3_throttle_forgets_after_two_minutes() -> None:
    """The window passes."""
    circuit = fresh()
    circuit._sent.add(START, 500, 500.0)
    circuit._sent_at = START + 121
    assert all(circuit.admit(START + 121) for _ in range(50))


def test_p01_an_ejection_can_be_explained() -> None:
    """The reason in words, and the events that caused it."""
    circuit = failed(fresh(), UpstreamFailed, 5)
    assert circuit.reason == "5 failures in a row"
    assert [code for _, code in circuit.causes] == ["upstream_failed"] * 5


def test_memory_of_causes_is_bounded() -> None:
    """Only the latest five are kept."""
    assert len(failed(fresh(), UpstreamEmpty, 500).causes) == 5


def test_a_404_for_the_model_rests_the_target_for_a_minute_and_a_success_wakes_it() -> None:
    """Only this pair of upstream and model."""
    circuit = failed(fresh(), UpstreamNoModel, 1)
    assert circuit.standing(START + 59) is Standing.RESTING
    assert circuit.standing(START + 60) is Standing.READY
    assert circuit.admit(START + 1)
    circuit.success(START + 2, None)
    assert circuit.standing(START + 2) is Standing.READY


def test_s5_trials_failing_over_and_over_keep_the_count_of_ejections_bounded() -> None:
    """Twenty ejections are the ceiling, 300 s."""
    assert reopened(50).ejections == 20


def test_s5_a_straggler_does_not_end_a_trial_period() -> None:
    """Half-open, no trial in flight: a late failure from before the ejection says nothing new."""
    circuit = opened()
    now = circuit.until
    circuit.admit(now)
    circuit.success(now, None)
    circuit.failure(now, UpstreamFailed("x"))
    assert circuit.state is CircuitState.HALF_OPEN


def test_s5_half_weight_trials_add_up_only_without_a_success_between() -> None:
    """Two conflicts eject again; conflict, success, conflict do not."""

    def tried(*errors: GatewayError | None) -> CircuitState:
        circuit = opened()
        now = circuit.until
        for error in errors:
            assert circuit.admit(now)
            if error is None:
                circuit.success(now, None)
            else:
                circuit.failure(now, error)
        return circuit.state

    conflict = UpstreamContended("x")
    assert tried(conflict, conflict) is CircuitState.OPEN
    assert tried(conflict, None, conflict) is CircuitState.HALF_OPEN


def test_s4_an_ejected_target_is_alive_until_five_seconds_or_twenty_failures_pass_without_success() -> None:
    """Low traffic goes by time, high traffic by count."""
    circuit = failed(fresh(), UpstreamFailed, 5)
    assert not circuit.alive(START)
    circuit.success(START, None)
    assert circuit.alive(START + 4.9)
    assert not circuit.alive(START + 5)
    failed(circuit, UpstreamFailed, 19)
    assert circuit.alive(START)
    failed(circuit, UpstreamFailed, 1)
    assert not circuit.alive(START)


def test_s3_a_spared_target_is_throttled_by_what_it_fails() -> None:
    """Three of four attempts fail: of the calls beyond its trial, (2 x 75 - 100) / 101 are dropped, about half."""
    dropped = 0
    for seed in range(300):
        circuit = fresh(seed)
        for n in range(100):
            circuit._sent.add(START, 1, 0.0)
            if n % 4:
                circuit.failure(START, UpstreamFailed("x"))
            else:
                circuit.success(START, None)
        assert circuit.state is CircuitState.OPEN
        circuit.spare(START)
        assert circuit.admit(START)
        dropped += not circuit.admit(START)
    assert dropped / 300 == pytest.approx(0.5, abs=0.1)


def test_s3_a_target_that_came_back_is_not_throttled_for_its_past() -> None:
    """Or it would take two minutes until all its traffic returns."""
    circuit = fresh()
    circuit._sent.add(START, 500, 0.0)
    for _ in range(500):
        circuit.failure(START, UpstreamFailed("x"))
    circuit.close(START + 20)
    assert all(circuit.admit(START + 20) for _ in range(50))
