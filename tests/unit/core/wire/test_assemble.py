"""Streams folded into whole answers: golden transcripts, cuts anywhere, and streams that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.assemble import Assembler, RuntimeFault, Unassembled
from intertie.core.wire.sse import DONE_EVENT, event

TOP = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def packed(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def chunk(
    delta: dict[str, Any] | None = None, index: int = 0, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    return {**TOP, "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def folded(chunks: list[Any], *, done: bool = True) -> Any:
    assembler = Assembler()
    for one in chunks:
        assembler.feed(event(packed(one)))
    if done:
        assembler.feed(DONE_EVENT)
    assert assembler.finished
    return json.loads(assembler.answer())


def message(*deltas: dict[str, Any]) -> Any:
    return folded([chunk(delta) for delta in deltas])["choices"][0]["message"]


def test_a_chat_is_what_openai_would_have_answered() -> None:
    chunks = [
        chunk({"role": "assistant", "content": "", "refusal": None}, system_fingerprint="fp"),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk(finish="stop"),
        {**TOP, "choices": [], "usage": USAGE},
    ]
    assert folded(chunks) == {
        "id": "c-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "system_fingerprint": "fp",
        "usage": USAGE,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "finish_reason": "stop",
            }
        ],
    }


def test_a_completion_is_one_too() -> None:
    top = {"id": "t", "object": "text_completion", "created": 1, "model": "m"}
    pieces = [
        {"index": 0, "text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [-1.5]}, "finish_reason": None},
        {"index": 0, "text": "b", "logprobs": {"tokens": ["b"], "token_logprobs": [-2.5]}, "finish_reason": None},
        {"index": 0, "text": "", "logprobs": None, "finish_reason": "length", "stop_reason": 7},
    ]
    answer = folded([{**top, "choices": [piece]} for piece in pieces] + [{**top, "choices": [], "usage": USAGE}])
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "text": "ab",
            "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1.5, -2.5]},
            "stop_reason": 7,
            "finish_reason": "length",
        }
    ]


def test_llama_cpp_adds_its_timings() -> None:
    chunks = [chunk({"role": "assistant", "content": None}), chunk({"content": "x"}), chunk(finish="stop")]
    last = {**TOP, "choices": [], "usage": USAGE, "timings": {"predicted_per_second": 21.5}}
    answer = folded([*chunks, last])
    assert answer["timings"] == {"predicted_per_second": 21.5}
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "x"}


def test_tool_calls_come_together_by_their_index() -> None:
    calls = message(
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}}]},
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": '{"x":'}},
                {"index": 1, "function": {"arguments": "}"}},
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    )
    assert calls == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize("indices", [(None, None), (0, 0)])
def test_tool_calls_without_a_telling_index_come_together_by_their_id(indices: tuple[int | None, ...]) -> None:
    """Some runtimes send each call whole and number none of them."""
    parts = [
        {"index": index, "id": name, "type": "function", "function": {"name": "f", "arguments": name}}
        for index, name in zip(indices, "ab", strict=True)
    ]
    cleaned = [{name: value for name, value in part.items() if value is not None} for part in parts]
    calls = message(*({"tool_calls": [part]} for part in cleaned))["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("a", "a"), ("b", "b")]


def test_a_name_that_is_repeated_with_each_piece_stays_one() -> None:
    parts = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": piece}} for piece in "{}"
    ]
    calls = message(*({"tool_calls": [part]} for part in parts))["tool_calls"]
    assert calls == [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def test_reasoning_refusals_and_what_nobody_knows_are_kept() -> None:
    assert message(
        {"role": "assistant", "reasoning_content": "th", "refusal": "N", "audio": {"id": "a", "transcript": "x"}},
        {"reasoning_content": "ink", "refusal": "o", "audio": {"transcript": "y", "expires_at": 5}, "new": [1]},
        {"content": "!", "new": [2], "flag": True, "annotations": None},
    ) == {
        "role": "assistant",
        "content": "!",
        "reasoning_content": "think",
        "refusal": "No",
        "audio": {"id": "a", "transcript": "xy", "expires_at": 5},
        "new": [1, 2],
        "flag": True,
        "annotations": None,
    }


def test_a_text_beside_the_delta_is_not_counted_twice() -> None:
    chunks = [chunk({"role": "assistant", "content": piece}) for piece in "ab"]
    for one in chunks:
        one["choices"][0]["text"] = one["choices"][0]["delta"]["content"]
    assert folded(chunks)["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "ab"},
        "finish_reason": None,
    }


def test_an_empty_event_says_nothing() -> None:
    """llama.cpp begins its stream for a list of prompts with one."""
    chunks = [{**TOP, "choices": [{"index": n, "text": f"t{n}", "finish_reason": "stop"}]} for n in (1, 0)]
    assert [choice["text"] for choice in folded([None, *chunks, None])["choices"]] == ["t0", "t1"]


def test_several_choices_are_kept_apart_and_in_order() -> None:
    chunks = [
        chunk({"role": "assistant", "content": "b"}, 1),
        chunk({"role": "assistant", "content": "a"}),
        chunk({"content": "B"}, 1),
        chunk(finish="stop"),
        chunk(index=1, finish="length"),
    ]
    choices = folded(chunks, done=False)["choices"]
    assert [(one["index"], one["message"]["content"], one["finish_reason"]) for one in choices] == [
        (0, "a", "stop"),
        (1, "bB", "length"),
    ]


def test_logprobs_of_a_chat_are_joined() -> None:
    first, second = (
        {"token": "a", "logprob": -0.5, "top_logprobs": []},
        {"token": "b", "logprob": -1, "top_logprobs": []},
    )
    chunks = [chunk({"content": "a"}), chunk({"content": "b"})]
    chunks[0]["choices"][0]["logprobs"] = {"content": [first], "refusal": None}
    chunks[1]["choices"][0]["logprobs"] = {"content": [second], "refusal": None}
    assert folded(chunks)["choices"][0]["logprobs"] == {"content": [first, second], "refusal": None}


def test_usage_that_grows_with_each_event_counts_once() -> None:
    chunks = [chunk({"content": "a"}, usage={"completion_tokens": n}) for n in range(5)]
    assert folded(chunks)["usage"] == {"completion_tokens": 4}


def test_numbers_that_are_no_json_become_null() -> None:
    assembler = Assembler()
    assembler.feed(b'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"logprob":-Infinity}]}}]}\n\n')
    assembler.feed(DONE_EVENT)
    assert json.loads(assembler.answer())["choices"][0]["logprobs"] == {"content": [{"logprob": None}]}


def test_halves_of_a_character_in_two_events_join() -> None:
    assembler = Assembler()
    for half in ("\\ud83c", "\\udf0d"):
        assembler.feed(b'data: {"choices":[{"delta":{"content":"' + half.encode() + b'"}}]}\n\n')
    assembler.feed(DONE_EVENT)
    assert json.loads(assembler.answer())["choices"][0]["message"]["content"] == "🌍"


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        ({"error": {"message": "m", "code": 429}}, 429, {"message": "m", "code": 429}),
        ({"error": {"message": "m", "code": "oom"}}, 500, {"message": "m", "code": "oom"}),
        ({"error": {"type": "invalid_request_error"}}, 400, {"type": "invalid_request_error"}),
        ({"error": "m"}, 500, {"message": "m", "type": "server_error"}),
        ({"object": "error", "message": "m", "code": 400}, 400, {"message": "m", "code": 400}),
        ({"error": {"message": "m", "code": 200}}, 500, {"message": "m", "code": 200}),
    ],
)
def test_an_error_in_the_stream_is_the_answer(said: dict[str, Any], status: int, body: dict[str, Any]) -> None:
    assembler = Assembler()
    assembler.feed(event(packed(chunk({"content": "a"}))))
    with pytest.raises(RuntimeFault) as caught:
        assembler.feed(event(packed(said)))
    assert (caught.value.status, json.loads(caught.value.body)) == (status, {"error": body})


def test_a_stream_that_ends_early_is_not_finished() -> None:
    assembler = Assembler()
    assert not assembler.finished
    assembler.feed(event(packed(chunk({"content": "a"}))))
    assert not assembler.finished
    assembler.feed(event(packed(chunk(finish="stop"))))
    assert assembler.finished


def test_what_follows_the_end_is_dropped() -> None:
    assembler = Assembler()
    assembler.feed(event(packed(chunk({"content": "a"}))) + DONE_EVENT + event(b"nonsense"))
    assembler.feed(event(b"more nonsense"))
    assert assembler.finished


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense",
        b"[]",
        b"7",
        b'"text"',
        b'{"choices":{}}',
        b'{"choices":[7]}',
        b'{"choices":[{"index":"0","delta":{}}]}',
        b'{"choices":[{"index":-1,"delta":{}}]}',
        b'{"choices":[{"index":true,"delta":{}}]}',
        b'{"choices":[{"delta":{"tool_calls":[7]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":7},{"function":{"name":"f"}}]}}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b'{"n":' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_stream_of_a_completion_has_one_error(said: bytes) -> None:
    assembler = Assembler()
    with pytest.raises(Unassembled):
        assembler.feed(event(said))


@pytest.mark.parametrize("chunks", [[], [{**TOP, "choices": []}], [{**TOP, "choices": [{"index": 0}]}]])
def test_a_stream_without_an_answer_has_none(chunks: list[Any]) -> None:
    assembler = Assembler()
    for one in chunks:
        assembler.feed(event(packed(one)))
    with pytest.raises(Unassembled):
        assembler.answer()


@given(st.data())
def test_cuts_anywhere_do_not_change_the_answer(data: st.DataObject) -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "Grüße"},
        {"content": "\u2028 🌍"},
        {"tool_calls": [{"index": 0, "id": "a"}]},
    ]
    stream = b"".join(event(packed(chunk(delta))) for delta in deltas) + DONE_EVENT
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    assembler = Assembler()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        assembler.feed(stream[start:end])
    assert json.loads(assembler.answer())["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Grüße\u2028 🌍",
        "tool_calls": [{"id": "a"}],
    }
