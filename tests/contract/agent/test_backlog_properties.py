"""Bytes leave a backlog as they came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.backlog import Backlog


@given(st.lists(st.one_of(st.integers(1, 700_000), st.just(-200_000)), max_size=12))
def test_bytes_come_out_as_they_went_in(steps: list[int]) -> None:
    backlog, sent, got, number = Backlog(), bytearray(), bytearray(), 0
    for step in steps:
        if step > 0:
            number += 1
            piece = number.to_bytes(2) * (step // 2)
            backlog.put(piece)
            sent += piece
        else:
            got += backlog.take(-step)
        assert len(backlog) == len(sent) - len(got)
    while piece := backlog.take(65536):
        got += piece
    assert got == sent
    assert not backlog
    backlog.drop()
