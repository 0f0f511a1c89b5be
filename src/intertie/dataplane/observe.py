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

from intertie.core.errors import Fault, GatewayError, Overloaded, UpstreamRejected
from intertie.core.ledger import State
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


class Tally:
    """What was counted for one route and operation."""

    __slots__ = (
        "answers", "cached", "cost", "duration", "failed", "input", "ok", "output", "overhead", "reasoning", "saved",
        "ttft",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ok = 0
        self.failed: Counter[str] = Counter()
        """Outcome (an error code or a state) -> requests."""
        self.input = self.output = self.cached = self.reasoning = 0
        self.cost = 0
        """Micro-units, unknown costs left out."""
        self.answers: Counter[str] = Counter()
        """hit, similar, miss, bypass or coalesced -> requests, where answers are kept."""
        self.saved = 0
        """Micro-units that answers given again would have cost, as far as known."""
        self.duration = Histogram()
        self.ttft = Histogram()
        self.overhead = Histogram()


class Counters:
    """Plain integers, read by `/metrics`. Counting is on the request path, so it is a few additions."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        """(route, operation) -> tally; the route is empty for requests that were refused before they had one."""
        self.attempts: Counter[tuple[str, str]] = Counter()
        """(upstream, outcome) -> attempts; outcome is ok or an error code."""
        self.hedges: Counter[tuple[str, str]] = Counter()
        """(route, outcome) -> calls that asked a second target; outcome is won (it answered), lost or failed."""
        self.shadows: Counter[tuple[str, str]] = Counter()
        """(route, outcome) -> copies for shadow targets; outcome is ok, an error's code, dropped or withdrawn."""
        self.in_flight = 0
        self.shed = 0

    def attempt(self, upstream: str, outcome: str) -> None:
        """Count one attempt."""
        self.attempts[upstream, outcome] += 1

    def finished(self, x: Exchange, now: float) -> None:
        """Count one request. `now` is monotonic."""
        key = (x.route.model if x.route is not None else "", x.operation)
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally()
        if x.state is State.OK:
            tally.ok += 1
        else:
            tally.failed[outcome(x.error) if x.error is not None else str(x.state)] += 1
            self.shed += isinstance(x.error, Overloaded) and not x.tries
        spent = now - x.started
        tally.duration.add(spent)
        tally.overhead.add(max(0.0, spent - x.upstream_seconds))
        if x.ttft is not None:
            tally.ttft.add(x.ttft)
        for attempt in x.attempts:
            usage = attempt.usage
            tally.input += usage.input
            tally.output += usage.output
            tally.cached += usage.cached
            tally.reasoning += usage.reasoning
        if x.cost:
            tally.cost += x.cost
        if x.cache:
            tally.answers[x.cache] += 1
            if x.replayed is not None:
                tally.saved += x.replayed.cost or 0


def outcome(error: GatewayError) -> str:
    """An error's label. The code of a rejection is the upstream's own word, and there is no end to those."""
    return type(error).code if isinstance(error, UpstreamRejected) else error.code


class _Refused(msgspec.Struct, omit_defaults=True):
    """The log line of a request that was refused before it had a route; the others are logged as their account."""

    event: str
    request_id: str
    operation: str
    status: int
    error: str
    started_at: float
    duration_ms: int
    organisation: str = ""
    project: str = ""
    key_name: str = ""


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
        """Log one request: its account as the books have it, and why it failed in words that never reach a client."""
        if not self._enabled:
            return
        error = x.error
        if x.account is not None:
            account = x.account
            if account.facts is not None or account.member:
                # For the books; people, tags and headers are not for every log.
                account = msgspec.structs.replace(account, plan=(), facts=None, member="")
            kind = b"shadow" if x.shadow_of else b"request"
            line = b'{"event":"%b",' % kind + self._encoder.encode(account)[1:]
            if error is not None and error.detail and error.fault is not Fault.CALLER:
                line = line[:-1] + b',"detail":' + self._encoder.encode(error.detail) + b"}"
        else:
            line = self._encoder.encode(_refused(x, now))
        self._append(line)

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


def _refused(x: Exchange, now: float) -> _Refused:
    caller = x.caller
    return _Refused(
        event="request",
        request_id=x.id,
        operation=x.operation,
        status=x.status,
        error=x.error.code if x.error is not None else "",
        started_at=x.started_at,
        duration_ms=round((now - x.started) * 1000),
        organisation=caller.organisation if caller is not None else "",
        project=caller.project if caller is not None else "",
        key_name=caller.key_name if caller is not None else "",
    )
