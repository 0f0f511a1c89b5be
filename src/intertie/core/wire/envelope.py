"""Peek at a request's envelope and edit it, without parsing what is inside.

The body is decoded once into its top-level members, each still raw JSON bytes. What goes upstream is encoded again from
the same members, so the value that was checked is the value that is sent, whatever duplicates the body had (T12).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from intertie.core.errors import BadCall
from intertie.core.terms import Call, Dialect, Operation

Fields = dict[str, msgspec.Raw]

_MEMBERS: Final = msgspec.json.Decoder(Fields)
_STRING: Final = msgspec.json.Decoder(str)
_BOOLEAN: Final = msgspec.json.Decoder(bool | None)
_STREAM_OPTIONS: Final = msgspec.json.Decoder(Fields | None)
_ENCODER: Final = msgspec.json.Encoder()
_TRUE: Final = msgspec.Raw(b"true")
_MALFORMED: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def members(body: bytes) -> Fields:
    """Top-level members of a JSON object. Raises `BadCall` with the position of the mistake."""
    try:
        if not body.isascii():
            body.decode()  # the decoder does not look into what it keeps raw
        return _MEMBERS.decode(body)
    except msgspec.ValidationError:
        raise BadCall("The request body must be a JSON object.", code="invalid_json") from None
    except _MALFORMED as error:
        reason = str(error) if isinstance(error, msgspec.DecodeError) else "nested too deeply or not UTF-8"
        raise BadCall(f"The request body is not valid JSON: {reason}.", code="invalid_json") from None


def peek(body: bytes, operation: Operation, request_id: str) -> Call:
    """Read the envelope of an OpenAI request. Raises `BadCall` naming the parameter that is wrong."""
    fields = members(body)
    model = _typed(fields, "model", _STRING, "a string")
    if not isinstance(model, str) or not model or len(model) > 256:
        raise BadCall(
            "Give the parameter 'model': the name of a route, as GET /v1/models lists them.",
            param="model",
            code="missing_required_parameter",
        )
    stream = bool(_typed(fields, "stream", _BOOLEAN, "a boolean"))
    if stream and operation is Operation.EMBEDDING:
        # Refused here: an upstream that answers it whole would look broken, and rest for a caller's mistake.
        raise BadCall("Embeddings are not streamed; leave 'stream' out.", param="stream", code="invalid_value")
    return Call(
        id=request_id,
        dialect=Dialect.OPENAI,
        operation=operation,
        model=model,
        stream=stream,
        fields=fields,
        wants_usage=stream and _asks_usage(fields),
        size=len(body),
    )


def with_usage(fields: Mapping[str, msgspec.Raw]) -> msgspec.Raw:
    """The `stream_options` member that asks for usage and keeps whatever else the client put there."""
    options = stream_options(fields)
    options["include_usage"] = _TRUE
    return msgspec.Raw(_ENCODER.encode(options))


def stream_options(fields: Mapping[str, msgspec.Raw]) -> Fields:
    """Members of `stream_options`, empty if absent. Raises `BadCall`."""
    raw = fields.get("stream_options")
    if raw is None:
        return {}
    try:
        return _STREAM_OPTIONS.decode(raw) or {}
    except _MALFORMED:
        raise BadCall("'stream_options' must be an object.", param="stream_options") from None


def encode(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """Body bytes of these members."""
    return _ENCODER.encode(fields)


def text(value: str) -> msgspec.Raw:
    """A string as a raw JSON member."""
    return msgspec.Raw(_ENCODER.encode(value))


def _asks_usage(fields: Mapping[str, msgspec.Raw]) -> bool:
    raw = stream_options(fields).get("include_usage")
    return raw is not None and bytes(raw) == b"true"


def _typed(fields: Fields, name: str, decoder: msgspec.json.Decoder[Any], kind: str) -> object:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except _MALFORMED:
        raise BadCall(f"'{name}' must be {kind}.", param=name, code="invalid_type") from None
