"""Frames: whatever way they are split and fragmented, the same messages come out, or the same refusal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.websocket import (
    MAX_CONTROL,
    FrameReader,
    FrameViolation,
    Message,
    Opcode,
    accept_key,
    close_payload,
    encode,
    masked,
    read_close,
)

MASK = b"\x01\xfe\x80\x7f"
CONTROL = st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=MAX_CONTROL))


def payload(size: int) -> bytes:
    return bytes(at * 7 % 256 for at in range(size))


def read(pieces: Sequence[bytes], *, peer_masks: bool = True, limit: int = 1 << 20) -> list[Message]:
    reader = FrameReader(masked=peer_masks, limit=limit)
    found = [message for piece in pieces for message in reader.feed(piece)]
    assert reader.rest == 0
    return found


def cut(content: bytes, drawn: st.DataObject) -> list[bytes]:
    cuts = sorted(drawn.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def fragment(opcode: int, content: bytes, mask: bytes | None, *, last: bool) -> bytes:
    frame = bytearray(encode(opcode, content, mask))
    if not last:
        frame[0] &= 0x7F
    return bytes(frame)


@given(st.binary(max_size=2000), st.lists(CONTROL, max_size=3), st.data())
def test_fragments_are_put_together_and_control_frames_may_come_between(
    body: bytes, controls: list[tuple[Opcode, bytes]], drawn: st.DataObject
) -> None:
    parts = cut(body, drawn)
    frames = [
        fragment(Opcode.BINARY if at == 0 else Opcode.CONTINUATION, part, MASK, last=at == len(parts) - 1)
        for at, part in enumerate(parts)
    ]
    between = [encode(opcode, what, MASK) for opcode, what in controls]
    content = b"".join([frames[0], *between, *frames[1:]])

    found = read(cut(content, drawn))

    whole = Message(Opcode.BINARY, body)
    expected = [Message(*control) for control in controls]
    assert found == ([whole, *expected] if len(parts) == 1 else [*expected, whole])


@given(st.binary(max_size=200), st.data())
def test_garbage_is_refused_or_read_but_never_breaks(garbage: bytes, drawn: st.DataObject) -> None:
    reader = FrameReader(masked=True)
    with suppress(FrameViolation):
        for piece in cut(garbage, drawn):
            reader.feed(piece)
    assert reader.rest <= len(garbage)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\xc1\x80" + MASK, 1002),  # a reserved bit
        (b"\x83\x80" + MASK, 1002),  # an unknown opcode
        (encode(Opcode.TEXT, b"x"), 1002),  # not masked
        (b"\x89\xfe\x00\x7e", 1002),  # a PING of 126 bytes
        (b"\x09\x80" + MASK, 1002),  # a PING in fragments
        (encode(Opcode.CONTINUATION, b"x", MASK), 1002),  # of nothing
        (fragment(Opcode.TEXT, b"x", MASK, last=False) + encode(Opcode.TEXT, b"y", MASK), 1002),
        (b"\x82\xff" + (1 << 40).to_bytes(8), 1009),
        (b"\x82\xfe\x03\xe9", 1009),
        (fragment(Opcode.BINARY, bytes(600), MASK, last=False) + fragment(0, bytes(600), MASK, last=False), 1009),
    ],
)
def test_a_breach_is_told_apart(frames: bytes, code: int) -> None:
    with pytest.raises(FrameViolation) as caught:
        read([frames], limit=1000)
    assert caught.value.code == code


def test_a_server_may_not_mask() -> None:
    with pytest.raises(FrameViolation):
        read([encode(Opcode.TEXT, b"x", MASK)], peer_masks=False)


def test_what_is_too_large_is_refused_at_its_head_before_it_is_held() -> None:
    reader = FrameReader(masked=True, limit=1000)
    with pytest.raises(FrameViolation):
        reader.feed(b"\x82\xff" + (1001).to_bytes(8))


def test_endless_fragments_are_refused() -> None:
    reader = FrameReader(masked=True)
    reader.feed(fragment(Opcode.TEXT, b"", MASK, last=False))
    endless = fragment(Opcode.CONTINUATION, b"", MASK, last=False) * 5000
    with pytest.raises(FrameViolation):
        reader.feed(endless)


def test_a_large_frame_in_tiny_pieces_costs_no_more_than_their_number() -> None:
    body = payload(500_000)
    content = encode(Opcode.BINARY, body, MASK)
    reader = FrameReader(masked=True)
    began = time.process_time()
    found = [message for at in range(0, len(content), 10) for message in reader.feed(content[at : at + 10])]
    assert found == [Message(Opcode.BINARY, body)]
    assert time.process_time() - began < 1.0, "copying what is held each time takes many seconds"


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masking_twice_gives_it_back(body: bytes, mask: bytes) -> None:
    hidden = masked(body, mask)

    assert masked(hidden, mask) == body
    assert hidden == bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))


def test_the_accept_key_is_the_standards() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.integers(1000, 4999), st.text(max_size=200))
def test_a_close_says_why_within_what_a_control_frame_holds(code: int, reason: str) -> None:
    said = close_payload(code, reason)

    assert len(said) <= MAX_CONTROL
    back, text = read_close(said)
    assert back == code
    assert reason.startswith(text)


@given(st.binary(max_size=125))
def test_any_close_can_be_read(said: bytes) -> None:
    code, _ = read_close(said)

    assert code == (1005 if len(said) < 2 else int.from_bytes(said[:2]))
