"""A stream that ends where its bound does, however the upstream goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.errors import UpstreamFailed
from intertie.core.terms import Call, Operation
from intertie.core.wire.envelope import peek
from intertie.core.wire.openai_chat import ChatReader
from intertie.core.wire.openai_errors import WireError
from intertie.core.wire.output_cap import CappedReader
from intertie.core.wire.sse import DONE_EVENT

USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _piece(text: str | None = None, *, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    about = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return _event({**about, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _call(*, usage: bool = False, **more: Any) -> Call:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **options, **more}
    return peek(json.dumps(body).encode(), Operation.CHAT, "req_1")


def _reader(bound: int, call: Call | None = None) -> CappedReader:
    call = call or _call()
    return CappedReader(ChatReader(call, _classify), call, bound)


def _classify(_said: WireError) -> UpstreamFailed:
    return UpstreamFailed("no")


def _chunks(relayed: bytes) -> list[dict[str, Any]]:
    return [json.loads(part.removeprefix(b"data: ")) for part in relayed.split(b"\n\n") if part]


def _text(relayed: bytes) -> str:
    return "".join(choice["delta"].get("content", "") for one in _chunks(relayed) for choice in one["choices"])


@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=40), bound=st.integers(1, 12))
def test_an_endless_upstream_is_cut_at_the_bound(sizes: list[int], bound: int) -> None:
    """To the token, wherever the network breaks its bytes, and with an end that clients know."""
    reader = _reader(bound)
    said = b"".join(_piece(f"{n} ") for n in range(30))
    relayed, at, turn = b"", 0, 0
    while at < len(said) and not reader.over:
        step = sizes[turn % len(sizes)]
        relayed += reader.feed(said[at : at + step])
        at, turn = at + step, turn + 1

    assert reader.finished
    assert reader.error is None
    assert _text(relayed) == "".join(f"{n} " for n in range(bound))
    last = _chunks(relayed)[-1]
    assert last["choices"][0]["finish_reason"] == "length"
    assert (last["id"], last["created"], last["model"]) == ("c1", 7, "m")
    assert reader.delivered().output == bound
    assert reader.feed(_piece("more")) == b""


@pytest.mark.parametrize("whole", [True, False])
def test_an_upstream_that_keeps_to_it_is_not_touched(whole: bool) -> None:
    """Its own end and its own count come through, though it used the bound to the last token."""
    reader = _reader(5, _call(usage=True))
    frames = [*(_piece(f"{n} ") for n in range(5)), _piece(finish="stop"), _event({"choices": [], "usage": USAGE})]
    parts = [b"".join(frames) + DONE_EVENT] if whole else [*frames, DONE_EVENT]
    relayed = b"".join(reader.feed(part) for part in parts)
    reader.end()

    assert reader.finished
    assert relayed == b"".join(frames)
    assert reader.delivered().output == 5
    assert not reader.delivered().estimated


def test_usage_is_told_at_the_cut_to_whoever_asked() -> None:
    """As an estimate of what was let through."""
    reader = _reader(3, _call(usage=True))
    relayed = reader.feed(b"".join(_piece(f"{n} ") for n in range(9)))

    usage = _chunks(relayed)[-1]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + 3


def test_large_pieces_are_cut_too() -> None:
    """An upstream that packs a book into one event does not get around the bound."""
    reader = _reader(10)
    relayed = reader.feed(_piece("short "))
    relayed += reader.feed(_piece("x" * 20_000))

    assert reader.finished
    assert _chunks(relayed)[-1]["choices"][0]["finish_reason"] == "length"
    assert reader.delivered().output == 10


def test_all_choices_share_the_bound_and_each_is_ended() -> None:
    """With `n`, the end says so for every choice."""
    call = _call(n=2)
    reader = CappedReader(ChatReader(call, _classify), call, 4, 2)
    relayed = reader.feed(b"".join(_piece(f"{n} ") for n in range(9)))

    assert [choice["index"] for choice in _chunks(relayed)[-1]["choices"]] == [0, 1]


def test_a_broken_stream_stays_broken() -> None:
    """An end without its marker, and an error event, are what they are without a bound."""
    reader = _reader(9)
    reader.feed(_piece("a"))
    reader.end()
    assert reader.error is not None

    reader = _reader(9)
    reader.feed(_event({"error": {"message": "no"}}))
    assert reader.over
    assert isinstance(reader.error, UpstreamFailed)


def test_checkpoints_stay_within_the_bound() -> None:
    """What a crash would charge is never more than was reserved."""
    reader = _reader(10)
    reader.feed(_piece("long word " * 30))

    assert reader.output_so_far == 10


def _delta(delta: dict[str, Any], index: int = 0, **more: Any) -> bytes:
    about = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return _event({**about, "choices": [{"index": index, "delta": delta, "finish_reason": None, **more}]})


def test_the_arguments_of_a_tool_call_may_use_all_of_the_bound() -> None:
    """Each token of them travels in a wrapping of forty bytes, which is no output."""
    bound = 4000
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "save", "arguments": ""}}
    frames = [_delta({"role": "assistant", "content": ""}), _delta({"tool_calls": [call]})]
    frames += [_delta({"tool_calls": [{"index": 0, "function": {"arguments": f" {n}"}}]}) for n in range(bound - 1)]
    frames.append(_piece(finish="tool_calls"))
    reader = _reader(bound)
    relayed = b"".join(reader.feed(frame) for frame in [*frames, DONE_EVENT])

    assert relayed == b"".join(frames)


def test_logprobs_are_no_output() -> None:
    """Twenty alternatives to each token are kilobytes of JSON, more of it for longer tokens than the first one was."""

    def chances(token: str) -> dict[str, Any]:
        return {"token": token, "logprob": -0.25, "bytes": list(token.encode())}

    def frame(token: str) -> bytes:
        top = {**chances(token), "top_logprobs": [chances(token)] * 20}
        return _delta({"content": token}, logprobs={"content": [top]})

    bound = 2000
    frames = [frame("I"), *(frame(" word") for _ in range(bound - 1)), _piece(finish="length")]
    reader = _reader(bound, _call(logprobs=True, top_logprobs=20))
    relayed = b"".join(reader.feed(part) for part in [*frames, DONE_EVENT])

    assert relayed == b"".join(frames)


def test_each_choice_may_begin_and_end_in_events_of_its_own() -> None:
    """Eight choices, one after the other, each with all of its tokens."""
    choices, each = 8, 5
    call = _call(n=choices)
    frames = []
    for index in range(choices):
        frames.append(_delta({"role": "assistant", "content": ""}, index))
        frames += [_delta({"content": f"{n} "}, index) for n in range(each)]
        frames.append(_delta({}, index).replace(b'"finish_reason":null', b'"finish_reason":"length"'))
    reader = CappedReader(ChatReader(call, _classify), call, choices * each, choices)
    relayed = b"".join(reader.feed(frame) for frame in [*frames, DONE_EVENT])

    assert relayed == b"".join(frames)


def test_the_end_of_a_thousand_million_choices_is_short() -> None:
    """An upstream may ignore how many were asked for; nothing is made for each of them."""
    call = _call(n=10**9, max_tokens=0)
    reader = CappedReader(ChatReader(call, _classify), call, 0, 10**9)
    relayed = reader.feed(_piece("a"))

    assert reader.finished
    assert len(relayed) < 100_000


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_where_the_network_breaks_an_answer_makes_no_difference(newline: bytes) -> None:
    """Between the two line ends of the last event that fits, too."""
    frames = [*(_piece(f"{n} ") for n in range(5)), _piece(finish="stop"), _event({"choices": [], "usage": USAGE})]
    said = (b"".join(frames) + DONE_EVENT).replace(b"\n", newline)
    for at in range(1, len(said)):
        reader = _reader(5, _call(usage=True))
        relayed = reader.feed(said[:at]) + reader.feed(said[at:])

        assert relayed == b"".join(frames), at
        assert not reader.delivered().estimated
