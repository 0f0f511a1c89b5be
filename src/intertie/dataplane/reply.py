"""The client's side of an exchange: where answers are written, and the headers they carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

from intertie.core.errors import GatewayError
from intertie.dataplane.exchange import Exchange

Headers = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_STREAMED: Final = (_EVENTS, (b"cache-control", b"no-cache, no-store"), (b"x-accel-buffering", b"no"))
_WHOLE: Final = (_JSON, (b"cache-control", b"no-store"))


class Reply(Protocol):
    """One HTTP answer to a client. Each method waits while the client is slow, so memory stays bounded."""

    started: bool

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head."""
        ...

    async def write(self, body: bytes) -> None:
        """Send part of the body."""
        ...

    @property
    def put(self) -> Callable[[bytes], bool]:
        """Send part of the body without waiting; false if the client is behind and `drained` should be awaited."""
        ...

    async def drained(self) -> None:
        """Return once the client has caught up (or left)."""
        ...

    async def finish(self, body: bytes = b"") -> None:
        """Send the last part of the body."""
        ...


def stream_headers(x: Exchange) -> Headers:
    """Headers of a streamed answer, as far as they are known when it begins."""
    return [*_STREAMED, *_about(x)]


def whole_headers(x: Exchange, length: int | None, now: float) -> Headers:
    """Headers of a whole answer of `length` bytes (`None`: unknown, sent in chunks). `now` is monotonic."""
    headers: Headers = [*_WHOLE, *_about(x)]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
        if x.cost is not None and x.attempts:
            headers.append((b"x-intertie-cost", b"%d.%06d" % divmod(x.cost, 1_000_000)))
    spent = now - x.started
    headers.append((b"openai-processing-ms", b"%d" % (spent * 1000)))
    headers.append((b"x-intertie-overhead-ms", b"%.2f" % (max(0.0, spent - x.upstream_seconds) * 1000)))
    return headers


def error_headers(x: Exchange, error: GatewayError, length: int) -> Headers:
    """Headers of an error answer; every 429 and 503 says when to come back."""
    headers: Headers = [*_WHOLE, *_about(x), (b"content-length", b"%d" % length)]
    if error.client_may_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.client_may_retry else b"false"))
    if error.status in (429, 503) or error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after or 1.0))))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def _about(x: Exchange) -> Headers:
    headers: Headers = [(b"x-request-id", x.id.encode()), (b"x-intertie-attempts", b"%d" % x.tries)]
    if x.route is not None:
        headers.append((b"x-intertie-route", _value(x.route.model)))
    if x.served is not None:
        headers += _names(x.served.upstream.name, x.served.target.model)
    return headers


@lru_cache(maxsize=1024)
def _names(upstream: str, model: str) -> Headers:
    target = (b"x-intertie-target", _value(f"{upstream}/{model}"))
    return [target, (b"x-intertie-model", _value(model)), (b"x-intertie-cache", b"bypass")]


@lru_cache(maxsize=1024)
def _value(text: str) -> bytes:
    """A header value that cannot split the head, whatever the name of a model is (T09)."""
    return text.encode("ascii", "replace").translate(None, b"\r\n\0")
