"""Upstream answers that are right but unusual, as scripts: the client must get them whole, from this very target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.faults import Fault
from tests.support.replies import (
    DONE,
    EVENTS,
    JSON,
    LAST_CHUNK,
    PIECES,
    TEXT,
    chat,
    chunked,
    delta,
    event,
    finished,
    head,
    packed,
    text_chunks,
    tool_chunks,
    usage_chunk,
    whole,
)
from tests.support.steps import Close, Script, Send, sliced, spoken

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Odd(Fault):
    """An unusual answer, with what the client must find in it."""

    pieces: Sequence[Chunk] = tuple(text_chunks())
    """The chunks of the stream that have choices, in order."""
    message: str = TEXT
    """The text of an answer that is not streamed."""


_GOOD = packed(chat({"content": TEXT}))
_FRAMES = [event(piece) for piece in [*text_chunks(), usage_chunk()]]
_BODY = b"".join([*_FRAMES, DONE])
_LAST = Send(LAST_CHUNK)
_HINTS = Send(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n")


def _bytewise(body: bytes, kind: str) -> Script:
    return (*chunked((body[n : n + 1] for n in range(len(body))), kind=kind), _LAST)


def _slowly(body: bytes, kind: str) -> Script:
    return sliced(spoken(whole(body, kind=kind)), 29, 0.001)


def _until_close(body: bytes, kind: str) -> Script:
    return (Send(head(200, [("content-type", kind), ("connection", "close")]) + body), Close())


def _lined(end: bytes) -> Script:
    return finished([frame.replace(b"\n", end) for frame in _FRAMES])


def _framings() -> list[Odd]:
    """The same answer, cut and delimited in every way HTTP allows."""
    surplus = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"
    crlf_parts = [part for frame in [*_FRAMES, DONE] for part in (frame[:-2] + b"\r", b"\n\r", b"\n")]
    return [
        Odd("split_characters", _bytewise(_BODY, EVENTS), _bytewise(_GOOD, JSON)),
        Odd("split_events", _slowly(_BODY, EVENTS), _slowly(_GOOD, JSON)),
        Odd("one_segment", (*chunked([_BODY]), _LAST), whole(_GOOD)),
        Odd("crlf_lines", _lined(b"\r\n"), None),
        Odd("cr_lines", _lined(b"\r"), None),
        Odd("split_crlf", (*chunked(crlf_parts, every=0.001), _LAST), None),
        Odd("delimited_by_close", _until_close(_BODY, EVENTS), _until_close(_GOOD, JSON)),
        Odd("no_final_chunk_after_done", (*chunked([*_FRAMES, DONE]), Close()), None),
        Odd("length_beyond_done", (*whole(_BODY, kind=EVENTS, length=len(_BODY) + 50), Close()), None),
        Odd("events_after_done", (*chunked([*_FRAMES, DONE, _FRAMES[1], DONE]), _LAST), None),
        Odd(
            "surplus_after_body",
            (*whole(_BODY, kind=EVENTS), Send(surplus), Close()),
            (*whole(_GOOD), Send(surplus), Close()),
        ),
        Odd("early_hints", (_HINTS, *finished(_FRAMES)), (_HINTS, *whole(_GOOD))),
    ]


def _dialect() -> Script:
    """Comments, other fields, no space after the colon, data over two lines, a byte order mark."""
    first, second, *others = [packed(piece) for piece in [*text_chunks(), usage_chunk()]]
    frames = [
        b"\xef\xbb\xbf: hello\n\n",
        b"event: message\nid: 7\nretry: 100\ndata:" + first + b"\n\n",
        b"data: " + second.replace(b',"choices"', b',\ndata: "choices"', 1) + b"\n\n",
        *(b"unknown: field\n: comment\ndata:" + piece + b"\n\n" for piece in others),
    ]
    return finished(frames)


def _said(name: str, text: str) -> Odd:
    """One unusual text."""
    pieces = text_chunks([text])
    streamed = finished([event(piece) for piece in [*pieces, usage_chunk()]])
    return Odd(name, streamed, whole(packed(chat({"content": text}))), pieces=pieces, message=text)


def _shaped(name: str, pieces: Sequence[Chunk]) -> Odd:
    """An unusual sequence of chunks."""
    return Odd(name, finished([event(piece) for piece in [*pieces, usage_chunk()]]), None, pieces=pieces)


def _counted(name: str, usage: dict[str, Any] | None) -> Odd:
    """An answer with unusual usage."""
    extra = [] if usage is None else [event(usage_chunk(usage))]
    streamed = finished([*_FRAMES[:-1], *extra])
    return Odd(name, streamed, whole(packed(chat({"content": TEXT}, usage=usage))))


def _contents() -> list[Odd]:
    """Unusual content in the usual frame."""
    two = [delta({"role": "assistant", "content": ""}, index=n) for n in (0, 1)]
    two += [delta({"content": piece}, index=n) for piece in PIECES for n in (1, 0)]
    two += [delta({}, finish="stop", index=n) for n in (0, 1)]
    absurd = {"prompt_tokens": 10**18, "completion_tokens": 1, "total_tokens": 10**18 + 1}
    return [
        Odd("event_dialect", _dialect(), None),
        _said("long_line", "long " * 200_000),
        _said("line_separators", "a\u2028b\u2029c\u0085d\fe\x0bf"),
        _said("words_of_the_wire", 'data: [DONE]\n\n{"error": {"message": "not one"}} "usage" "tool_calls"'),
        _shaped("two_choices", two),
        _shaped("tool_call_by_bytes", tool_chunks("get_weather", '{"city": "Zürich", "days": 2}')),
        _counted("usage_missing", None),
        _counted("usage_negative", {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6}),
        _counted("usage_absurd", absurd),
    ]


def odd() -> list[Odd]:
    """All of them."""
    return [*_framings(), *_contents()]
