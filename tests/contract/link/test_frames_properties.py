"""However frames are cut, they give the same messages."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.websocket import (
    MAX_CONTROL,
    FrameReader,
    Message,
    Opcode,
    encode,
)

MASK = b"\x01\xfe\x80\x7f"


SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 65535, 65536, 70_000])


CONTROL = st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=MAX_CONTROL))


def payload(size: int) -> bytes:
    return bytes(at * 7 % 256 for at in range(size))


MESSAGES = st.lists(
    st.one_of(
        CONTROL,
        st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), SIZES.map(payload)),
    ),
    max_size=6,
)


def read(pieces: Sequence[bytes], *, peer_masks: bool = True, limit: int = 1 << 20) -> list[Message]:
    reader = FrameReader(masked=peer_masks, limit=limit)
    found = [message for piece in pieces for message in reader.feed(piece)]
    assert reader.rest == 0
    return found


def cut(content: bytes, drawn: st.DataObject) -> list[bytes]:
    cuts = sorted(drawn.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


@given(MESSAGES, st.booleans(), st.data())
def test_any_split_of_any_frames_gives_the_same_messages(
    messages: list[tuple[Opcode, bytes]], peer_masks: bool, drawn: st.DataObject
) -> None:
    mask = MASK if peer_masks else None
    content = b"".join(encode(opcode, body, mask) for opcode, body in messages)

    assert read(cut(content, drawn), peer_masks=peer_masks) == [Message(*message) for message in messages]
