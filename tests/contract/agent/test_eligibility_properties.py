"""What holds for a machine whatever its owner does, checked against the wishes themselves, not the states."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.eligibility import DWELL, Eligibility, Readings, Standing, Thing
from intertie.agent.hours import DAY, read_hours
from intertie.agent.wishes import Mode, Wishes
from intertie.core.wire.link import Serving

PROGRAMS = ("blender", "steam")
BLIND = {Thing.INPUT: "x", Thing.PROGRAMS: "x", Thing.TEMPERATURE: "x"}

wishes = st.builds(
    Wishes,
    mode=st.sampled_from(Mode),
    idle_minutes=st.sampled_from([0.5, 1.0, 10.0]),
    hours=st.sampled_from(["", "mon-fri 18:00-08:00, sat-sun", "9-17", "wed"]),
    gpu_busy_share=st.sampled_from([0.1, 0.15, 1.0]),
    gpu_busy_minutes=st.sampled_from([0.0, 0.5, 2.0]),
    on_battery=st.booleans(),
    programs=st.sampled_from([(), PROGRAMS]),
    max_temperature=st.sampled_from([None, 80.0]),
    yield_seconds=st.sampled_from([0.0, 20.0, 120.0]),
)
readings = st.builds(
    Readings,
    idle_seconds=st.sampled_from([None, 0.0, 0.4, 29.9, 30.0, 700.0, 700.0, 700.0, math.inf]),
    weekday=st.integers(0, 6),
    minute=st.integers(0, DAY - 1),
    on_battery=st.sampled_from([None, False, False, False, True]),
    gpu_busy=st.sampled_from([None, 0.0, 0.0, 0.12, 1.0]),
    programs=st.sampled_from([frozenset[str](), frozenset({"init"}), frozenset({"steam"})]),
    temperature=st.sampled_from([None, 40.0, 40.0, 79.0, 80.0]),
    unreadable=st.sampled_from([{}, {}, {}, BLIND]),
)
steps = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 5.0, 30.0, 61.0]), readings), min_size=1, max_size=40)


def history(wished: Wishes, taken: list[tuple[float, Readings]]) -> list[tuple[float, Readings, Standing]]:
    """Everything that happened, in order."""
    eligibility = Eligibility(wished, 0.0)
    now = 0.0
    told = []
    for wait, read in taken:
        now += wait
        told.append((now, read, eligibility.update(read, now)))
    return told


def violated(wished: Wishes, read: Readings) -> bool:
    """True if a wish is plainly not met by these readings, in the words of the wishes."""
    idle = wished.mode is Mode.IDLE
    return (
        (idle and (read.idle_seconds is None or read.idle_seconds < wished.idle_minutes * 60))
        or (idle and read.gpu_busy is not None and read.gpu_busy >= wished.gpu_busy_share)
        or (bool(read.on_battery) and not wished.on_battery)
        or (bool(wished.programs) and (bool(read.programs & set(wished.programs)) or Thing.PROGRAMS in read.unreadable))
        or (wished.max_temperature is not None and (read.temperature is None or read.temperature >= 80))
        or not read_hours(wished.hours).open(read.weekday, read.minute)
    )


@given(wishes, steps)
def test_no_work_while_a_wish_is_not_met(wished: Wishes, taken: list[tuple[float, Readings]]) -> None:
    """Not for one reading, so with readings twice a second an owner who is back waits half a second at most."""
    assert not [
        now for now, read, told in history(wished, taken) if told.state is Serving.SERVING and violated(wished, read)
    ]


@given(wishes, steps)
def test_a_machine_that_stopped_waits_at_least_a_minute(wished: Wishes, taken: list[tuple[float, Readings]]) -> None:
    """Between the end of serving and its next beginning lie the owner's yield and the dwell."""
    stopped: float | None = None
    for now, _, told in history(wished, taken):
        if told.state is Serving.SERVING:
            assert stopped is None or now - stopped >= wished.yield_seconds + DWELL
            stopped = None
        elif told.state is Serving.YIELDING:
            stopped = told.since


@given(wishes, steps)
def test_states_follow_each_other_only_as_drawn(wished: Wishes, taken: list[tuple[float, Readings]]) -> None:
    """SERVING, YIELDING, IDLE_WAIT, SERVING; yielding lasts the owner's limit; `since` is when the state began."""
    allowed = {
        (Serving.SERVING, Serving.YIELDING),
        (Serving.YIELDING, Serving.IDLE_WAIT),
        (Serving.IDLE_WAIT, Serving.SERVING),
    }
    before: Standing | None = None
    for now, _, told in history(wished, taken):
        if before is not None and told.state is not before.state:
            assert (before.state, told.state) in allowed
            assert told.since == now
            if before.state is Serving.YIELDING:
                assert now - before.since >= wished.yield_seconds
        elif before is not None:
            assert told.since == before.since
        before = told


@given(wishes, steps)
def test_every_state_has_a_reason(wished: Wishes, taken: list[tuple[float, Readings]]) -> None:
    """Short enough for a line or two, and never a raw value."""
    for _, _, told in history(wished, taken):
        assert told.reason
        assert "None" not in told.reason
        assert "inf" not in told.reason


@given(wishes, readings)
def test_a_free_machine_serves_in_the_end(wished: Wishes, read: Readings) -> None:
    """Nothing stays blocked by its past: once all wishes are met and stay so, it serves."""
    good = Readings(idle_seconds=math.inf, weekday=2, minute=15 * 60, gpu_busy=0.0, temperature=40.0)
    if violated(wished, good):
        return
    told = history(wished, [(0.5, read), *[(30.0, good)] * 20])
    assert told[-1][2].state is Serving.SERVING
