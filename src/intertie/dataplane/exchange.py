"""The one mutable record of a request. Log line, metrics, ledger entry and response headers are projections of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from intertie.core.errors import GatewayError
from intertie.core.ledger import AttemptRecord, CallFacts, Considered, Settlement, State
from intertie.core.policy.answers import Kept
from intertie.core.policy.meters import Grant
from intertie.core.policy.worst_case import Size
from intertie.core.providers import Reader
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import Docket
from intertie.core.routing.traffic import Ticket
from intertie.core.terms import Call, Caller, Credential, Operation, Route, Snapshot, Usage
from intertie.dataplane.flights import Lead
from intertie.dataplane.heartbeat import Pulse
from intertie.dataplane.holding import Holding

Who = tuple[Candidate, Credential | None]
"""Whom an attempt asks, and with which credential."""


class Exchange:
    """Each field has one writer, named behind it."""

    __slots__ = (
        "account", "attempts", "body", "cache", "cache_key", "call", "caller", "committed", "cost", "deadline",
        "direct", "docket", "error", "facts", "gone", "headers", "holding", "id", "leads", "live", "operation", "plan",
        "pulse", "race", "replayed", "restriction", "route", "running", "served", "settled", "shadow_of", "size",
        "snapshot", "started", "started_at", "state", "status", "stopped", "tries", "ttft", "upstream_seconds",
    )  # fmt: skip

    def __init__(self, request_id: str, operation: Operation, headers: Mapping[bytes, bytes], body: bytes) -> None:
        self.id = request_id
        self.operation = operation
        self.headers = headers  # of the request, lower-case names
        self.body = body
        self.direct: str | None = None
        """Name of the node this call is for, past all routes; set by the door."""
        self.started = self.started_at = 0.0
        """Monotonic, and on the wall's clock; set by the door, the latter moved by `admitted` if it had to wait."""
        self.deadline = 0.0  # monotonic; set at admission
        self.snapshot: Snapshot = Snapshot()
        self.caller: Caller | None = None
        self.call: Call | None = None
        self.route: Route | None = None
        self.served: Candidate | None = None
        """The candidate of the latest attempt, or of the one that won; written by `attempt`. So is the next."""
        self.running: Attempt | None = None
        self.race: Race | None = None
        """Whose output comes first decides who answers; written by `hedging`."""
        self.shadow_of = ""
        """Id of the request of which this is a copy; written by `shadow`."""
        self.pulse = Pulse(0.0)
        """When output was last written; written by `relay`."""
        self.live: list[Attempt] = []
        """The attempts under way; written by `attempt`."""
        self.tries = 0
        """Attempts begun; written by `attempt`."""
        self.attempts: list[AttemptRecord] = []
        self.cost: int | None = 0  # micro-units over all attempts; `None` is unknown
        self.upstream_seconds = 0.0
        """Time spent waiting for upstreams; written by `attempt`."""
        self.committed = False
        """Model output has been written to the client: no going elsewhere; written by `relay`."""
        self.ttft: float | None = None
        """Seconds from the start to the first output written; written by `relay`."""
        self.state, self.status = State.FAILED, 0
        self.error: GatewayError | None = None
        self.settled = False
        self.account: Settlement | None = None
        """What the books got; written by `pipeline`."""
        self.size: Size | None = None
        """How large the call is; written by `facts`. So are the next two."""
        self.facts: CallFacts | None = None  # what rules may ask about the call
        self.docket: Docket | None = None
        """The rules that apply to it."""
        self.plan: tuple[Considered, ...] = ()
        """Each target that was considered, for the books; written by `placing`."""
        self.restriction = ""
        """All that rules restrict for this call, as one text; written before the cache is asked."""
        self.cache = self.cache_key = ""
        """hit, similar, miss, bypass or coalesced (empty where no answers are kept), and under what key; by `cache`."""
        self.replayed: Kept | None = None
        """The kept answer that the client gets; written by `cache`."""
        self.leads: tuple[Lead, ...] = ()
        """What others may wait for until this request is over; written by `cache`."""
        self.holding: Holding | None = None
        """What it holds of limits; written by `admitted`."""
        self.gone = False  # the client hung up; written by the door
        self.stopped: GatewayError | None = None
        """Why the gateway itself ends the request; written by the door."""

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.operation} {self.state} attempts={len(self.attempts)}>"


class Attempt:
    """One send while it runs; becomes an `AttemptRecord`."""

    __slots__ = (
        "beaten",
        "candidate",
        "credential",
        "hedge",
        "held",
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

    def __init__(self, n: int, candidate: Candidate, credential: Credential | None, *, hedge: bool = False) -> None:
        self.n = n
        self.hedge = hedge
        """It began while the one before it went on."""
        self.beaten = False
        """The request is answered without it; written by `Race`."""
        self.candidate = candidate
        self.credential = credential
        self.held: Grant | None = None
        """What it holds of limits; written by `admitted`."""
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


class Race:
    """Attempts of one request that are under way together: the first with output answers, the others are cancelled."""

    __slots__ = ("_tasks", "_x", "won")

    def __init__(self, x: Exchange) -> None:
        self._x = x
        self._tasks: dict[Attempt, asyncio.Task[Any] | None] = {}
        self.won: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Race of {len(self._tasks)}{' won' if self.won.done() else ''}>"

    def enter(self, attempt: Attempt) -> None:
        """The current task makes this attempt."""
        self._tasks[attempt] = asyncio.current_task()

    def win(self, attempt: Attempt) -> None:
        """This attempt answers the request. Called before anything of its answer is sent; again, it does nothing."""
        if self.won.done():
            assert self.won.result() is attempt
            return
        self.won.set_result(attempt)
        self._x.served, self._x.running = attempt.candidate, attempt
        for other, task in self._tasks.items():
            if other is not attempt and task is not None:
                other.beaten = True
                task.cancel()

    @property
    def attempts(self) -> list[Attempt]:
        """Those that have begun, in their order."""
        return list(self._tasks)

    def has_won(self, task: asyncio.Task[Any]) -> bool:
        """It is this task's attempt that answers the request."""
        return self.won.done() and self._tasks[self.won.result()] is task

    def call_off(self, *, decided: bool) -> None:
        """Nobody's output is wanted any more. Of attempts that are cut off together the first counts, the others are
        beaten; all of them are, if an error of one of them has `decided` the request.
        """
        if not self.won.done():
            for other in self._x.live if decided else self._x.live[1:]:
                other.beaten = True
