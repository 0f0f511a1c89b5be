"""What a runtime has not taken yet comes out as it went in, from memory and from a file."""

from __future__ import annotations

from intertie.agent.backlog import IN_MEMORY, Backlog


def test_what_is_dropped_is_gone_and_it_may_begin_anew() -> None:
    backlog = Backlog()
    backlog.put(b"a" * IN_MEMORY)
    backlog.put(b"b")
    backlog.drop()
    assert (len(backlog), backlog.take(10)) == (0, b"")
    backlog.put(b"c")
    assert backlog.take(10) == b"c"
