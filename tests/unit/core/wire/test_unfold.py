"""Kept answers change their form without changing what they say, and only complete ones count as such."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.terms import Operation
from intertie.core.wire.sse import EventSplitter, event
from intertie.core.wire.unfold import expected, is_complete, sift, unfold, whole

USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}

texts = st.text(max_size=40)
calls = st.builds(
    lambda id_, name, arguments: {
        "id": "c" + id_, "type": "function", "function": {"name": "f" + name, "arguments": arguments}
    },
    texts, texts, texts,
)  # fmt: skip
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts}, optional={"tool_calls": st.lists(calls, min_size=1, max_size=3)}
)


def chat(*choices: dict[str, Any], **more: Any) -> bytes:
    top = {"id": "x", "object": "chat.completion", "created": 1, "model": "inner", "usage": USAGE, **more}
    return json.dumps({**top, "choices": list(choices)}).encode()


def choice(message: dict[str, Any], index: int = 0, reason: str | None = "stop") -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", **message}, "finish_reason": reason}


def frames(*deltas: dict[str, Any], reason: str | None = "stop", index: int = 0) -> bytes:
    """A stream of one choice, its usage event last."""
    rows: list[dict[str, Any]] = [
        {"choices": [{"index": index, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    rows.append({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
    rows.append({"choices": [], "usage": USAGE})
    return b"".join(event(json.dumps(row).encode()) for row in rows)


@given(st.lists(messages, min_size=1, max_size=3))
def test_a_whole_answer_survives_the_way_through_a_stream(said: list[dict[str, Any]]) -> None:
    body = chat(*(choice(message, index) for index, message in enumerate(said)))
    events, usage = unfold(body)
    assert json.loads(whole(events, usage)) == json.loads(body)


def test_tool_calls_get_the_index_that_clients_join_them_by() -> None:
    events, _ = unfold(chat(choice({"content": None, "tool_calls": [CALL, CALL]}, reason="tool_calls")))
    first = json.loads(EventSplitter().feed(events)[0])
    assert [call["index"] for call in first["choices"][0]["delta"]["tool_calls"]] == [0, 1]
    assert first["object"] == "chat.completion.chunk"


def test_a_text_completion_survives_as_well() -> None:
    rows = [{"index": 0, "text": "Köln", "logprobs": None, "finish_reason": "stop"}]
    body = json.dumps({"id": "x", "object": "text_completion", "choices": rows, "usage": USAGE}).encode()
    events, usage = unfold(body)
    assert json.loads(whole(events, usage)) == json.loads(body)


def test_an_answer_without_usage_has_no_usage_event() -> None:
    body = chat(choice({"content": "hi"}), usage=None)
    assert unfold(body)[1] == b""


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"choices":3}', b'{"choices":[1]}', b"nonsense", b"[" * 100_000])
def test_what_is_no_answer_is_not_unfolded(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"choices|Expecting|nested"):
        unfold(body)


def test_half_a_character_is_no_reason_to_fail() -> None:
    events, usage = unfold(b'{"choices":[{"message":{"content":"\\ud83c"},"finish_reason":"stop"}]}')
    assert json.loads(whole(events, usage))["choices"][0]["message"]["content"] == "\ud83c"


def test_the_usage_event_is_taken_out_of_a_stream() -> None:
    found = sift(frames({"role": "assistant"}, {"content": "hi"}), 1)
    assert found.complete
    assert b'"usage"' not in found.events
    assert json.loads(found.usage)["usage"] == USAGE
    assert json.loads(whole(found.events, found.usage))["usage"] == USAGE


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_an_answer_that_ended_well_is_complete(reason: str) -> None:
    assert sift(frames({"content": "hi"}, reason=reason), 1).complete
    assert is_complete(chat(choice({"content": "hi"}, reason=reason)), Operation.CHAT, 1)


@pytest.mark.parametrize("reason", ["length", "content_filter", None, "error", "max_tokens"])
def test_an_answer_that_was_cut_or_filtered_is_not(reason: str | None) -> None:
    assert not sift(frames({"content": "hi"}, reason=reason), 1).complete
    assert not is_complete(chat(choice({"content": "hi"}, reason=reason)), Operation.CHAT, 1)


def test_one_bad_choice_spoils_the_answer() -> None:
    both = frames({"content": "hi"}) + frames({"content": "ho"}, index=1, reason="length")
    assert not sift(both, 2).complete
    assert not is_complete(chat(choice({}), choice({}, 1, "length")), Operation.CHAT, 2)


def test_a_refusal_is_not_given_again() -> None:
    assert not sift(frames({"refusal": "no"}), 1).complete
    assert not is_complete(chat(choice({"content": None, "refusal": "no"})), Operation.CHAT, 1)


def test_fewer_choices_than_asked_for_are_not_all() -> None:
    assert not sift(frames({"content": "hi"}), 2).complete
    assert not is_complete(chat(choice({"content": "hi"})), Operation.CHAT, 2)


@pytest.mark.parametrize("events", [b"data: nonsense\n\n", b"data: []\n\n", b"data: {", frames({"content": "x"})[:-9]])
def test_what_is_no_stream_is_not_complete(events: bytes) -> None:
    assert not sift(events, 1).complete


def test_embeddings_must_be_as_many_as_were_asked_for() -> None:
    body = b'{"data":[{"embedding":[1]},{"embedding":[2]}]}'
    assert is_complete(body, Operation.EMBEDDING, 2)
    assert not is_complete(body, Operation.EMBEDDING, 3)
    assert not is_complete(b'{"data":null}', Operation.EMBEDDING, 0)


@pytest.mark.parametrize(
    ("operation", "fields", "count"),
    [
        (Operation.CHAT, {}, 1), (Operation.CHAT, {"n": 3}, 3), (Operation.CHAT, {"n": None}, 1),
        (Operation.COMPLETION, {"prompt": ["a", "b"], "n": 2}, 4), (Operation.COMPLETION, {"prompt": [1, 2]}, 1),
        (Operation.COMPLETION, {"prompt": "a"}, 1), (Operation.EMBEDDING, {"input": "a"}, 1),
        (Operation.EMBEDDING, {"input": ["a", "b"]}, 2), (Operation.EMBEDDING, {"input": [1, 2, 3]}, 1),
        (Operation.EMBEDDING, {"input": [[1], [2]]}, 2),
    ],
)  # fmt: skip
def test_how_much_a_call_asks_for(operation: Operation, fields: dict[str, Any], count: int) -> None:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    assert expected(raw, operation) == count
