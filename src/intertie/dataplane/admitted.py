"""Limits, quotas and budgets on the path of a request: what is taken before it runs and settled after it.

Nothing here waits between looking at a limit and taking from it, so the event loop makes it atomic. Which limits apply
is read from the newest configuration, not from the one a request began with: a limit that was lowered is in force.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

from intertie.core.errors import GatewayError, PriceUnknown
from intertie.core.policy.account import Account
from intertie.core.policy.counters import Counters, Grant, Refusal
from intertie.core.policy.limits import Amounts, Limit, Measure
from intertie.core.policy.worst_case import Size, bounded, largest_cost, size
from intertie.core.routing.candidate import Candidate
from intertie.core.terms import AttemptRecord, Price, Settlement, Snapshot, Upstream, Usage
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.holding import NO_SHARE, Allowance, Holding, Share, allowance, share
from intertie.dataplane.ports import SnapshotSource
from intertie.dataplane.refusals import rate_lines, refused
from intertie.dataplane.threshold import Threshold
from intertie.dataplane.waiting import WaitingRoom

SERVED: Final = frozenset(("hit", "coalesced"))
"""Outcomes of the cache with which a request counts although no target was asked."""

_REMEMBERED: Final = 20_000
"""Combinations of key and route, or upstream and model, whose limits are kept sorted."""

Told = Callable[[Threshold], None]


class Standing(NamedTuple):
    """How much of a limit is taken. Money is micro-units."""

    spent: int
    reserved: int
    remaining: int
    resets_in: float
    """Seconds; infinite: never."""


class EventLog(Protocol):
    """Where is noted what operators should see."""

    def event(self, name: str, **fields: Any) -> None:
        """Log something that is not a request."""
        ...


class Gate:
    """Where requests and attempts take from limits. Event loop only."""

    def __init__(
        self, snapshots: SnapshotSource, log: EventLog, monotonic: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.counters = Counters(lambda _limit, _span: 0, self._tell)
        """Accounts are adopted with what the books say before a limit is in force: a new window begins at nothing."""
        self.settled: list[Settlement] | None = None
        """Accounts of requests that ended while new limits are being adopted; `None` else."""
        self.told: Told = lambda _alert: None
        """Called when an account reaches a threshold. Must not wait."""
        self.monotonic = monotonic
        self.wall = wall
        self._log = log
        self._snapshots = snapshots
        self._of = snapshots.current
        self._allowances: dict[tuple[str, str, str, str], Allowance] = {}
        self._shares: dict[tuple[str, str, str], Share] = {}
        self._waiting = WaitingRoom(self._enter)

    def __repr__(self) -> str:
        return f"<Gate {self.counters!r}>"

    def _tell(self, limit: Limit, percent: int, account: Account) -> None:
        reached = Threshold(limit, percent, account.spent, account.cap, account.window)
        self._log.event("alert", reason="limit_threshold", **reached.words())
        self.told(reached)

    # -- a request

    def admit(self, x: Exchange) -> Awaitable[None] | None:
        """Take what the request may use of rates, quotas and places, all or nothing.

        Returns something to wait for where the operator lets calls wait for a place. Raises `RateLimited`,
        `QuotaSpent` or what says that they come back soon; `BadCall` for a call whose size cannot be known.
        """
        snapshot = self._newest()
        if not snapshot.limits:
            return None
        allowed = self.allowance(x)
        must = allowed.bounds or self._bounded_by_target(x)
        if allowed.idle and not must and not (allowed.strict or allowed.lenient):
            return None
        x.holding = Holding()
        if must:
            self._bind(x, allowed, MUST if not allowed.bounds else NO_SHARE)
        if allowed.idle:
            x.holding.entered = True
            return None
        if self._waiting.rooms and (busy := self._waiting.busy(allowed.queues)) is not None:
            return self._waiting.join(x, busy, self.monotonic())
        refusal = self._enter(x)
        if refusal is None:
            return None
        if refusal.limit.wait > 0:
            return self._waiting.join(x, refusal.limit, self.monotonic())
        raise refused(refusal)

    def booked(self, x: Exchange) -> None:
        """The books have the request's account: count what it really took. Called once per request."""
        if self.settled is not None and x.account is not None:
            self.settled.append(x.account)
        self.release(x)

    def release(self, x: Exchange) -> None:
        """Give back whatever the request still holds, however it ended. Safe to repeat."""
        holding = x.holding
        if holding is None:
            return
        self.close(x, None)
        if holding.admitted:
            grants, holding.admitted = holding.admitted, []
            self._end(grants, took(x))

    def _enter(self, x: Exchange) -> Refusal | None:
        """Take for `x`, now. What refuses longest is named, and then nothing was taken."""
        holding, allowed = x.holding, self.allowance(x)
        assert holding is not None
        measured = self._measure(x)
        now, at = self.monotonic(), x.started_at
        likely = Amounts(1, measured.estimate + (measured.declared or 0) * measured.choices)
        most = Amounts(1, measured.largest + (holding.bound or 0))
        taken = self._take(((allowed.rates, likely), (allowed.quotas, most)), now, at)
        holding.lines = rate_lines(self.counters, allowed.rates, now, at)
        if isinstance(taken, Refusal):
            return taken
        holding.admitted, holding.entered = taken, True
        return None

    # -- an attempt

    def blocked(self, x: Exchange, candidate: Candidate) -> GatewayError | None:
        """Why this target is to be skipped: it or a lenient budget has no room, or nobody knows its price.

        Raises `BudgetSpent` (or that some of it may come back) where a budget refuses.
        """
        if x.holding is None and not self._newest().limits:
            return None
        allowed, shared = self._applying(x, candidate)
        budgets = (*allowed.strict, *allowed.lenient)
        if not budgets and shared is NO_SHARE:
            return None
        if (budgets or shared.priced) and _price(candidate) is None:
            return _unknown_price(candidate)
        now, at = self.monotonic(), self.wall()
        likely, most = self._demand(x, candidate)
        if (spent := self.counters.look(allowed.strict, most, now, at)) is not None:
            raise refused(spent)
        full = self.counters.look(shared.rates, likely, now, at)
        full = full or self.counters.look((*allowed.lenient, *shared.accounts), most, now, at)
        return refused(full) if full is not None else None

    def reserve(self, x: Exchange, candidate: Candidate, at: float) -> None:
        """Take the most that an attempt beginning at `at` (UTC seconds) may cost, right before its opening record.

        Raises what the caller is told if there is no room any more.
        """
        if x.holding is None and not self._newest().limits:
            return
        allowed, shared = self._applying(x, candidate)
        accounts = (*allowed.strict, *allowed.lenient, *shared.accounts)
        if not accounts and not shared.rates:
            return
        likely, most = self._demand(x, candidate)
        self._bind(x, allowed, shared)
        taken = self._take(((shared.rates, likely), (accounts, most)), self.monotonic(), at)
        if isinstance(taken, Refusal):
            raise refused(taken)
        assert x.holding is not None
        x.holding.attempt = taken

    def close(self, x: Exchange, record: AttemptRecord | None) -> None:
        """The attempt is over: count what its record says, or nothing if it has none."""
        holding = x.holding
        if holding is None or not holding.attempt:
            return
        grants, holding.attempt = holding.attempt, []
        used = record.usage if record is not None else Usage()
        self._end(
            grants, Amounts(int(record is not None), used.input + used.output, (record.cost or 0) if record else 0)
        )

    def within(self, x: Exchange, usage: Usage | None) -> Usage | None:
        """The same, unless it is our own guess and above what was let through: a guess must not pass a budget."""
        bound = x.holding.bound if x.holding is not None else None
        if usage is None or bound is None or not usage.estimated or usage.output <= bound:
            return usage
        return Usage(usage.input, bound, usage.cached, usage.cache_write, min(usage.reasoning, bound), estimated=True)

    def standing(self, limit: Limit) -> Standing:
        """The limit's present state, for operators."""
        reading = self.counters.read(limit, self.monotonic(), self.wall())
        if limit.is_account:
            account = self.counters.accounts()[limit.id]
            return Standing(account.spent, account.reserved, account.free, reading.reset)
        return Standing(reading.limit - reading.remaining, 0, reading.remaining, reading.reset)

    # -- what applies

    def allowance(self, x: Exchange) -> Allowance:
        """The limits of the caller on its route, by the newest configuration."""
        caller, route = x.caller, x.route
        assert caller is not None
        assert route is not None
        snapshot = self._newest()
        key = (caller.organisation, caller.project, caller.key_id, route.model)
        found = self._allowances.get(key)
        if found is None:
            if len(self._allowances) >= _REMEMBERED:
                self._allowances.clear()
            found = self._allowances[key] = allowance(snapshot, caller, route)
        return found

    def share(self, upstream: Upstream, model: str) -> Share:
        """The limits of a target, by the newest configuration."""
        snapshot = self._newest()
        key = (upstream.organisation, upstream.name, model)
        found = self._shares.get(key)
        if found is None:
            if len(self._shares) >= _REMEMBERED:
                self._shares.clear()
            found = self._shares[key] = share(snapshot, *key)
        return found

    def _newest(self) -> Snapshot:
        snapshot = self._snapshots.current
        if snapshot is not self._of:
            self._of = snapshot
            self._allowances.clear()
            self._shares.clear()
        return snapshot

    def _applying(self, x: Exchange, candidate: Candidate) -> tuple[Allowance, Share]:
        return self.allowance(x), self.share(candidate.upstream, candidate.target.model)

    def _bind(self, x: Exchange, allowed: Allowance, shared: Share) -> None:
        """Bound an output that must be and is not yet."""
        holding = x.holding
        assert holding is not None
        if holding.bound is None and (allowed.bounds or shared.bounds):
            measured = self._measure(x)
            holding.bound = measured.output(allowed.output)
            if measured.declared is None:
                assert x.call is not None
                x.call = bounded(x.call, allowed.output)

    def _bounded_by_target(self, x: Exchange) -> bool:
        assert x.route is not None
        for target in x.route.targets:
            upstream = x.snapshot.upstreams.get(target.upstream)
            if upstream is not None and self.share(upstream, target.model).bounds:
                return True
        return False

    # -- amounts

    def _measure(self, x: Exchange) -> Size:
        holding = x.holding
        assert holding is not None
        if holding.size is None:
            assert x.call is not None
            holding.size = size(x.call, x.facts.tokens if x.facts is not None else None)
        return holding.size

    def _demand(self, x: Exchange, candidate: Candidate) -> tuple[Amounts, Amounts]:
        """What an attempt takes: likely, and at most."""
        if x.holding is None:
            x.holding = Holding()
            x.holding.entered = True
        measured = self._measure(x)
        output = x.holding.bound
        if output is None:
            output = measured.output(self.allowance(x).output)
        price = _price(candidate)
        cost = largest_cost(measured, output, price) if price is not None else 0
        declared = (measured.declared or 0) * measured.choices
        return Amounts(1, measured.estimate + declared), Amounts(1, measured.largest + output, cost)

    def _take(
        self, parts: tuple[tuple[tuple[Limit, ...], Amounts], ...], now: float, at: float
    ) -> list[Grant] | Refusal:
        """Take of all, or of none."""
        grants: list[Grant] = []
        worst: Refusal | None = None
        for limits, amounts in parts:
            if limits:
                taken = self.counters.take(limits, amounts, now, at)
                if isinstance(taken, Grant):
                    grants.append(taken)
                elif worst is None or taken.wait > worst.wait:
                    worst = taken
        if worst is None:
            return grants
        for grant in grants:
            self.counters.settle(grant, NOTHING, now)
        return worst

    def _end(self, grants: list[Grant], actual: Amounts) -> None:
        now = self.monotonic()
        for grant in grants:
            self.counters.settle(grant, actual, now)
        if self._waiting.rooms:
            for grant in grants:
                for held in grant.held:
                    if held.limit.measure is Measure.CONCURRENCY:
                        self._waiting.call_up(held.limit.id)


NOTHING: Final = Amounts(0, 0, 0)
MUST: Final = Share(bounds=True)


def took(x: Exchange) -> Amounts:
    """What a request that is over really took: nothing, if no target was asked and no kept answer given."""
    used = sum(attempt.usage.input + attempt.usage.output for attempt in x.attempts)
    account = x.account
    counts = bool(x.attempts) or (account is not None and account.cache in SERVED)
    return Amounts(int(counts), used)


def _price(candidate: Candidate) -> Price | None:
    return candidate.upstream.models.get(candidate.target.model)


def _unknown_price(candidate: Candidate) -> PriceUnknown:
    return PriceUnknown(
        "This call is under a budget, and the price of no target is known. The operator can set it: `price` of the "
        "model under `upstreams`.",
        detail=f"{candidate.upstream.name}/{candidate.target.model}",
        retry_after=60,
    )
