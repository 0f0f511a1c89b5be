"""Which calls are nothing but a question, and what is around it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from intertie.core.terms import Operation
from intertie.core.wire.canonical import fingerprint
from intertie.core.wire.envelope import peek
from intertie.core.wire.question import Question, question

ASKED = {"role": "user", "content": "why?"}


def of(operation: Operation = Operation.CHAT, **fields: Any) -> Question | None:
    body = {"model": "m", "messages": [ASKED], **fields}
    return question(peek(json.dumps(body).encode(), operation, "r"))


def frame(**fields: Any) -> bytes:
    found = of(**fields)
    assert found is not None
    return fingerprint(found.frame, ())


def test_the_last_words_of_the_user_are_the_question() -> None:
    found = of(messages=[{"role": "system", "content": "be brief"}, ASKED], temperature=0)
    assert found is not None
    assert found.text == "why?"
    assert b"why" not in bytes(found.frame.fields["messages"])
    assert b"be brief" in bytes(found.frame.fields["messages"])


def test_the_frame_is_everything_else_that_a_model_sees() -> None:
    assert frame(messages=[{"role": "user", "content": "how?"}]) == frame()
    assert frame(stream=True, user="u") == frame()
    earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    others: list[dict[str, Any]] = [
        {"temperature": 0},
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "be brief"}, ASKED]},
        {"messages": [{"role": "system", "content": "be long"}, ASKED]},
        {"messages": [*earlier, ASKED]},
        {"messages": [{**ASKED, "name": "ann"}]},
    ]
    assert len({frame(), *(frame(**one) for one in others)}) == len(others) + 1


def test_empty_members_that_clients_repeat_do_no_harm() -> None:
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "b",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
    }
    assert of(messages=[ASKED, answer, ASKED]) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": []},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"functions": [{"name": "f"}]},
        {"tool_choice": "none"},
        {"n": 2},
        {"modalities": ["text", "audio"]},
        {"web_search_options": {}},
        {"x_unheard_of": 1},
        {"messages": []},
        {"messages": "why?"},
        {"messages": None},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "why?"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ASKED]},
        {"messages": [{"role": "assistant", "content": "because"}]},
        {"messages": [ASKED, {"role": "tool", "content": "7", "tool_call_id": "1"}, ASKED]},
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}, ASKED]},
        {"messages": [{"role": "assistant", "content": "", "audio": {"id": "1"}}, ASKED]},
        {"messages": [{"role": "oracle", "content": "x"}, ASKED]},
        {"messages": [{**ASKED, "name": 7}]},
        {"messages": ["why?"]},
    ],
)
def test_t46_more_than_a_question_is_none(fields: dict[str, Any]) -> None:
    assert of(**fields) is None


@pytest.mark.parametrize("operation", [Operation.COMPLETION, Operation.EMBEDDING])
def test_other_operations_ask_nothing(operation: Operation) -> None:
    assert of(operation, prompt="why?", input="why?") is None
    assert of(operation) is None
