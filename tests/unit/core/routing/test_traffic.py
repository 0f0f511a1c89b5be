"""What traffic teaches: speeds that follow the truth, counts that come back to nothing, and bounds on all of it."""

from __future__ import annotations

import pytest

from intertie.core.routing import traffic as module
from intertie.core.routing.traffic import FRESH, REMEMBERED, USUAL_OUTPUT, Traffic

A = ("up_a", "m")
ROUTE = ("org", "chat")


def ask(
    made: Traffic, now: float, first: float, took: float, *, tokens: int = 100, output: int = 11, stream: bool = True
) -> None:
    """One attempt that goes well."""
    ticket = made.begin(A, now, tokens, stream=stream)
    ticket.first = first if stream else None
    made.end(ticket, now + took, output)


def seconds(made: Traffic, now: float, *, tokens: int = 100, output: int = 10, stream: bool = True) -> float | None:
    return made.expected(A, now, tokens, output, stream=stream)


def test_a_target_nobody_asked_is_unknown() -> None:
    """Not fast and not slow."""
    assert seconds(Traffic(), 0.0) is None


def test_time_is_first_output_and_what_each_token_takes() -> None:
    """0.5 s, then ten more tokens in one second."""
    made = Traffic()
    ask(made, 0.0, 0.5, 1.5)
    assert seconds(made, 2.0, output=20) == pytest.approx(0.5 + 20 * 0.1)


def test_sizes_and_kinds_are_measured_apart_and_stand_in_for_each_other() -> None:
    """Large inputs take longer here; a medium call is guessed from a near size, a whole one from streams."""
    made = Traffic()
    ask(made, 0.0, 0.2, 0.2, tokens=10, output=1)
    ask(made, 0.0, 4.0, 4.0, tokens=50_000, output=1)
    assert seconds(made, 5.0, tokens=10) == pytest.approx(0.2)
    assert seconds(made, 5.0, tokens=50_000) == pytest.approx(4.0)
    assert seconds(made, 5.0, tokens=5_000) == pytest.approx(0.2)
    assert seconds(made, 5.0, tokens=50_000, stream=False) == pytest.approx(4.0)
    ask(made, 5.0, 0.0, 9.0, tokens=50_000, stream=False)
    assert seconds(made, 20.0, tokens=50_000, stream=False) == pytest.approx(9.0)


@pytest.mark.parametrize("every", [0.05, 0.5, 2.0, 8.0])
def test_a_change_is_known_within_thirty_seconds_at_any_rate(every: float) -> None:
    """From 0.2 s to 3 s: what was measured before has little weight left."""
    made = Traffic()
    now = 0.0
    while now < 120:
        ask(made, now, 0.2, 0.2)
        now += every
    while now < 150:
        ask(made, now, 3.0, 3.0)
        now += every
    found = seconds(made, now + 3)
    assert found is not None
    assert found > 2.6


def test_one_slip_after_a_silence_is_not_the_whole_truth() -> None:
    """A single slow answer moves the mean, by no more than its largest step."""
    made = Traffic()
    ask(made, 0.0, 0.2, 0.2)
    ask(made, 1000.0, 10.0, 10.0)
    found = seconds(made, 1020.0)
    assert found == pytest.approx(0.2 + module.LARGEST_STEP * 9.8)


def test_whoever_waits_counts_before_anything_ends() -> None:
    """A target that hangs is slow at once; a stream that has begun is not waiting."""
    made = Traffic()
    ask(made, 0.0, 0.2, 0.2)
    hanging = made.begin(A, 10.0, 100, stream=True)
    assert seconds(made, 15.0) == pytest.approx(5.0)
    hanging.first = 5.0
    assert seconds(made, 40.0) == pytest.approx(0.2)


def test_failures_teach_nothing_and_leave_no_trace() -> None:
    """Health knows about them; the time to a refusal is no speed."""
    made = Traffic()
    ticket = made.begin(A, 0.0, 100, stream=True)
    assert made.in_flight(A) == 1
    made.end(ticket, 0.1)
    made.end(ticket, 0.2)
    assert made.in_flight(A) == 0
    assert seconds(made, 1.0) is None


def test_idleness_counts_from_the_last_send_of_the_same_kind_and_size() -> None:
    """Infinite for a target never asked so: what was learned of small calls does not keep large ones fresh."""
    made = Traffic()
    assert made.idle(A, 5.0, 1, stream=True) == float("inf")
    made.begin(A, 5.0, 1, stream=True)
    assert made.idle(A, 12.0, 500, stream=True) == 7.0
    assert made.idle(A, 12.0, 1, stream=False) == float("inf")
    assert made.idle(A, 12.0, 50_000, stream=True) == float("inf")


def test_a_long_whole_answer_or_a_large_input_does_not_make_small_streams_look_slow() -> None:
    """What counts is what somebody waits longer than usual; a stream that hangs counts for everybody."""
    made = Traffic()
    ask(made, 0.0, 0.2, 0.2)
    ask(made, 0.0, 5.0, 5.0, tokens=50_000)
    ask(made, 0.0, 0.0, 8.0, stream=False)
    made.begin(A, 100.0, 100, stream=False)
    assert seconds(made, 160.0) == pytest.approx(0.2)
    assert seconds(made, 160.0, stream=False) == pytest.approx(30.0)
    made.begin(A, 160.0, 50_000, stream=True)
    assert seconds(made, 164.0) == pytest.approx(0.2)
    assert seconds(made, 175.0) == pytest.approx(0.2 + 10.0)
    assert seconds(made, 175.0, tokens=50_000) == pytest.approx(15.0)


def test_a_first_output_is_forgotten_so_that_a_ceiling_does_not_shut_out_for_ever() -> None:
    """Only streams show one."""
    made = Traffic()
    ask(made, 0.0, 0.0, 9.0, stream=False)
    assert made.first_output(A, 1.0) is None
    ask(made, 10.0, 2.0, 3.0)
    assert made.first_output(A, 14.0) == 2.0
    assert made.first_output(A, 13.5 + FRESH) is None


def test_expected_output_is_the_routes_median_within_the_callers_bound() -> None:
    """And a guess on a route that has answered nothing."""
    made = Traffic()
    assert made.expected_output(ROUTE, None) == USUAL_OUTPUT
    for output in (10, 1000, 20, 30, 5):
        made.answered(ROUTE, output)
    assert made.expected_output(ROUTE, None) == 20
    assert made.expected_output(ROUTE, 12) == 12


def test_expected_output_moves_on() -> None:
    """The newest answers count."""
    made = Traffic()
    for output in [10] * 200 + [500] * 64:
        made.answered(ROUTE, output)
    assert made.expected_output(ROUTE, None) == 500


def test_a_conversation_is_held_for_a_while() -> None:
    """As long as prompt caches live, about."""
    made = Traffic()
    made.remember(b"c", A, 700, 0.0)
    held = made.holder(b"c", 1.0)
    assert held is not None
    assert (held.key, held.tokens) == (A, 700)
    assert made.holder(b"c", REMEMBERED + 1.0) is None
    assert made.holder(b"other", 1.0) is None
