"""T45: the key of a call changes with anything a model sees, with whose call it is, and with nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from intertie.core.terms import Operation
from intertie.core.wire.canonical import UNSEEN, Ambiguous, canonical, fingerprint
from intertie.core.wire.envelope import peek


def key(body: dict[str, Any], *partition: str, text: bytes | None = None) -> bytes:
    """The fingerprint of a chat call."""
    raw = text if text is not None else json.dumps(body).encode()
    return fingerprint(peek(raw, Operation.CHAT, "r"), partition)


def test_numbers_count_as_written() -> None:
    forms = {canonical(raw) for raw in (b"1", b"1.0", b"10e-1", b"12345678901234567890123", b"12345678901234567890124")}
    assert len(forms) == 5


def test_a_number_is_not_a_text() -> None:
    assert canonical(b"1") != canonical(b'"1"')


def test_a_member_twice_is_ambiguous() -> None:
    for raw in (b'{"a":1,"a":2}', b'[{"x":{"a":1,"a":1}}]'):
        with pytest.raises(Ambiguous):
            canonical(raw)


def test_what_only_changes_the_way_of_the_answer_does_not_count() -> None:
    plain = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    same = key(plain, "org")
    assert key({**plain, "stream": True, "stream_options": {"include_usage": True}, "user": "u"}, "org") == same
    assert "stream" in UNSEEN


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0}, {"temperature": 0.0}, {"seed": 1}, {"max_tokens": 5}, {"n": 2}, {"model": "m2"},
        {"tools": []},
        {"messages": [{"role": "user", "content": "hi "}]}, {"messages": [{"role": "system", "content": "hi"}]},
        {"response_format": {"type": "json_object"}}, {"x_unknown": 1}, {"reasoning_effort": "low"}, {"stop": "x"},
    ],
)  # fmt: skip
def test_anything_a_model_may_see_counts(change: dict[str, Any]) -> None:
    plain = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert key({**plain, **change}, "org") != key(plain, "org")


def test_partitions_never_run_together() -> None:
    body = {"model": "m", "messages": []}
    keys = {key(body, *parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"))}
    assert len(keys) == 5
