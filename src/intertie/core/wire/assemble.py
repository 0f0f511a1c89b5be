"""A streamed chat or text completion folded into the one JSON object that a client expects who asked for no stream.

An agent always calls its runtimes streamed, so that hanging up stops them; this gives the other callers their answer.
Standard library only and no I/O: the agent carries this file. Members nobody here knows are kept: texts are joined,
lists are extended, objects are folded member by member, and of everything else the last one stands.
"""

from __future__ import annotations

import json
from collections.abc import Sized
from typing import Any, Final

from intertie.core.wire.sse import DONE, EventSplitter, EventTooLarge

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes an assembled answer may have, about."""

MAX_PARTS: Final = 1024
"""Choices, or tool calls of one choice."""
_ENTRY: Final = 64
"""What one more member or list entry counts besides its text."""
_PIECE: Final = 16
"""What one more piece of a text counts besides its characters."""
_FIRST: Final = frozenset({"id", "created", "model", "role", "type"})
"""Members of which the first one stands, whatever is repeated later."""
_EMPTY: Final = (None, "")
_KINDS: Final = {"delta": "chat.completion", "text": "text_completion"}


class Unassembled(ValueError):
    """The stream is no stream of a completion, or too large. The message quotes nothing of it."""


class RuntimeFault(Exception):
    """The runtime reported an error in its stream: the status and the body a plain answer would have had."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the runtime reported an error ({status}) in its stream")
        self.status = status
        self.body = body


class _Text:
    """A text that grows: joining it piece by piece would copy it each time."""

    __slots__ = ("parts",)

    def __init__(self, first: str) -> None:
        self.parts = [first]


class Assembler:
    """Feed the bytes of the event stream; `answer` when it has ended."""

    __slots__ = ("_choices", "_done", "_kind", "_size", "_splitter", "_top")

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._kind = ""
        self._size = 0
        self._done = False

    def __repr__(self) -> str:
        return f"<Assembler {self._kind or 'nothing yet'} of about {self._size} bytes>"

    @property
    def finished(self) -> bool:
        """The stream said that it is whole, or every choice has said why it ended."""
        ended = bool(self._choices) and all(one.get("finish_reason") is not None for one in self._choices.values())
        return self._done or ended

    def feed(self, piece: bytes) -> None:
        """More of the stream. Raises `RuntimeFault` or `Unassembled`; nothing more may be fed after that."""
        if self._done:
            return
        try:
            for event in self._splitter.feed(piece):
                if event.strip() == DONE:
                    self._done = True
                    return
                self._take(json.loads(event, parse_constant=_nothing))
        except EventTooLarge:
            raise Unassembled("an event of the runtime's stream is too large") from None
        except (ValueError, RecursionError) as mistake:
            if isinstance(mistake, Unassembled):
                raise
            raise Unassembled("an event of the runtime's stream is not JSON") from None

    def answer(self) -> bytes:
        """The whole answer as JSON. Raises `Unassembled` if the stream held no choice."""
        if not self._choices or not self._kind:
            raise Unassembled("the runtime's stream held no answer")
        try:
            choices = [_choice(index, self._choices[index], self._kind) for index in sorted(self._choices)]
            top = {name: _settled(value) for name, value in self._top.items()}
            whole = {"id": top.pop("id", ""), "object": self._kind, **top, "choices": choices}
            text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False)
        except RecursionError:
            raise Unassembled("the runtime's stream is nested too deeply") from None
        try:
            return text.encode()
        except UnicodeEncodeError:  # a character in two events, half in each: as escapes they join again
            return json.dumps(whole, separators=(",", ":")).encode()

    def _take(self, event: Any) -> None:
        if not isinstance(event, dict):
            raise Unassembled("an event of the runtime's stream is no object")
        if event.get("error") or event.get("object") == "error":
            raise _fault(event)
        choices = event.pop("choices", None)
        event.pop("object", None)
        for name, value in event.items():
            self._keep(self._top, name, value)
        if choices is None:
            return
        if not isinstance(choices, list):
            raise Unassembled("the choices of the runtime's stream are no list")
        for choice in choices:
            self._take_choice(choice)

    def _take_choice(self, choice: Any) -> None:
        index = choice.pop("index", 0) if isinstance(choice, dict) else None
        if type(index) is not int or index < 0:
            raise Unassembled("a choice of the runtime's stream is none")
        kept = self._choices.get(index)
        if kept is None:
            _count(self._choices)
            kept = self._choices[index] = {}
        kind = "delta" if "delta" in choice else "text" if "text" in choice else ""
        if kind and not self._kind:
            self._kind = _KINDS[kind]
        for name, value in choice.items():
            if name in _KINDS and _KINDS[name] != self._kind:
                continue  # some give the text a second time beside the delta
            if isinstance(value, str) and name != "text":
                self._keep(kept, name, value)
            else:
                self._fold(kept, name, value)

    def _fold(self, kept: dict[str, Any], name: str, value: Any) -> None:
        """More of a member that comes in pieces."""
        old = kept.get(name)
        if isinstance(value, str) and name not in _FIRST:
            if isinstance(old, _Text):
                self._grow(_PIECE + len(value))
                old.parts.append(value)
            else:
                self._grow(_ENTRY + len(name) + len(value))
                kept[name] = _Text(value)
        elif isinstance(value, dict):
            if not isinstance(old, dict):
                self._grow(_ENTRY + len(name))
                old = kept[name] = {}
            for member, part in value.items():
                self._fold(old, member, part)
        elif isinstance(value, list):
            if not isinstance(old, list):
                self._grow(_ENTRY + len(name))
                old = kept[name] = []
            for part in value:
                if name == "tool_calls":
                    self._fold_call(old, part)
                else:
                    self._grow(_weight(part))
                    old.append(part)
        else:
            self._keep(kept, name, value)

    def _fold_call(self, calls: list[Any], part: Any) -> None:
        """A piece of a tool call. Some runtimes leave the index out or give all the same one: then the id tells."""
        if not isinstance(part, dict):
            raise Unassembled("a tool call of the runtime's stream is none")
        index, named = part.get("index"), part.get("id")
        call = next((one for one in reversed(calls) if index is None or one.get("index") == index), None)
        if call is None or (named and call.get("id") not in (None, "", named)):
            _count(calls)
            call = {}
            calls.append(call)
        function = part.get("function")
        for member, value in part.items():
            if member != "function" or not isinstance(value, dict):
                self._keep(call, member, value)
        if isinstance(function, dict):
            kept = call.setdefault("function", {})
            if not isinstance(kept, dict):
                raise Unassembled("a tool call of the runtime's stream is none")
            for member, value in function.items():
                if member == "name":
                    self._keep(kept, member, value if kept.get(member) in _EMPTY else None)
                else:
                    self._fold(kept, member, value)

    def _keep(self, kept: dict[str, Any], name: str, value: Any) -> None:
        """A member that comes whole: the last that says something stands, of ids and dates the first."""
        old = kept.get(name)
        if value is None or (name in _FIRST and old not in _EMPTY):
            if name not in kept:
                self._grow(_ENTRY + len(name))
                kept[name] = value
            return
        self._grow(_weight(value) - _weight(old) + (0 if name in kept else len(name)))
        kept[name] = value

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_ANSWER:
            raise Unassembled(f"the runtime's answer is larger than {MAX_ANSWER} bytes")


def _nothing(_constant: str) -> None:
    """NaN and Infinity are no JSON."""


def _count(parts: Sized) -> None:
    if len(parts) >= MAX_PARTS:
        raise Unassembled(f"the runtime's answer has more than {MAX_PARTS} choices or tool calls")


def _weight(value: Any) -> int:
    """About the bytes a value will have."""
    if isinstance(value, str):
        return _PIECE + len(value)
    if isinstance(value, dict):
        return _ENTRY + sum(len(name) + _weight(part) for name, part in value.items())
    if isinstance(value, list):
        return _ENTRY + sum(_weight(part) for part in value)
    if isinstance(value, _Text):
        return _ENTRY + sum(len(part) + _PIECE for part in value.parts)
    return _PIECE


def _choice(index: int, kept: dict[str, Any], kind: str) -> dict[str, Any]:
    """A choice as it stands in a plain answer."""
    members = {name: _settled(value) for name, value in kept.items()}
    ended = {"finish_reason": members.pop("finish_reason", None)}
    if kind != "chat.completion":
        return {"index": index, "text": members.pop("text", "") or "", **members, **ended}
    message = members.pop("delta", None)
    message = message if isinstance(message, dict) else {}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [{name: value for name, value in one.items() if name != "index"} for one in calls]
    elif "tool_calls" in message:
        del message["tool_calls"]
    role, content = message.pop("role", None) or "assistant", message.pop("content", None)
    return {"index": index, "message": {"role": role, "content": content, **message}, **members, **ended}


def _settled(value: Any) -> Any:
    """A value with its texts joined."""
    if isinstance(value, _Text):
        return "".join(value.parts)
    if isinstance(value, dict):
        return {name: _settled(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_settled(part) for part in value]
    return value


def _fault(event: dict[str, Any]) -> RuntimeFault:
    """What a runtime says in its stream when it cannot go on."""
    error = event.get("error") or {name: value for name, value in event.items() if name != "object"}
    if not isinstance(error, dict):
        error = {"message": str(error), "type": "server_error"}
    code = error.get("code")
    status = 400 if error.get("type") == "invalid_request_error" else 500
    status = code if type(code) is int and 400 <= code <= 599 else status
    return RuntimeFault(status, json.dumps({"error": error}, separators=(",", ":")).encode())
