"""What a runtime has not taken yet comes out as it went in, from memory and from a file."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.backlog import IN_MEMORY, Backlog


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


def test_what_is_dropped_is_gone_and_it_may_begin_anew() -> None:
    backlog = Backlog()
    backlog.put(b"a" * IN_MEMORY)
    backlog.put(b"b")
    backlog.drop()
    assert (len(backlog), backlog.take(10)) == (0, b"")
    backlog.put(b"c")
    assert backlog.take(10) == b"c"
