"""The shared base of every provider that speaks OpenAI's language. A provider file states only what differs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

import msgspec

from intertie.core import errors
from intertie.core.errors import UpstreamError
from intertie.core.providers._adapter import Reader
from intertie.core.terms import Call, Operation, Target, Upstream
from intertie.core.wire import envelope
from intertie.core.wire.http import Head, WireRequest
from intertie.core.wire.openai_chat import Answer, ChatReader, read_answer
from intertie.core.wire.openai_embeddings import read_embeddings
from intertie.core.wire.openai_errors import WireError, read_error, sanitise

PATHS: Final = MappingProxyType(
    {
        Operation.CHAT: "/chat/completions",
        Operation.COMPLETION: "/completions",
        Operation.EMBEDDING: "/embeddings",
    }
)
QUOTA_CODES: Final = frozenset(
    (
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "spend_limit_reached",
    )
)
MAX_WAIT: Final = 300.0
"""Seconds; a longer Retry-After is cut to this (S15)."""


class Quirks(msgspec.Struct, frozen=True):
    """How a provider departs from OpenAI's API."""

    drop: frozenset[str] = frozenset()
    """Top-level request members it refuses."""
    rename: Mapping[str, str] = MappingProxyType({})
    """Members it knows by another name; if the client gave both a value, the new name wins."""
    stream_usage: bool = True
    """It accepts `stream_options.include_usage`."""
    quota_codes: frozenset[str] = QUOTA_CODES
    """Error codes or types by which a 429 means that quota is gone, not that a moment's wait helps."""


class Compatible:
    """OpenAI phrasing, reading and classifying, all overridable."""

    kind: str = ""
    title: str = ""
    base_url: str | None = None
    catalogue: str | None = None
    operations: frozenset[Operation] = frozenset(Operation)
    bills_cancelled: bool = True
    quirks: Quirks = Quirks()

    def request(self, call: Call, target: Target, upstream: Upstream) -> WireRequest:
        """The client's members with the target's model, usage asked for, and this provider's quirks applied."""
        fields = dict(call.fields)
        fields["model"] = envelope.text(target.model)
        if call.stream and self.quirks.stream_usage:
            fields["stream_options"] = envelope.with_usage(fields)
        elif "stream_options" in fields:
            del fields["stream_options"]
        for name in self.quirks.drop:
            fields.pop(name, None)
        if call.operation is Operation.CHAT:
            for old, new in self.quirks.rename.items():
                value = fields.pop(old, None)
                if value is not None and bytes(fields.get(new, _NULL)) == b"null":
                    fields[new] = value
        base = upstream.base_url or self.base_url or ""
        return WireRequest(
            url=base.rstrip("/") + PATHS[call.operation],
            headers={**_HEADERS[call.stream], **upstream.headers},
            body=envelope.encode(fields),
            pool=upstream.id,
        )

    def reader(self, call: Call, head: Head) -> Reader:
        """A reader for one streamed answer to `call`. Raises `UpstreamInvalid` if `head` does not announce events."""
        kind = head.headers.get("content-type", "")
        if kind and not kind.lower().startswith("text/event-stream"):
            raise errors.UpstreamInvalid("The upstream did not stream.", detail=f"content type {kind[:60]!r}")
        return ChatReader(call, self.classify_object)

    def answer(self, call: Call, head: Head, body: bytes) -> Answer:
        """A whole answer. Raises `UpstreamInvalid`, `UpstreamEmpty` or what its error object means."""
        kind = head.headers.get("content-type", "")
        if "json" not in kind and not body.lstrip()[:1] == b"{":
            raise errors.UpstreamInvalid("The upstream's answer is not valid.", detail=f"content type {kind[:60]!r}")
        if call.operation is Operation.EMBEDDING:
            return read_embeddings(body, call, self.classify_object)
        return read_answer(body, self.classify_object)

    def classify(self, head: Head, body: bytes, now: float) -> UpstreamError:
        """What a non-2xx answer means, by the table of S2."""
        said = read_error(body) or WireError()
        wait = retry_after(head.headers, now)
        return self._judge(head.status, said, wait)

    def classify_object(self, said: WireError) -> UpstreamError:
        """What an error object under status 200 means: as its own code or type says, else a server failure."""
        status = int(said.code) if _STATUS.fullmatch(said.code) else 0
        return self._judge(status or _status_of(said), said, None)

    def _judge(self, status: int, said: WireError, wait: float | None) -> UpstreamError:
        detail = f"status {status}, type {said.type[:60]!r}, code {said.code[:60]!r}"
        if status not in _MAY_QUOTE:
            detail += f": {sanitise(said.message)}"
        if status in (401, 403):
            return errors.UpstreamDenied("The upstream refused the gateway's credential.", detail=detail)
        quota = bool({said.code, said.type} & self.quirks.quota_codes)
        if status == 402 or (status == 429 and quota):
            return errors.UpstreamExhausted("The upstream account has no quota left.", detail=detail, retry_after=wait)
        if status == 429:
            return errors.UpstreamBusy("The upstream is rate limiting the gateway.", detail=detail, retry_after=wait)
        if status == 404:
            return errors.UpstreamNoModel("The upstream does not serve this model.", detail=detail)
        if status in (408, 409, 425):
            return errors.UpstreamContended("The upstream asked to try again.", detail=detail, status=status)
        if 400 <= status < 500:
            return errors.UpstreamRejected(
                sanitise(said.message) or "The upstream refused the request.",
                detail=detail,
                status=status,
                code=_code_of(said),
                param=sanitise(said.param)[:_MAX_PARAM] if said.param else None,
            )
        if status in (502, 503, 504, 529):
            return errors.UpstreamUnavailable("The upstream is overloaded or down.", detail=detail, retry_after=wait)
        if 300 <= status < 400:
            return errors.UpstreamInvalid("The upstream answered with a redirect.", detail=detail)
        return errors.UpstreamFailed("The upstream failed.", detail=detail)


_HEADERS: Final = {
    False: {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"},
    True: {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"},
}

_MAY_QUOTE: Final = frozenset((400, 413, 415, 422))
"""Statuses whose message may quote the prompt: it goes to the client, whose prompt it is, and never to a log."""

_NULL: Final = msgspec.Raw(b"null")
_STATUS: Final = re.compile(r"[45][0-9]{2}")
_CODE: Final = re.compile(r"(?![0-9]+$)[A-Za-z0-9_.:-]{1,64}")
_MAX_PARAM: Final = 100
_TOO_LONG: Final = re.compile(
    r"(maximum|max\w*|exceeds?|longer than)[^.]{0,60}context (length|size|window)", re.IGNORECASE
)

_STATUS_BY_WORD: Final = MappingProxyType(
    {
        "rate_limit_exceeded": 429,
        "rate_limit_error": 429,
        "insufficient_quota": 429,
        "overloaded_error": 529,
        "overloaded": 529,
        "server_error": 500,
        "internal_server_error": 500,
        "service_unavailable": 503,
        "model_not_found": 404,
        "invalid_api_key": 401,
        "authentication_error": 401,
        "permission_error": 403,
        "invalid_request_error": 400,
        "context_length_exceeded": 400,
        "content_filter": 400,
    }
)


def _code_of(said: WireError) -> str | None:
    """The upstream's code if it is one; OpenAI's own for a prompt that is too long, since agents match that."""
    if said.type == "exceed_context_size_error" or _TOO_LONG.search(said.message):
        return "context_length_exceeded"
    return said.code if _CODE.fullmatch(said.code) else None


def _status_of(said: WireError) -> int:
    return _STATUS_BY_WORD.get(said.code) or _STATUS_BY_WORD.get(said.type) or 500


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or date), 0 to 300; `None` if unusable (F38)."""
    try:
        if "retry-after-ms" in headers:
            return _bounded(float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return _bounded(float(value))
        moment = parsedate_to_datetime(value).timestamp()
        # Relative to the answer's own clock, which need not agree with ours (S15).
        said_now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else now
        return _bounded(moment - said_now)
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(seconds: float) -> float | None:
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_WAIT)
