"""Whose turn it is among calls that wait."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.policy.turns import Priority, Turns


def _order(*waiting: tuple[str, Priority, str]) -> list[str]:
    turns = Turns[str]()
    for key, priority, who in waiting:
        turns.add(key, priority, who)
    return [turns.pop() for _ in range(len(turns))]


def test_keys_take_turns_and_each_keeps_its_order() -> None:
    """A key with a hundred calls waits as long as one with a single call."""
    normal = Priority.NORMAL
    order = _order(*(("a", normal, f"a{n}") for n in range(3)), ("b", normal, "b0"), ("b", normal, "b1"))

    assert order == ["a0", "b0", "a1", "b1", "a2"]


def test_urgent_calls_come_first_whoever_waits() -> None:
    """Within a priority, keys take turns; between priorities, the urgent one goes."""
    order = _order(("a", Priority.BATCH, "late"), ("b", Priority.NORMAL, "so"), ("a", Priority.INTERACTIVE, "now"))

    assert order == ["now", "so", "late"]


def test_who_leaves_is_not_called() -> None:
    """And leaving twice says so."""
    turns = Turns[str]()
    turns.add("a", Priority.NORMAL, "one")
    turns.add("b", Priority.NORMAL, "two")

    assert turns.leave("a", Priority.NORMAL, "one")
    assert not turns.leave("a", Priority.NORMAL, "one")
    assert turns.first() == "two"
    assert turns.pop() == "two"
    assert turns.first() is None
    with pytest.raises(IndexError):
        turns.pop()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Priority))), max_size=60))
def test_nobody_is_passed_more_than_once_per_round(waiting: list[tuple[str, Priority]]) -> None:
    """While a key waits in a priority, no other key of that priority is served twice before it."""
    turns = Turns[tuple[str, Priority]]()
    for key, priority in waiting:
        turns.add(key, priority, (key, priority))
    left = Counter(waiting)
    since: dict[tuple[str, Priority], Counter[str]] = {}
    while turns:
        key, priority = turns.pop()
        left[key, priority] -= 1
        assert not any(left[other, above] for other in "abc" for above in Priority if above < priority)
        for other in "abc":
            if other != key and left[other, priority]:
                passed = since.setdefault((other, priority), Counter())
                passed[key] += 1
                assert passed[key] <= 1
        since.pop((key, priority), None)
    assert not +left
