"""The client's side of an exchange: where answers are written, and the headers they carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

from intertie.core.errors import GatewayError
from intertie.core.policy.answers import Kept, Space
from intertie.core.terms import NODE
from intertie.dataplane.exchange import Exchange

_NO_CACHE: Final = b"x-intertie-cache: bypass\r\n"
_WHOLE: Final = b"content-type: application/json\r\ncache-control: no-store\r\n"
_STREAMED: Final = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache, no-store\r\nx-accel-buffering: no\r\n"
)


class Reply(Protocol):
    """One HTTP answer to a client. Each method waits while the client is slow, so memory stays bounded."""

    started: bool

    async def start(self, status: int, head: bytes, length: int | None) -> None:
        """Send the head: header lines, each ending in CR LF, for a body of `length` bytes (`None`: not known yet)."""
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


def stream_head(x: Exchange) -> bytes:
    """Header lines of a streamed answer, as far as they are known when it begins."""
    return _STREAMED + _about(x)


def whole_head(x: Exchange, now: float, *, priced: bool) -> bytes:
    """Header lines of a whole answer; with its cost if that is known before the body. `now` is monotonic."""
    spent = now - x.started
    overhead = max(0.0, spent - x.upstream_seconds) * 1000
    timing = b"openai-processing-ms: %d\r\nx-intertie-overhead-ms: %.2f\r\n" % (spent * 1000, overhead)
    if priced and x.cost is not None and (x.attempts or x.replayed):
        timing += b"x-intertie-cost: %d.%06d\r\n" % divmod(x.cost, 1_000_000)
    return _WHOLE + _about(x) + timing


def error_head(x: Exchange, error: GatewayError) -> bytes:
    """Header lines of an error answer; every 429 and 503 says when to come back."""
    head = _WHOLE + _about(x)
    if error.client_may_retry is not None:
        head += b"x-should-retry: true\r\n" if error.client_may_retry else b"x-should-retry: false\r\n"
    if error.retry_after == math.inf:
        pass  # no time will come
    elif error.status in (429, 503) or error.retry_after is not None:
        head += b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after or 1.0))
    if error.status == 401:
        head += b"www-authenticate: Bearer\r\n"
    return head


def _about(x: Exchange) -> bytes:
    about = b"x-request-id: %b\r\nx-intertie-attempts: %d\r\n" % (x.id.encode(), x.tries)
    if x.holding is not None:
        about += x.holding.lines
    if x.route is not None:
        about += _route_line(x.route.model)
    if x.replayed is not None:
        kept = x.replayed
        return about + _target_lines(kept.upstream, kept.model, kept.node) + _replay_lines(x, kept)
    if x.served is not None:
        upstream = x.served.upstream
        about += _target_lines(upstream.name, x.served.target.model, upstream.provider == NODE)
    if x.cache:
        return about + _cache_lines(x)
    return about + _NO_CACHE if x.served is not None else about


def _cache_lines(x: Exchange) -> bytes:
    lines = b"x-intertie-cache: %b\r\n" % x.cache.encode()
    return lines + b"x-intertie-cache-key: %b\r\n" % x.cache_key.encode() if x.cache_key else lines


def _replay_lines(x: Exchange, kept: Kept) -> bytes:
    """How old the answer is and what it saves; a call whose answer was awaited gets it at age 0."""
    age = max(0.0, x.started_at + (x.ttft or 0.0) - kept.made_at)
    lines = _cache_lines(x) + b"age: %d\r\n" % age
    if kept.similarity:
        lines += b"x-intertie-cache-similarity: %.3f\r\n" % kept.similarity
        lines += b"x-intertie-cache-match: %b\r\n" % _value(kept.request)
    if kept.cost is not None:
        lines += b"x-intertie-saved: %d.%06d\r\n" % divmod(kept.cost, 1_000_000)
    return lines + b"idempotent-replayed: true\r\n" if kept.space is Space.IDEMPOTENCY else lines


@lru_cache(maxsize=1024)
def _route_line(route: str) -> bytes:
    return b"x-intertie-route: %b\r\n" % _value(route)


@lru_cache(maxsize=1024)
def _target_lines(upstream: str, model: str, node: bool) -> bytes:  # noqa: FBT001 (part of the cache's key)
    target = _value(f"{upstream}/{model}")
    lines = b"x-intertie-target: %b\r\nx-intertie-model: %b\r\n" % (target, _value(model))
    return lines + b"x-intertie-node: %b\r\n" % _value(upstream) if node else lines


def _value(text: str) -> bytes:
    """A header value that cannot split the head, whatever the name of a model is (T09)."""
    return text.encode("ascii", "replace").translate(None, b"\r\n\0")
