"""Whatever a node sends on a lane, it is an answer or an error."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.errors import UpstreamError
from intertie.dataplane.transport.lane import Lane
from tests.unit.dataplane.transport.far_end import turn
from tests.unit.dataplane.transport.test_lane import asked

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("head"), st.integers(0, 700)),
        st.tuples(st.just("piece"), st.binary(max_size=5)),
        st.tuples(st.sampled_from(["end", "refused", "broken", "open", "want"]), st.none()),
        st.tuples(st.just("frame"), st.tuples(st.integers(0, 15), st.binary(max_size=5))),
        st.tuples(st.just("bytes"), st.binary(max_size=20)),
    ),
    max_size=12,
)


@given(STEPS)
async def test_whatever_a_node_sends_is_an_answer_or_an_error(steps: list[tuple[str, object]]) -> None:
    _, lane, far = await asked()
    reading = asyncio.create_task(_read(lane))
    await turn(1)
    for kind, what in steps:
        if kind == "head":
            far.say("head", status=what, headers={})
        elif kind == "piece":
            assert isinstance(what, bytes)
            far.piece(what)
        elif kind == "frame":
            assert isinstance(what, tuple)
            far.frame(*what)
        elif kind == "bytes":
            assert isinstance(what, bytes)
            lane.data_received(what)
        else:
            far.say(kind, code="busy", message="m")
    far.leave()
    await turn()
    error = reading.exception()
    assert error is None or isinstance(error, UpstreamError)
    assert not lane.usable


async def _read(lane: Lane) -> None:
    await lane.head()
    await lane.pour(bool)
