"""The one mutable record of a request. Log line, metrics, ledger entry and response headers are projections of it."""

from __future__ import annotations

from collections.abc import Mapping

from intertie.core.errors import GatewayError
from intertie.core.policy.answers import Kept
from intertie.core.providers import Reader
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import Candidate
from intertie.core.routing.traffic import Ticket
from intertie.core.terms import (
    AttemptRecord,
    Call,
    Caller,
    CallFacts,
    Considered,
    Credential,
    Operation,
    Route,
    Settlement,
    Snapshot,
    State,
    Usage,
)
from intertie.dataplane.flights import Lead
from intertie.dataplane.heartbeat import Pulse
from intertie.dataplane.holding import Holding


class Exchange:
    """Each field has one writer, named behind it."""

    __slots__ = (
        "account", "attempts", "body", "cache", "cache_key", "call", "caller", "committed", "cost", "deadline",
        "direct", "docket", "error", "facts", "gone", "headers", "holding", "id", "leads", "operation", "plan",
        "pulse", "replayed", "restriction", "route", "running", "served", "settled", "snapshot", "started",
        "started_at", "state", "status", "stopped", "tries", "ttft", "upstream_seconds",
    )  # fmt: skip

    def __init__(self, request_id: str, operation: Operation, headers: Mapping[bytes, bytes], body: bytes) -> None:
        self.id = request_id
        self.operation = operation
        self.headers = headers
        """Request headers, lower-case names."""
        self.body = body
        self.direct: str | None = None
        """Name of the node this call is for, past all routes; set by the door."""
        self.started = self.started_at = 0.0
        """Monotonic, and on the wall's clock; set by the door, the latter moved by `admitted` if it had to wait."""
        self.deadline = 0.0
        """Monotonic; set at admission."""
        self.snapshot: Snapshot = Snapshot()
        self.caller: Caller | None = None
        self.call: Call | None = None
        self.route: Route | None = None
        self.served: Candidate | None = None
        """The candidate of the latest attempt; written by `attempt`."""
        self.running: Attempt | None = None
        """The latest attempt; written by `attempt`."""
        self.pulse = Pulse(0.0)
        """When output was last written; written by `relay`."""
        self.tries = 0
        """Attempts begun; written by `attempt`."""
        self.attempts: list[AttemptRecord] = []
        self.cost: int | None = 0
        """Micro-units over all attempts; `None` is unknown."""
        self.upstream_seconds = 0.0
        """Time spent waiting for upstreams; written by `attempt`."""
        self.committed = False
        """Model output has been written to the client: no going elsewhere; written by `relay`."""
        self.ttft: float | None = None
        """Seconds from the start to the first output written; written by `relay`."""
        self.state = State.FAILED
        self.status = 0
        self.error: GatewayError | None = None
        self.settled = False
        self.account: Settlement | None = None
        """What the books got; written by `pipeline`."""
        self.facts: CallFacts | None = None
        """What rules may ask about the call; written by `facts`."""
        self.docket: Docket | None = None
        """The rules that apply to it; written by `facts`."""
        self.plan: tuple[Considered, ...] = ()
        """Each target that was considered, for the books; written by `placing`."""
        self.restriction = ""
        """All that rules restrict for this call, as one text; written before the cache is asked."""
        self.cache = self.cache_key = ""
        """hit, miss, bypass or coalesced (empty where no answers are kept), and under what key; written by `cache`."""
        self.replayed: Kept | None = None
        """The kept answer that the client gets; written by `cache`."""
        self.leads: tuple[Lead, ...] = ()
        """What others may wait for until this request is over; written by `cache`."""
        self.holding: Holding | None = None
        """What it holds of limits; written by `admitted`."""
        self.gone = False
        """The client hung up; written by the door."""
        self.stopped: GatewayError | None = None
        """Why the gateway itself ends the request; written by the door."""

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.operation} {self.state} attempts={len(self.attempts)}>"


class Attempt:
    """One send while it runs; becomes an `AttemptRecord`."""

    __slots__ = (
        "candidate",
        "credential",
        "n",
        "reader",
        "sent",
        "started",
        "started_at",
        "status",
        "ticket",
        "ttft",
        "usage",
    )

    def __init__(self, n: int, candidate: Candidate, credential: Credential | None) -> None:
        self.n = n
        self.candidate = candidate
        self.credential = credential
        self.started = 0.0
        self.started_at = 0.0
        self.status = 0
        """Status of the upstream's answer; 0 if there was none."""
        self.sent = False
        """The request went out: the upstream may have executed it."""
        self.ttft: float | None = None
        self.ticket: Ticket | None = None
        """What traffic learns from; written by `attempt`."""
        self.reader: Reader | None = None
        self.usage: Usage | None = None

    def was_sent(self) -> None:
        """The transport has sent the request: from here on the upstream may have executed it."""
        self.sent = True
