"""OpenAI's error object, in both directions: ours rendered for clients, an upstream's read and made safe (S16)."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from intertie.core.errors import GatewayError
from intertie.core.wire.sse import event

_ENCODER: Final = msgspec.json.Encoder()
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://\S+", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")
_KEY: Final = re.compile(r"\b(?:sk|pk|gsk|xai|key|tok|Bearer)[-_ ][A-Za-z0-9*._-]{6,}|\b[A-Za-z0-9_-]{32,}\b")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]+")
_MAX_MESSAGE: Final = 600


class _Rendered(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str
    request_id: str
    retryable: bool
    attempts: int


class WireError(msgspec.Struct, frozen=True):
    """What an upstream said went wrong. Strings are as it sent them: not safe for clients."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str | None = None


def error_object(error: GatewayError, request_id: str, attempts: int = 0) -> bytes:
    """The JSON body for `error`: OpenAI's members plus request id, attempts and whether a retry may help."""
    retryable = error.client_may_retry is not False and error.status in (408, 409, 429, 500, 502, 503, 504)
    return _ENCODER.encode(
        {"error": _Rendered(error.public, error.type, error.param, error.code, request_id, retryable, attempts)}
    )


def error_event(error: GatewayError, request_id: str, attempts: int) -> bytes:
    """The same as one in-band event, for a stream that has begun. No terminal marker may follow it."""
    return event(error_object(error, request_id, attempts))


def read_error(body: bytes) -> WireError | None:
    """The error object in a body, whatever its spelling; `None` if the body is not JSON or holds none."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, str) and error:
        return WireError(message=error, code=_word(document.get("code")), type=_word(document.get("type")))
    if isinstance(error, dict) and error:
        param = error.get("param")
        return WireError(
            message=_word(error.get("message")),
            type=_word(error.get("type")),
            code=_word(error.get("code")),
            param=param if isinstance(param, str) else None,
        )
    for name in ("message", "detail"):
        # FastAPI-built runtimes answer {"detail": …}, some vendors {"message": …}.
        if document.get(name):
            words = {word: _word(document.get(word)) for word in ("type", "code")}
            return WireError(message=_word(document[name]), **words)
    return None


def sanitise(message: str) -> str:
    """An upstream's text made safe for a client: no URLs, addresses, keys or control characters, and bounded."""
    clean = _CONTROL.sub(" ", message)
    for pattern in (_URL, _ADDRESS, _KEY):
        clean = pattern.sub("[removed]", clean)
    return clean[:_MAX_MESSAGE].strip()


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict) and "detail" in value:
        value = value["detail"]
    if isinstance(value, list):
        # Validation errors as pydantic lists them; `input` repeats the caller's content, so it is left out.
        return "; ".join(_violation(entry) for entry in value[:5])[:_MAX_MESSAGE]
    return value if isinstance(value, str) else str(value)[:_MAX_MESSAGE]


def _violation(entry: object) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    place = ".".join(str(step) for step in entry.get("loc") or ())
    return f"{place}: {entry.get('msg', '')}" if place else str(entry.get("msg", ""))
