"""What the steps of the pipeline share: the configuration in force, the books, the transports, and what was learned."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from intertie.core.errors import Harm, UpstreamError
from intertie.core.providers import Adapter
from intertie.core.routing.credentials import CredentialBook
from intertie.core.routing.health import HealthBook
from intertie.core.routing.hedging import Hedges
from intertie.core.routing.reach import Reaches
from intertie.core.routing.retry_budget import RetryBudgets
from intertie.core.routing.room import OFFLINE, Room
from intertie.core.routing.rulebook import RuleBook, RuleBooks
from intertie.core.routing.traffic import Traffic
from intertie.core.terms import NODE, Operation, Snapshot, Upstream
from intertie.dataplane.admitted import Gate
from intertie.dataplane.answers import Answers
from intertie.dataplane.authenticate import HashKey
from intertie.dataplane.exchange import Exchange, Who
from intertie.dataplane.observe import Counters, RequestLog, outcome
from intertie.dataplane.ports import Ledger, RoomSource, SnapshotSource
from intertie.dataplane.shedding import Shedder
from intertie.dataplane.transport.contract import Transports

_CREDENTIAL_HARM = frozenset((Harm.PARK, Harm.EXHAUSTED, Harm.COOLDOWN))
_GONE = Room(open=False, reason="not an active node any more")
_NO_LINKS = Room(open=False, reason=f"{OFFLINE}: this process holds no links")


class Dataplane:
    """Everything a request needs, wired once by `app`."""

    def __init__(
        self,
        *,
        snapshots: SnapshotSource,
        ledger: Ledger,
        transports: Transports,
        adapters: Mapping[str, Adapter],
        hash_key: HashKey,
        shedder: Shedder,
        log: RequestLog,
        links: RoomSource | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.snapshots = snapshots
        self.ledger = ledger
        self.transports = transports
        self.adapters = adapters
        self.hash_key = hash_key
        self.shedder = shedder
        self.log = log
        self.links = links
        self.answers = answers
        self.counters = Counters()
        # Looked up each time: both clocks may be replaced later.
        self.gate = Gate(snapshots, log, lambda: self.monotonic(), lambda: self.wall())  # noqa: PLW0108
        self.rng = random.Random()
        self.health = HealthBook(self.rng)
        self.traffic = Traffic()
        self._rulebooks = RuleBooks()
        self.reaches = Reaches()
        self.credentials = CredentialBook()
        self.budgets = RetryBudgets()
        self.hedges = Hedges()
        self.monotonic: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self.mirror: Callable[[Exchange], None] = lambda _: None
        """Called with each finished request of a route that has shadow targets; see `shadow`."""

    def speaks(self, provider: str, operation: Operation) -> bool:
        """True if this adapter can do this operation."""
        adapter = self.adapters.get(provider)
        return adapter is not None and operation in adapter.operations

    def rulebook(self, snapshot: Snapshot, organisation: str) -> RuleBook:
        """An organisation's rules, by the configuration of one request."""
        return self._rulebooks.of(organisation, snapshot.rules.get(organisation, ()))

    def room(self, upstream: Upstream, model: str) -> Room | None:
        """What a node can take of this model right now; `None` for an upstream that is not a node."""
        if upstream.provider != NODE:
            return None
        # Of the newest snapshot, not the request's own: a node that was drained or revoked meanwhile gets nothing.
        node = self.snapshots.current.nodes.get((upstream.organisation, upstream.name))
        if node is None or node.id != upstream.id:
            return _GONE
        return _NO_LINKS if self.links is None else self.links.room(upstream, node, model)

    def mark_success(self, who: Who, first_output: float | None) -> None:
        """Tell health and credentials that an attempt succeeded; `first_output` in seconds."""
        candidate, credential = who
        now = self.monotonic()
        self.health.success((candidate.upstream.id, candidate.target.model), now, first_output)
        if credential is not None:
            self.credentials.success(candidate.upstream, credential, now)
        self.counters.attempt(candidate.upstream.name, "ok")

    def mark_failure(self, who: Who, error: UpstreamError) -> None:
        """Tell health and credentials what went wrong."""
        candidate, credential = who
        now = self.monotonic()
        self.health.failure((candidate.upstream.id, candidate.target.model), error, now)
        if credential is not None and error.harm in _CREDENTIAL_HARM:
            self.credentials.failure(candidate.upstream, credential, error, now)
        self.counters.attempt(candidate.upstream.name, outcome(error))
        self.log.attempt_failed(candidate.upstream.name, candidate.target.model, error)
