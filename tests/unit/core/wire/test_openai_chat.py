"""Chat answers and streams: F12, F25 to F27, F30, F32 to F36."""

from __future__ import annotations

import json

import pytest

from intertie.core.errors import UpstreamEmpty, UpstreamError, UpstreamFailed, UpstreamInvalid
from intertie.core.terms import Operation, Usage
from intertie.core.wire.envelope import peek
from intertie.core.wire.openai_chat import ChatReader, output_bytes, read_answer
from intertie.core.wire.openai_errors import WireError

ROLE = b'{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}'
WORD = b'{"id":"1","model":"served","choices":[{"index":0,"delta":{"content":"hello there"}}]}'
STOP = b'{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
USAGE = b'{"id":"1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}'


def failed(said: WireError) -> UpstreamError:
    return UpstreamFailed("failed", detail=said.message)


def reader(*, wants_usage: bool = False) -> ChatReader:
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"0123456789"}]}'
    if wants_usage:
        body = body[:-1] + b',"stream_options":{"include_usage":true}}'
    return ChatReader(peek(body, Operation.CHAT, "req"), failed)


def events(*datas: bytes) -> bytes:
    return b"".join(b"data: " + data + b"\n\n" for data in datas)


def test_a_stream_is_forwarded_byte_for_byte_up_to_the_marker() -> None:
    r = reader()
    assert r.feed(events(ROLE)) == events(ROLE)
    assert not r.output
    assert r.feed(events(WORD, STOP, b"[DONE]")) == events(WORD, STOP)
    assert (r.output, r.finished, r.model) == (True, True, "served")


def test_the_usage_chunk_is_kept_only_for_a_client_that_asked() -> None:
    silent, asking = reader(), reader(wants_usage=True)
    assert silent.feed(events(WORD, USAGE, b"[DONE]")) == events(WORD)
    assert asking.feed(events(WORD, USAGE, b"[DONE]")) == events(WORD, USAGE)
    assert silent.usage == asking.usage == Usage(input=7, output=3)


def test_null_choices_and_null_usage_are_normal() -> None:
    r = reader()
    r.feed(events(WORD))
    null_usage = b'{"choices":[{"delta":{"content":"x"}}],"usage":null}'
    assert r.feed(events(null_usage)) == events(null_usage)
    r.feed(events(b'{"choices":null,"usage": {"prompt_tokens":1,"completion_tokens":2}}'))
    assert r.usage == Usage(input=1, output=2)


def test_real_usage_beside_a_null_one_in_the_same_read_is_seen() -> None:
    r = reader()
    r.feed(events(WORD))
    null_usage = b'{"choices":[{"delta":{"content":"x"}}],"usage":null}'
    assert r.feed(events(null_usage, USAGE)) == events(null_usage)
    assert r.usage == Usage(input=7, output=3)


def test_f25_an_error_event_is_an_error_and_what_came_before_it_is_good() -> None:
    r = reader()
    assert r.feed(events(WORD, b'{"error":{"message":"overloaded","code":"x"}}', WORD)) == events(WORD)
    assert isinstance(r.error, UpstreamFailed)
    assert r.feed(events(WORD)) == b""


def test_the_word_error_inside_content_is_no_error() -> None:
    r = reader()
    tricky = json.dumps({"choices": [{"delta": {"content": '"error": {"x"} "usage" [DONE]'}}]}).encode()
    assert r.feed(events(WORD, tricky)) == events(WORD, tricky)
    assert r.error is None


def test_f33_what_follows_the_marker_is_dropped() -> None:
    r = reader()
    assert r.feed(events(WORD, b"[DONE]", WORD)) == events(WORD)
    assert r.feed(events(WORD)) == b""


@pytest.mark.parametrize("tail", [b"", b'data: {"half'])
def test_f12_f32_a_stream_without_its_marker_is_broken(tail: bytes) -> None:
    r = reader()
    r.feed(events(WORD) + tail)
    r.end()
    assert isinstance(r.error, UpstreamInvalid)


def test_f27_invalid_utf8_fails_and_split_characters_do_not() -> None:
    r = reader()
    accented = events('{"choices":[{"delta":{"content":"é"}}]}'.encode())
    r.feed(events(WORD))
    cut = accented.index(b"\xc3") + 1
    assert r.feed(accented[:cut]) + r.feed(accented[cut:]) == accented
    r.feed(events(b'{"choices":[{"delta":{"content":"\xff"}}]}'))
    assert isinstance(r.error, UpstreamInvalid)


def test_f30_an_endless_line_is_an_error() -> None:
    r = reader()
    r.feed(b"data: " + b"x" * (1024 * 1024 + 1))
    assert isinstance(r.error, UpstreamInvalid)


def test_f35_tool_calls_count_as_output_and_get_their_missing_index() -> None:
    r = reader()
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    relayed = r.feed(events(json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode()))
    got = json.loads(relayed[6:])["choices"][0]["delta"]["tool_calls"][0]
    assert r.output
    assert (got["index"], got["function"]["arguments"]) == (0, '{"a":1}')


@pytest.mark.parametrize("calls", [1, True, "x", {"a": 1}])
def test_f35_tool_calls_that_are_no_list_are_the_clients_to_refuse(calls: object) -> None:
    piece = json.dumps({"choices": [{"delta": {"tool_calls": calls}}]}).encode()
    assert reader().feed(events(piece)) == events(piece)


def test_f12_a_marker_between_bare_carriage_returns_is_seen() -> None:
    r = reader()
    r.feed(events(WORD))
    relayed = r.feed(b"data: " + WORD + b"\r\rdata: [DONE]\r\rdata: " + WORD + b"\n\n")
    assert r.finished
    assert relayed == events(WORD)


def test_output_without_usage_is_estimated_from_what_was_delivered() -> None:
    r = reader()
    for _ in range(10):
        r.feed(events(WORD))
    usage = r.delivered()
    assert usage.estimated
    assert usage.output == 10 * 13 // 4
    assert usage.input > 0


def test_a_whole_answer_passes_unchanged_with_its_usage() -> None:
    body = b'{"model":"s","choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
    answer = read_answer(body, failed)
    assert (answer.body, answer.usage, answer.model) == (body, Usage(input=1, output=1), "s")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", UpstreamInvalid),
        (b'{"choices":[{"message"', UpstreamInvalid),
        (b'{"a":1}', UpstreamInvalid),
        (b'{"choices":[]}', UpstreamEmpty),
        (b'{"choices":[{"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}', UpstreamEmpty),
        (b'{"error":{"message":"no"}}', UpstreamFailed),
        (b'{"choices":' + b"[" * 5000 + b"]" * 5000 + b"}", UpstreamInvalid),
    ],
)
def test_f24_f36_a_body_that_is_no_answer_is_refused(body: bytes, kind: type[UpstreamError]) -> None:
    with pytest.raises(kind):
        read_answer(body, failed)


def test_an_empty_answer_with_usage_is_the_models_own() -> None:
    body = b'{"choices":[{"message":{"content":""}}],"usage":{"prompt_tokens":1,"completion_tokens":0}}'
    assert read_answer(body, failed).usage == Usage(input=1)


def test_output_bytes_counts_text_of_every_kind() -> None:
    assert output_bytes(b'{"choices":[{"text":"abcd"},{"message":{"content":"ab","role":"assistant"}}]}') == 8
