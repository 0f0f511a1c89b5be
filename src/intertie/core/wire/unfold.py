"""A whole answer as the stream it could have been, and the other way round; and whether an answer is complete.

What is kept was given in one form and may be asked for in the other. Members that nobody here knows are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from intertie.core.terms import Operation
from intertie.core.wire.assemble import Assembler, RuntimeFault, Unassembled
from intertie.core.wire.sse import DONE_EVENT, EventSplitter, EventTooLarge, event

GOOD_ENDS: Final = frozenset({"stop", "tool_calls", "function_call"})
"""Reasons for which an answer ends that say it is whole: not cut off, not filtered."""

_TOO_MANY: Final = 1 << 30
_CHUNK: Final = "chat.completion.chunk"
_MALFORMED: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Sifted(msgspec.Struct, frozen=True):
    """A stream's events without its usage event, the data of that event, and whether every choice ended well."""

    events: bytes
    usage: bytes
    complete: bool


class _Said(msgspec.Struct):
    refusal: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None
    delta: _Said | None = None
    message: _Said | None = None


class _Outline(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    data: list[msgspec.Raw] | None = None


_OUTLINE: Final = msgspec.json.Decoder(_Outline)


def sift(events: bytes, expected: int) -> Sifted:
    """Take a stream apart that was relayed to its end. `expected` is the number of choices that were asked for."""
    splitter = EventSplitter()
    kept: list[bytes] = []
    usage = b""
    ends: dict[int, str] = {}
    indices: set[int] = set()
    refused = False
    try:
        for data in splitter.feed(events):
            outline = _OUTLINE.decode(data)
            if not outline.choices and bytes(outline.usage) != b"null":
                usage = data
                continue
            for choice in outline.choices or ():
                indices.add(choice.index)
                if choice.finish_reason is not None:
                    ends[choice.index] = choice.finish_reason
                refused = refused or (choice.delta is not None and bool(choice.delta.refusal))
            kept.append(event(data))
    except (*_MALFORMED, EventTooLarge):
        return Sifted(events, b"", complete=False)
    complete = not (splitter.partial or refused) and len(indices) >= expected and indices == ends.keys()
    return Sifted(b"".join(kept), usage, complete and GOOD_ENDS.issuperset(ends.values()))


def is_complete(body: bytes, operation: Operation, expected: int) -> bool:
    """True if a whole answer has all that was asked for, and nothing in it was cut off, filtered or refused."""
    try:
        outline = _OUTLINE.decode(body)
    except _MALFORMED:
        return False
    if operation is Operation.EMBEDDING:
        return outline.data is not None and len(outline.data) == expected
    choices = outline.choices or []
    refused = any(choice.message is not None and choice.message.refusal for choice in choices)
    return len(choices) >= expected and not refused and all(one.finish_reason in GOOD_ENDS for one in choices)


def expected(fields: Mapping[str, msgspec.Raw], operation: Operation) -> int:
    """How many choices or vectors a call asks for; more than any answer has if that cannot be read."""
    raw = fields.get("input" if operation is Operation.EMBEDDING else "n")
    try:
        value = None if raw is None else msgspec.json.decode(raw)
    except _MALFORMED:
        return _TOO_MANY
    if operation is Operation.EMBEDDING:
        tokens = isinstance(value, list) and bool(value) and isinstance(value[0], int)
        return len(value) if isinstance(value, list) and not tokens else 1
    if operation is Operation.COMPLETION:
        prompts = _prompts(fields.get("prompt"))
        return prompts * (value if isinstance(value, int) else 1)
    return value if isinstance(value, int) else 1


def _prompts(raw: msgspec.Raw | None) -> int:
    """A text completion answers each prompt of a list with choices of its own."""
    try:
        value = None if raw is None else msgspec.json.decode(raw)
    except _MALFORMED:
        return _TOO_MANY
    if not isinstance(value, list) or not value or isinstance(value[0], int):
        return 1
    return len(value)


def whole(events: bytes, usage: bytes) -> bytes:
    """The body that a client gets who asked for no stream. Raises `ValueError` if these events are no answer."""
    assembler = Assembler()
    try:
        assembler.feed(events)
        if usage:
            assembler.feed(event(usage))
        assembler.feed(DONE_EVENT)
        return assembler.answer()
    except RuntimeFault:
        raise Unassembled("the stream holds an error") from None


def unfold(body: bytes) -> tuple[bytes, bytes]:
    """A whole answer as events, and the data of its usage event (empty if it has no usage). Raises `ValueError`."""
    try:
        answer = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    choices = answer.pop("choices", None) if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("no list of choices")
    used = answer.pop("usage", None)
    chat = answer.get("object") == "chat.completion" or any("message" in choice for choice in choices)
    top = {**answer, "object": _CHUNK} if chat else answer
    frames: list[bytes] = []
    for position, choice in enumerate(choices):
        said, ended = (_chat if chat else _text)({"index": position, **choice})
        frames += [_frame(top, [said]), _frame(top, [ended])]
    usage = b"" if used is None else _packed({**top, "choices": [], "usage": used})
    return b"".join(frames), usage


def _chat(choice: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a choice says, and how it ends."""
    message = choice.pop("message", None)
    delta = dict(message) if isinstance(message, dict) else {}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [
            {"index": at, **call} if isinstance(call, dict) else call for at, call in enumerate(calls)
        ]
    index, reason = choice["index"], choice.pop("finish_reason", None)
    return (
        {**choice, "delta": delta, "finish_reason": None},
        {"index": index, "delta": {}, "finish_reason": reason},
    )


def _text(choice: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    index, reason = choice["index"], choice.pop("finish_reason", None)
    return {**choice, "finish_reason": None}, {"index": index, "text": "", "finish_reason": reason}


def _frame(top: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
    return event(_packed({**top, "choices": choices}))


def _packed(value: object) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a character, which only an escape can hold
        return json.dumps(value, separators=(",", ":")).encode()
