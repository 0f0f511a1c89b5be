"""Good answers in OpenAI's shapes, as objects, as bytes and as scripts; faults are made by spoiling these."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.scripted import Recorded
from tests.support.steps import Pace, Script, Send, Wait

TEXT = "Grüße aus der 世界, said the 🌍 plainly."
"""Holds characters of one to four UTF-8 bytes."""
PIECES = ("Grüße ", "aus der ", "世界, ", "said ", "the 🌍 ", "plainly.")
USAGE = {"prompt_tokens": 11, "completion_tokens": 6, "total_tokens": 17}
CREATED = 1_760_000_000
JSON = "application/json"
EVENTS = "text/event-stream"
Fields = Mapping[str, Any]


def packed(value: object) -> bytes:
    """Compact JSON, characters unescaped as most providers send them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# -- HTTP ------------------------------------------------------------------------------------------------------------


def head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """A response head."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode()


def whole(
    body: bytes,
    status: int = 200,
    *,
    kind: str = JSON,
    length: int | None = None,
    more: Iterable[tuple[str, str]] = (),
) -> Script:
    """A complete answer of known length. Another `length` than the body's makes it a lie."""
    said = str(len(body) if length is None else length)
    return (Send(head(status, [("content-type", kind), ("content-length", said), *more]) + body),)


def chunk(body: bytes) -> bytes:
    """One chunk of the chunked transfer coding."""
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + packed(value) + b"\n\n"


def chunked(parts: Iterable[bytes], *, kind: str = EVENTS, every: float = 0.0) -> Script:
    """An unfinished answer of unknown length: each part a chunk of its own, a pause of `every` seconds after each."""
    steps: list[Send | Wait] = [Send(head(200, [("content-type", kind), ("transfer-encoding", "chunked")]))]
    for part in parts:
        steps.append(Send(chunk(part)))
        if every:
            steps.append(Wait(every))
    return tuple(steps)


def finished(frames: Iterable[bytes], *, every: float = 0.0) -> Script:
    """A whole, well-ended event stream; the terminal marker is added."""
    return (*chunked([*frames, DONE], every=every), Send(LAST_CHUNK))


# -- OpenAI's shapes -------------------------------------------------------------------------------------------------


def error(message: str, *, kind: str = "server_error", code: str | None = None) -> dict[str, Any]:
    """An error body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chat(message: Fields, *, model: str = "m", finish: str = "stop", usage: Fields | None = USAGE) -> dict[str, Any]:
    """A whole chat completion with one choice."""
    answer: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
        ],
        "system_fingerprint": "fp_scripted",
    }
    return answer if usage is None else {**answer, "usage": dict(usage)}


def delta(
    change: Fields, *, model: str = "m", finish: str | None = None, index: int = 0, usage: Fields | None = None
) -> dict[str, Any]:
    """One chunk of a streamed chat completion."""
    piece: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": [{"index": index, "delta": dict(change), "finish_reason": finish}],
    }
    return piece if usage is None else {**piece, "usage": dict(usage)}


def usage_chunk(usage: Fields = USAGE, *, model: str = "m") -> dict[str, Any]:
    """The extra chunk that carries usage."""
    return {**delta({}, model=model), "choices": [], "usage": dict(usage)}


def text_chunks(pieces: Sequence[str] = PIECES, *, model: str = "m") -> list[dict[str, Any]]:
    """Role, text pieces and finish, without usage."""
    return [
        delta({"role": "assistant", "content": ""}, model=model),
        *(delta({"content": piece}, model=model) for piece in pieces),
        delta({}, model=model, finish="stop"),
    ]


def tool_chunks(name: str, arguments: str, *, model: str = "m") -> list[dict[str, Any]]:
    """A streamed tool call whose arguments come one character at a time."""
    first = {"index": 0, "id": "call_scripted", "type": "function", "function": {"name": name, "arguments": ""}}
    later = [{"index": 0, "function": {"arguments": letter}} for letter in arguments]
    return [
        delta({"role": "assistant", "content": None}, model=model),
        *(delta({"tool_calls": [part]}, model=model) for part in [first, *later]),
        delta({}, model=model, finish="tool_calls"),
    ]


def vector(seed: int) -> list[float]:
    """Eight numbers that 32-bit floats hold exactly."""
    return [(seed + place) / 64 for place in range(8)]


def embeddings(inputs: int, *, as_base64: bool, model: str = "m") -> dict[str, Any]:
    """An embeddings answer for so many inputs."""
    vectors: list[Any] = [vector(seed) for seed in range(inputs)]
    if as_base64:
        vectors = [base64.b64encode(struct.pack("<8f", *numbers)).decode() for numbers in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": 5 * inputs, "total_tokens": 5 * inputs},
    }


# -- a healthy upstream ----------------------------------------------------------------------------------------------


def _example(schema: Fields) -> Any:
    """A value that satisfies a simple JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: _example(inner) for name, inner in schema.get("properties", {}).items()}
    return {"string": "Paris", "integer": 2, "number": 2.5, "boolean": True, "array": [], "null": None}[kind]


@dataclass(frozen=True)
class Healthy:
    """A `Reply` of an upstream that does everything right; `text` tells which one answered."""

    pieces: Sequence[str] = PIECES
    every: float = 0.0
    """Seconds between stream chunks."""

    def __call__(self, request: Recorded) -> Script:
        """Answer chat, completions, embeddings and the model list."""
        operation = request.path.partition("/v1/")[2]
        call = request.call
        model = call.get("model", "m")
        if operation == "chat/completions":
            return self._chat(call, model)
        if operation == "completions":
            return self._completion(call, model)
        if operation == "embeddings":
            given = call["input"]
            count = len(given) if isinstance(given, list) and isinstance(given[0], str | list) else 1
            return whole(packed(embeddings(count, as_base64=call.get("encoding_format") == "base64", model=model)))
        if operation == "models":
            return whole(packed({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "scripted"}]}))
        return whole(packed(error("no such path", kind="invalid_request_error")), 404)

    def _usage(self, call: Fields) -> list[bytes]:
        wanted = (call.get("stream_options") or {}).get("include_usage")
        return [event(usage_chunk(model=call.get("model", "m")))] if wanted else []

    def _chat(self, call: Fields, model: str) -> Script:
        text = "".join(self.pieces)
        schema = (call.get("response_format") or {}).get("json_schema", {}).get("schema")
        if schema is not None:
            text = json.dumps(_example(schema))
        tools = call.get("tools") if call["messages"][-1]["role"] != "tool" else None
        if tools:
            function = tools[0]["function"]
            arguments = json.dumps(_example(function.get("parameters", {})))
            if call.get("stream"):
                frames = [event(piece) for piece in tool_chunks(function["name"], arguments, model=model)]
                return finished([*frames, *self._usage(call)], every=self.every)
            asked = {"id": "call_scripted", "type": "function"}
            made = [{**asked, "function": {"name": function["name"], "arguments": arguments}}]
            return whole(packed(chat({"content": None, "tool_calls": made}, model=model, finish="tool_calls")))
        if call.get("stream"):
            pieces = self.pieces if schema is None else list(text)
            frames = [event(piece) for piece in text_chunks(pieces, model=model)]
            return finished([*frames, *self._usage(call)], every=self.every)
        return whole(packed(chat({"content": text}, model=model)))

    def _completion(self, call: Fields, model: str) -> Script:
        shape = {"id": "cmpl-scripted", "object": "text_completion", "created": CREATED, "model": model}
        if not call.get("stream"):
            choice = {"index": 0, "text": "".join(self.pieces), "logprobs": None, "finish_reason": "stop"}
            return whole(packed({**shape, "choices": [choice], "usage": USAGE}))
        choices = [{"index": 0, "text": piece, "logprobs": None, "finish_reason": None} for piece in self.pieces]
        choices.append({"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"})
        frames = [event({**shape, "choices": [choice]}) for choice in choices]
        return finished([*frames, *self._usage(call)], every=self.every)


def paced(pieces: int, every: float, *, finish: bool = True) -> Script:
    """A long stream of equal tokens, one each `every` seconds."""
    start = chunked([event(delta({"role": "assistant", "content": ""}))])
    middle = Pace(chunk(event(delta({"content": "tick "}))), every, pieces)
    usage = {"prompt_tokens": 11, "completion_tokens": pieces, "total_tokens": 11 + pieces}
    end = [event(delta({}, finish="stop")), event(usage_chunk(usage)), DONE] if finish else []
    return (*start, middle, *(Send(chunk(frame)) for frame in end), *((Send(LAST_CHUNK),) if finish else ()))
