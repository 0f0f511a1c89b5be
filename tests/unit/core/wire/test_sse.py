"""Server-sent events by bytes: F27 to F31."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.sse import MAX_EVENT, EventSplitter, EventTooLarge, event

LINE_ENDS = [b"\n", b"\r\n", b"\r"]


def fed(stream: bytes, cuts: list[int] | None = None) -> list[bytes]:
    splitter = EventSplitter()
    edges = [0, *sorted(cuts or []), len(stream)]
    return [data for start, end in itertools.pairwise(edges) for data in splitter.feed(stream[start:end])]


def test_whole_events_in_one_read_are_split() -> None:
    assert fed(b'data: {"a":1}\n\ndata: [DONE]\n\n') == [b'{"a":1}', b"[DONE]"]


@pytest.mark.parametrize("end", LINE_ENDS)
def test_f29_every_line_end_parses_alike(end: bytes) -> None:
    stream = end.join([b": hello", b"data: one", b"", b"data: two", b"", b""])
    assert fed(stream) == [b"one", b"two"]


@given(
    st.lists(st.text(alphabet="ab é\u2028\u2029\x85\x0c", min_size=1), min_size=1, max_size=5),
    st.sampled_from(LINE_ENDS),
    st.data(),
)
def test_f27_f28_f29_cuts_anywhere_do_not_change_events(texts: list[str], end: bytes, data: st.DataObject) -> None:
    """Split characters, split line ends and Unicode line separators leave every event as it was."""
    wanted = [text.encode() for text in texts]
    stream = b"".join(b"data: " + text + end + end for text in wanted)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert fed(stream, cuts) == wanted


def test_f31_spellings_of_the_standard_are_understood() -> None:
    stream = b"\xef\xbb\xbfid: 1\nevent: x\ndata:tight\n\n:comment\ndata: a\ndata: b\n\nretry: 5\n\ndata\n\n"
    assert fed(stream) == [b"tight", b"a\nb", b""]


def test_a_blank_line_without_data_is_no_event() -> None:
    assert fed(b"\n\n: only a comment\n\n") == []


def test_f30_an_event_over_the_limit_is_refused_whatever_the_reads() -> None:
    piece = b"data: " + b"x" * 65536

    with pytest.raises(EventTooLarge):
        fed(piece * (MAX_EVENT // 65536 + 2), list(range(0, MAX_EVENT, 65536)))


def test_f30_many_data_lines_count_together() -> None:
    splitter = EventSplitter()
    with pytest.raises(EventTooLarge):
        splitter.feed(b"data: " + b"\ndata: ".join([b"x" * 1000] * 1100))


def test_f12_half_an_event_is_held_and_told() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b'data: {"a":') == []
    assert splitter.partial


def test_an_event_reads_back_as_written() -> None:
    assert fed(event(b"{}")) == [b"{}"]
