"""Slots: what is taken, what is given back, and what a runtime may still be working on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.slots import DRAIN_SECONDS, Slots

HERE, THERE = "http://127.0.0.1:1", "http://127.0.0.1:2"


def test_a_runtime_has_as_many_slots_as_it_has() -> None:
    slots = Slots()
    assert [slots.take(HERE, 2) for _ in range(3)] == [True, True, False]
    assert slots.take(THERE, 1)
    slots.free(HERE)
    assert slots.take(HERE, 2)
    assert (slots.busy, slots.draining) == (3, 0)


def test_an_abandoned_exchange_keeps_its_slot_until_the_runtime_agrees() -> None:
    slots = Slots()
    slots.take(HERE, 1)
    slots.abandon(HERE, now=100.0)
    assert (slots.busy, slots.draining, slots.take(HERE, 1)) == (0, 1, False)
    slots.settle(HERE, 1, now=101.0)
    assert not slots.take(HERE, 1)
    slots.settle(HERE, 0, now=102.0)
    assert slots.take(HERE, 1)


def test_a_runtime_that_does_not_tell_is_trusted_to_have_stopped() -> None:
    slots = Slots()
    slots.take(HERE, 1)
    slots.abandon(HERE, now=0.0)
    slots.settle(HERE, None, now=0.1)
    assert slots.take(HERE, 1)


def test_nothing_drains_for_ever() -> None:
    """The owner's own use is counted by the runtime as well, so agreement may never come."""
    slots = Slots()
    slots.take(HERE, 1)
    slots.abandon(HERE, now=0.0)
    slots.settle(HERE, 5, now=DRAIN_SECONDS - 0.1)
    assert slots.drains(HERE)
    slots.settle(HERE, 5, now=DRAIN_SECONDS)
    assert not slots.drains(HERE)
    assert slots.take(HERE, 1)


def test_what_is_under_way_is_not_taken_for_what_was_abandoned() -> None:
    slots = Slots()
    for _ in range(3):
        slots.take(HERE, 3)
    slots.abandon(HERE, now=0.0)
    slots.abandon(HERE, now=0.0)
    slots.settle(HERE, 2, now=1.0)
    assert (slots.busy, slots.draining) == (1, 1)


def test_settling_an_unknown_runtime_does_nothing() -> None:
    slots = Slots()
    slots.settle(HERE, 3, now=1.0)
    assert not slots.drains(HERE)


@given(st.lists(st.tuples(st.sampled_from(["take", "free", "abandon", "settle"]), st.integers(0, 4)), max_size=60))
def test_no_slot_is_lost_and_none_is_invented(steps: list[tuple[str, int]]) -> None:
    slots, busy, now = Slots(), 0, 0.0
    for step, number in steps:
        now += number
        if step == "take":
            before = slots.used(HERE)
            assert slots.take(HERE, 3) is (before < 3)
            busy += before < 3
        elif step == "settle":
            slots.settle(HERE, number, now)
        elif busy:
            busy -= 1
            slots.free(HERE) if step == "free" else slots.abandon(HERE, now)
        assert slots.busy == busy
        assert slots.used(HERE) == busy + slots.draining <= 3
    for _ in range(busy):
        slots.free(HERE)
    slots.settle(HERE, 9, now + DRAIN_SECONDS)
    assert slots.used(HERE) == 0
