"""OpenAI's embedding answers. Vectors come as floats or base64 whatever was asked; the client gets what it asked."""

from __future__ import annotations

import array
import base64
import sys
from typing import Any, Final

import msgspec

from intertie.core.errors import UpstreamInvalid
from intertie.core.terms import Call, Usage
from intertie.core.wire.openai_chat import Answer, Classify, is_error
from intertie.core.wire.openai_errors import WireError, read_error
from intertie.core.wire.openai_usage import read_usage


class _Outline(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    model: str | None = None


_OUTLINE: Final = msgspec.json.Decoder(_Outline)


def read_embeddings(body: bytes, call: Call, classify: Classify) -> Answer:
    """A whole embedding answer. Raises what its error object means, or `UpstreamInvalid`."""
    try:
        outline = _OUTLINE.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as mistake:
        raise UpstreamInvalid("The upstream's answer is not valid.", detail=f"body: {mistake}") from None
    if is_error(outline.error):
        raise classify(read_error(body) or WireError())
    data = bytes(outline.data)
    if not data.startswith(b"[") or data == b"[]":
        raise UpstreamInvalid("The upstream's answer is not valid.", detail="no list of embeddings")
    usage = read_usage(outline.usage)
    if usage is not None and usage.output:
        usage = Usage(input=usage.input, cached=usage.cached)
    return Answer(body=_as_asked(body, call), usage=usage, model=outline.model or "")


def _as_asked(body: bytes, call: Call) -> bytes:
    raw = call.fields.get("encoding_format")
    wants_base64 = raw is not None and bytes(raw) == b'"base64"'
    got_base64 = b'"embedding":"' in body or b'"embedding": "' in body
    if wants_base64 == got_base64:
        return body
    document: dict[str, Any] = msgspec.json.decode(body)
    for row in document["data"]:
        if isinstance(row, dict):
            row["embedding"] = _to_base64(row["embedding"]) if wants_base64 else _to_floats(row["embedding"])
    return msgspec.json.encode(document)


def _to_base64(vector: Any) -> Any:
    if not isinstance(vector, list):
        return vector
    try:
        numbers = array.array("f", vector)
    except (TypeError, OverflowError) as mistake:
        raise UpstreamInvalid("The upstream's answer is not valid.", detail=f"embedding: {mistake}") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _to_floats(vector: Any) -> Any:
    if not isinstance(vector, str):
        return vector
    numbers = array.array("f")
    try:
        numbers.frombytes(base64.b64decode(vector, validate=True))
    except ValueError as mistake:
        raise UpstreamInvalid("The upstream's answer is not valid.", detail=f"embedding: {mistake}") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
