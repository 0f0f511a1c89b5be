"""Whatever a runtime streams, it becomes an answer or one of two errors."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.assemble import Assembler, RuntimeFault, Unassembled
from intertie.core.wire.sse import event

_NAMES = st.sampled_from(
    [
        *("choices", "delta", "text", "index", "tool_calls", "function", "arguments", "name"),
        *("id", "error", "content", "usage", "finish_reason", "logprobs", "role"),
    ]
)


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=4)),
    max_leaves=12,
)


_CHOICES = st.fixed_dictionaries({"choices": st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=3)})


@given(st.lists(st.one_of(_VALUES, _CHOICES), max_size=6))
def test_any_json_gives_an_answer_or_one_of_two_errors(values: list[Any]) -> None:
    assembler = Assembler()
    try:
        for value in values:
            assembler.feed(event(json.dumps(value).encode()))
        answer = assembler.answer()
    except (Unassembled, RuntimeFault):
        return
    assert json.loads(answer)["object"] in {"chat.completion", "text_completion"}
