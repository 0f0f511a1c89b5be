"""Answers of HTTP servers, byte by byte: good ones read alike however they are cut, bad ones have one error."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.http_response import (
    MAX_CHUNK_LINE,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_INTERIM,
    MAX_TRAILERS,
    AnswerReader,
    BadAnswer,
    read_head,
)

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"Hello, \x00 world\r\n0\r\n\r\n"


def chunked(body: bytes, size: int = 5) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return (
        b"".join(f"{len(part):X};ext=1\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\nx-trailer: 1\r\n\r\n"
    )


SHAPES = {
    "counted": OK + f"content-length: {len(BODY)}\r\n\r\n".encode() + BODY,
    "chunked": OK + b"transfer-encoding: Chunked\r\n\r\n" + chunked(BODY),
    "until the end": OK + b"server: x\r\n\r\n" + BODY,
    "after interim answers": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    + OK
    + f"content-length: {len(BODY)}, {len(BODY)}\r\n\r\n".encode()
    + BODY,
}


def read(stream: bytes, cuts: list[int] | None = None) -> tuple[AnswerReader, bytes]:
    reader = AnswerReader()
    edges = [0, *sorted(cuts or []), len(stream)]
    body = b"".join(reader.feed(stream[start:end]) for start, end in itertools.pairwise(edges))
    reader.end()
    return reader, body


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read(shape: str) -> None:
    reader, body = read(SHAPES[shape])
    assert reader.head is not None
    assert (reader.head.status, body, reader.done) == (200, BODY, True)


@pytest.mark.parametrize("shape", SHAPES)
def test_single_bytes_are_read_alike(shape: str) -> None:
    assert read(SHAPES[shape], list(range(1, len(SHAPES[shape]))))[1] == BODY


@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_cuts_anywhere_are_read_alike(shape: str, data: st.DataObject) -> None:
    stream = SHAPES[shape]
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert read(stream, cuts)[1] == BODY


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_an_answer_that_breaks_off_is_an_error(shape: str) -> None:
    whole = SHAPES[shape]
    for length in range(len(whole)):
        if shape == "until the end" and length >= whole.index(b"\r\n\r\n") + 4:
            continue
        with pytest.raises(BadAnswer):
            read(whole[:length])


def test_bytes_after_the_answer_are_dropped() -> None:
    reader, body = read(SHAPES["counted"] + b"HTTP/1.1 500 Second\r\n\r\n")
    assert (body, reader.head and reader.head.status) == (BODY, 200)


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body_whatever_they_say(status: int) -> None:
    reader = AnswerReader()
    assert reader.feed(f"HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nhello".encode()) == b""
    assert reader.done


def test_names_are_lower_case_and_repeated_headers_joined() -> None:
    head = read_head(b"HTTP/1.0 404\r\nX-A:  one \r\nx-a:\ttwo\r\nEmpty:")
    assert head == (404, {"x-a": "one, two", "empty": ""})


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1),
        OK + b" folded: x\r\n\r\n",
        OK + b"x: 1\r\n folded\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"space : x\r\n\r\n",
        OK + b": empty\r\n\r\n",
        OK + b"x: a\nb: c\r\n\r\n",
        OK + b"x: a\x00\r\n\r\n",
        OK + b"x: " + b" " * 60000 + b"\x00\r\n\r\n",
        OK + b"x: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        OK + b"x: " + b"y" * MAX_HEAD + b"\r\n\r\n",
        OK + b"x" * (MAX_HEAD + 1),
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: +5\r\n\r\n",
        OK + b"content-length: 5, 6\r\n\r\n",
        OK + b"content-length: 0x5\r\n\r\n",
        OK + b"content-length: \xb2\r\n\r\n",
        OK + b"content-length: " + b"9" * 30 + b"\r\n\r\n",
        OK + b"content-length:\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: identity\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nx\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5;" + b"x" * MAX_CHUNK_LINE + b"\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"0" * (MAX_CHUNK_LINE + 1),
        OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhello\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * (MAX_TRAILERS // 4),
    ],
)
def test_what_is_not_http_is_refused_whatever_the_reads(stream: bytes) -> None:
    for size in (len(stream), 1000, 7):
        with pytest.raises(BadAnswer):
            read(stream, list(range(size, len(stream), size)))
