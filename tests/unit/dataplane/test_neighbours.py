"""Vectors in memory: bounded, apart by place, nearest first."""

from __future__ import annotations

import math

import pytest

from intertie.core.policy.answers import Selection, Space
from intertie.core.policy.likeness import Likeness, likeness
from intertie.dataplane import neighbours
from intertie.dataplane.neighbours import COMPARED, PER_PLACE, Neighbour, Neighbours, nearest, unit

OURS = ("org", "m")


def like(text: str) -> Likeness:
    found = likeness(text, "s")
    assert found is not None
    return found


ASKED = like("How do I reset my password?")


def one(number: int, likeness: Likeness = ASKED) -> Neighbour:
    return Neighbour(b"key%d" % number, likeness, unit([1.0, number]))


def test_places_never_meet() -> None:
    known = Neighbours()
    known.add(b"a", OURS, one(1))
    assert known.alike(b"a", ASKED, 1.0) == [one(1)]
    assert known.alike(b"b", ASKED, 0.5) == []


def test_those_with_more_words_in_common_come_first_and_some_not_at_all() -> None:
    known = Neighbours()
    close, closer = like("How do I reset my email password?"), like("How can I reset the password?")
    for number, other in enumerate((close, closer, like("How do I reset my router?"))):
        known.add(b"a", OURS, one(number, other))
    assert known.alike(b"a", ASKED, 0.5) == [one(1, closer), one(0, close)]
    assert known.alike(b"a", ASKED, 0.9) == [one(1, closer)]


def test_the_same_key_is_kept_once() -> None:
    known = Neighbours()
    known.add(b"a", OURS, one(1))
    known.add(b"a", OURS, one(1))
    assert len(known) == 1
    known.drop(b"a", b"key1")
    known.drop(b"a", b"key1")
    known.drop(b"b", b"key1")
    assert (len(known), known.bytes) == (0, 0)


def test_a_place_and_a_look_are_bounded() -> None:
    known = Neighbours()
    for number in range(PER_PLACE + 5):
        known.add(b"a", OURS, one(number))
    assert len(known) == PER_PLACE
    found = known.alike(b"a", ASKED, 1.0)
    assert len(found) == COMPARED
    assert found[0] == one(PER_PLACE + 4)  # the newest of equals


def test_memory_is_bounded_and_the_least_used_place_goes_first() -> None:
    known = Neighbours(memory=3 * one(1).size)
    for place in (b"a", b"b", b"c"):
        known.add(place, OURS, one(1))
    assert known.alike(b"a", ASKED, 1.0)
    known.add(b"d", OURS, one(1))
    assert [bool(known.alike(place, ASKED, 1.0)) for place in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert known.bytes == 3 * one(1).size


def test_clearing_forgets_what_is_meant_and_nothing_else() -> None:
    known = Neighbours()
    for place, whose in ((b"a", OURS), (b"b", ("org", "n")), (b"c", ("other", "m"))):
        known.add(place, whose, one(1))
        known.add(place, whose, one(2))
    known.clear(Selection("org", Space.IDEMPOTENCY))
    assert len(known) == 6
    known.clear(Selection("org", key=b"key1", route="m"))
    assert len(known) == 5
    known.clear(Selection("org"))
    assert known.alike(b"c", ASKED, 1.0)
    assert len(known) == 2


def test_nearest_first_and_other_lengths_left_out() -> None:
    near, far = one(1), one(2)
    other = Neighbour(b"x", ASKED, unit([1.0, 0.0, 0.0]))
    found = nearest(unit([1.0, 1.1]), [far, other, near])
    assert [neighbour for _, neighbour in found] == [near, far]
    assert nearest(near.vector, [near])[0][0] == pytest.approx(1.0)
    assert nearest(near.vector, [near])[0][0] <= 1.0


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [math.nan], [math.inf], [1e308, 1e308]])
def test_what_is_no_vector_is_refused(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match="not a vector"):
        unit(numbers)


def test_bounds_are_sane() -> None:
    assert 1000 * Neighbour(b"", ASKED, unit([1.0] * 3072)).size < neighbours.MEMORY
