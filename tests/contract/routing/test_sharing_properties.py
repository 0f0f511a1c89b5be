"""Sharing permutes equals and does nothing else."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.room import Room
from intertie.core.routing.sharing import shared
from tests.unit.core.routing.grid import candidate

ROOMS = st.builds(
    Room,
    st.just(value=True),
    st.just(""),
    st.integers(0, 4),
    st.just(4),
    st.booleans(),
    st.sampled_from([None, 1.0, 9.0]),
)


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.uuids().map(str),
        weight=st.integers(1, 2),
        tier=st.integers(0, 1),
        model=st.sampled_from(["small", "large"]),
        room=st.none() | ROOMS,
    ),
    max_size=10,
)


def names(order: object) -> list[str]:
    assert isinstance(order, list | tuple)
    return [one.upstream.id for one in order]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(CANDIDATES, st.integers(0, 9))
def test_sharing_permutes_equals_and_does_nothing_else(order: list[Candidate], seed: int) -> None:
    """Each place keeps its tier, model and weight; none is lost or doubled; places of others do not move."""
    found = shared(order, Random(seed))
    assert sorted(names(found)) == sorted(names(order))
    for before, after in zip(order, found, strict=True):
        assert before.target.tier == after.target.tier
        assert (before.target.model, before.target.weight) == (after.target.model, after.target.weight)
        assert before is after or (before.room is not None and after.room is not None)
