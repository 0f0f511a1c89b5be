"""What is remembered about strangers, and that it is never much."""

from __future__ import annotations

import pytest

from intertie.controlplane.guard import WINDOW, Attempts, Copies, Refusals, block

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("", "192.0.2.1", False),
    ],
)
def test_an_address_stands_for_what_one_stranger_holds(one: str, other: str, *, same: bool) -> None:
    """Whoever has an IPv6 address has 2^64 of them."""
    assert (block(one) == block(other)) is same


def test_ten_attempts_a_minute() -> None:
    """The eleventh waits, a refused one is not counted, another address is not touched."""
    attempts = Attempts(10)
    for at in range(10):
        assert attempts.wait("192.0.2.1", NOW + at) == 0

    assert attempts.wait("192.0.2.1", NOW + 10) == 50
    assert attempts.wait("192.0.2.1", NOW + 59) == 1
    assert attempts.wait("192.0.2.2", NOW + 10) == 0
    assert attempts.wait("192.0.2.1", NOW + 60) == 0


def test_attempts_survive_a_clock_that_is_set_back() -> None:
    """Nobody is kept out for the years the clock was wrong."""
    attempts = Attempts(1)
    attempts.wait("192.0.2.1", NOW)

    assert attempts.wait("192.0.2.1", NOW - 1e8) == 0


def test_attempts_of_many_addresses_take_bounded_memory() -> None:
    """The one that tried least recently is forgotten."""
    attempts = Attempts(1)
    for number in range(Attempts.MOST + 100):
        attempts.wait(f"host {number}", NOW)

    assert repr(attempts) == f"<Attempts of {Attempts.MOST} addresses>"
    assert attempts.wait("host 0", NOW) == 0
    assert attempts.wait(f"host {Attempts.MOST + 99}", NOW) > 0


def test_refusals_are_told_once_and_then_in_sum() -> None:
    """A thousand of a kind are one record at once, and one with their number when the hour is over."""
    refusals = Refusals()
    for _ in range(1000):
        refusals.note("o", "enrolment.refused", "", "192.0.2.1", {"reason": "unknown"}, NOW)

    assert [(one.address, one.times) for one in refusals.due(NOW)] == [("192.0.2.1", 1000)]
    for at in range(1000):
        refusals.note("o", "enrolment.refused", "", "192.0.2.1", {"reason": "unknown"}, NOW + at)
        assert refusals.due(NOW + at) == []
    assert [one.times for one in refusals.due(NOW + WINDOW)] == [1000]
    assert refusals.due(NOW + 2 * WINDOW) == []


def test_another_reason_or_address_is_told_at_once() -> None:
    """A flood of one kind hides nothing of another."""
    refusals = Refusals()
    refusals.note("o", "a", "", "192.0.2.1", {"reason": "unknown"}, NOW)
    refusals.due(NOW)
    refusals.note("o", "a", "tok", "192.0.2.1", {"reason": "spent"}, NOW)
    refusals.note("o", "a", "", "192.0.2.2", {"reason": "unknown"}, NOW)

    assert sorted((one.address, one.detail["reason"]) for one in refusals.due(NOW)) == [
        ("192.0.2.1", "spent"),
        ("192.0.2.2", "unknown"),
    ]


def test_refusals_of_many_addresses_are_few_records() -> None:
    """Whoever has a network of addresses fills neither the memory nor the disk."""
    refusals = Refusals()
    for number in range(5000):
        refusals.note("o", "a", "", f"host {number}", {"reason": "unknown"}, NOW)
    due = refusals.due(NOW)

    assert len(due) == Refusals.MOST + 1
    assert sum(one.times for one in due) == 5000
    assert due[-1].address == "others"


def _play(places: list[tuple[str, str]], *, apart: float = 60.0) -> list[bool]:
    copies = Copies()
    steps = enumerate(zip(places, places[1:], strict=False), 1)
    return [copies.superseded("n", before, after, NOW + at * apart) for at, (before, after) in steps]


def test_two_agents_that_take_turns_are_copies() -> None:
    """More than five changes within ten minutes, back and forth."""
    found = _play([("x", "f"), ("y", "f")] * 5)

    assert found.index(True) == 5


def test_two_machines_whose_agents_start_anew_are_copies() -> None:
    """Each start is a new instance; the machines tell on them."""
    assert any(_play([(f"i{number}", "ab"[number % 2]) for number in range(10)]))


def test_three_copies_are_noticed_as_well() -> None:
    """Not only pairs."""
    assert any(_play([("xyz"[number % 3], "f") for number in range(12)]))


def test_an_agent_that_starts_again_and_again_is_no_copy() -> None:
    """A crash loop has many instances, none of which comes back."""
    assert not any(_play([(f"i{number}", "f") for number in range(40)], apart=5))


def test_a_change_now_and_then_is_no_copy() -> None:
    """Whoever carries a disk between two machines may."""
    assert not any(_play([("x", "f"), ("y", "g")] * 20, apart=300))


def test_a_node_that_enrolled_again_begins_anew() -> None:
    """What came before is not held against it."""
    copies = Copies()
    for at in range(5):
        copies.superseded("n", ("xy"[at % 2], "f"), ("yx"[at % 2], "f"), NOW + at)
    copies.forget("n")

    assert not copies.superseded("n", ("x", "f"), ("y", "f"), NOW + 6)
