"""However frames are cut, they give the same messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.websocket import Message, Opcode, encode
from tests.unit.core.wire.test_websocket import CONTROL, MASK, cut, payload, read

SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 65535, 65536, 70_000])


MESSAGES = st.lists(
    st.one_of(
        CONTROL,
        st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), SIZES.map(payload)),
    ),
    max_size=6,
)


@given(MESSAGES, st.booleans(), st.data())
def test_any_split_of_any_frames_gives_the_same_messages(
    messages: list[tuple[Opcode, bytes]], peer_masks: bool, drawn: st.DataObject
) -> None:
    mask = MASK if peer_masks else None
    content = b"".join(encode(opcode, body, mask) for opcode, body in messages)

    assert read(cut(content, drawn), peer_masks=peer_masks) == [Message(*message) for message in messages]
