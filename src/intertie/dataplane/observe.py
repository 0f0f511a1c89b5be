"""Counters and log lines: projections of finished exchanges. Labels come from configuration, so they are bounded."""

from __future__ import annotations

import asyncio
import bisect
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from intertie.core.errors import Fault, GatewayError
from intertie.core.terms import State
from intertie.dataplane.exchange import Exchange

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms, seconds."""


class Histogram:
    """Counts by `BUCKETS`, the last one unbounded, and their sum in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Counters:
    """Plain integers, read by `/metrics` and the status page."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        """(route, operation, outcome) -> requests; outcome is ok or an error code."""
        self.attempts: Counter[tuple[str, str]] = Counter()
        """(upstream, outcome) -> attempts."""
        self.tokens: Counter[tuple[str, str]] = Counter()
        """(route, kind) -> tokens; kind is input, output, cached or reasoning."""
        self.cost: Counter[str] = Counter()
        """Route -> micro-units, unknown costs left out."""
        self.duration: dict[str, Histogram] = {}
        self.ttft: dict[str, Histogram] = {}
        self.overhead: dict[str, Histogram] = {}
        self.in_flight = 0
        self.shed = 0

    def attempt(self, upstream: str, outcome: str) -> None:
        """Count one attempt."""
        self.attempts[upstream, outcome] += 1

    def finished(self, x: Exchange, now: float) -> None:
        """Count one request. `now` is monotonic."""
        route = x.route.model if x.route is not None else ""
        self.requests[route, x.operation, _outcome(x)] += 1
        _histogram(self.duration, route).add(now - x.started)
        _histogram(self.overhead, route).add(max(0.0, now - x.started - x.upstream_seconds))
        if x.ttft is not None:
            _histogram(self.ttft, route).add(x.ttft)
        tokens = self.tokens
        for attempt in x.attempts:
            tokens[route, "input"] += attempt.usage.input
            tokens[route, "output"] += attempt.usage.output
            if attempt.usage.cached:
                tokens[route, "cached"] += attempt.usage.cached
            if attempt.usage.reasoning:
                tokens[route, "reasoning"] += attempt.usage.reasoning
        if x.cost:
            self.cost[route] += x.cost


def _histogram(family: dict[str, Histogram], route: str) -> Histogram:
    histogram = family.get(route)
    if histogram is None:
        histogram = family[route] = Histogram()
    return histogram


def _outcome(x: Exchange) -> str:
    if x.state is State.OK:
        return "ok"
    return x.error.code if x.error is not None else str(x.state)


class _Line(msgspec.Struct, omit_defaults=True):
    time: float
    event: str
    request_id: str
    state: str
    status: int
    operation: str
    duration_ms: float
    overhead_ms: float
    route: str = ""
    target: str = ""
    key: str = ""
    project: str = ""
    organisation: str = ""
    stream: bool = False
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int | None = 0
    ttft_ms: float | None = None
    error: str = ""
    detail: str = ""


def _to_stderr(lines: bytes) -> None:
    sys.stderr.flush()
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()


class RequestLog:
    """One JSON line per request, gathered and written five times a second so that a log costs no system call each."""

    FLUSH_SECONDS: Final = 0.2

    def __init__(self, write: Callable[[bytes], object] | None = None, *, enabled: bool = True) -> None:
        self._write = write or _to_stderr
        self._enabled = enabled
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()
        self._timer: asyncio.TimerHandle | None = None

    def finished(self, x: Exchange, now: float) -> None:
        """Log one request. Failures that are not the caller's also say why, in words that never reach a client."""
        if not self._enabled:
            return
        error = x.error
        served = x.served
        caller = x.caller
        line = _Line(
            time=round(x.started_at, 3),
            event="request",
            request_id=x.id,
            state=x.state,
            status=x.status,
            operation=x.operation,
            duration_ms=round((now - x.started) * 1000, 2),
            overhead_ms=round(max(0.0, now - x.started - x.upstream_seconds) * 1000, 2),
            route=x.route.model if x.route is not None else "",
            target=f"{served.upstream.name}/{served.target.model}" if served is not None else "",
            key=caller.key_name if caller is not None else "",
            project=caller.project if caller is not None else "",
            organisation=caller.organisation if caller is not None else "",
            stream=x.call.stream if x.call is not None else False,
            attempts=x.tries,
            input_tokens=sum(attempt.usage.input for attempt in x.attempts),
            output_tokens=sum(attempt.usage.output for attempt in x.attempts),
            cost_micros=x.cost,
            ttft_ms=None if x.ttft is None else round(x.ttft * 1000, 1),
            error=error.code if error is not None else "",
            detail=error.detail if error is not None and error.fault is not Fault.CALLER else "",
        )
        self._append(self._encoder.encode(line))

    def attempt_failed(self, upstream: str, model: str, error: GatewayError) -> None:
        """Log why an attempt failed, whether or not another one answers."""
        self.event("attempt_failed", upstream=upstream, model=model, code=error.code, detail=error.detail)

    def event(self, name: str, **fields: Any) -> None:
        """Log something that is not a request. Values must be safe to log."""
        self._append(self._encoder.encode({"time": round(time.time(), 3), "event": name, **fields}))

    def flush(self) -> None:
        """Write what was gathered."""
        self._timer = None
        if self._lines:
            self._lines.append(b"")
            lines, self._lines = self._lines, []
            self._write(b"\n".join(lines))

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        if self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(self.FLUSH_SECONDS, self.flush)
            except RuntimeError:
                self.flush()
