"""Whatever bytes come as an answer, one error is all they raise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.http_response import (
    AnswerReader,
    BadAnswer,
)

_WORDS = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 C\r\n", b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n"),
        *(b"\r\n", b"3\r\nabc\r\n", b"0\r\n", b"\n", b"\r", b":", b" ", b"\x00", b"f", b"abc", b"\xff\xfe"),
    ]
)


@given(st.lists(st.one_of(_WORDS, st.binary(max_size=8)), max_size=30))
def test_nonsense_raises_nothing_else(pieces: list[bytes]) -> None:
    reader = AnswerReader()
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.end()
    except BadAnswer:
        return
    assert reader.done
