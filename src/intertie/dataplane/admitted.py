"""Limits, quotas and budgets on the path of a request: what is taken before it runs and settled after it.

Nothing here waits between looking at a limit and taking from it, so the event loop makes it atomic. Which limits apply
is read from the newest configuration, not from the one a request began with: a limit that was lowered is in force.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

from intertie.core.errors import GatewayError, PriceUnknown
from intertie.core.ledger import AttemptRecord, Settlement, State
from intertie.core.policy.account import Account
from intertie.core.policy.answers import GIVEN
from intertie.core.policy.calendar import Calendar
from intertie.core.policy.counters import Counters
from intertie.core.policy.limits import NOTHING, Amounts, Level, Limit
from intertie.core.policy.meters import Grant, Meters, Refusal
from intertie.core.policy.worst_case import WorstCase, bounded, largest_cost, worst_case
from intertie.core.routing.candidate import Candidate
from intertie.core.terms import Snapshot, Upstream, Usage
from intertie.dataplane.exchange import Attempt, Exchange
from intertie.dataplane.holding import Allowance, Claim, Holding, allowance, claim, limits_of
from intertie.dataplane.ports import SnapshotSource
from intertie.dataplane.refusals import rate_lines, refused
from intertie.dataplane.threshold import Threshold
from intertie.dataplane.waiting import WaitingRoom

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
        self.calendar = Calendar(lambda: self.wall())  # noqa: PLW0108 (the clock may be replaced later)
        self.counters = Counters(self.calendar.spent, self._tell)
        """Accounts are adopted before their limit is in force, so the books need not be asked on the way."""
        self.settled: list[Settlement] | None = None
        """Accounts of requests that ended while new limits are being adopted; `None` else."""
        self.told: Told = lambda _alert: None
        """Called when an account reaches a threshold. Must not wait."""
        self.monotonic = monotonic
        self.wall = wall
        self._log = log
        self._snapshots = snapshots
        self._of = snapshots.current
        self._targeted = _targeted(self._of)
        """Organisations with limits on upstreams or models."""
        self._allowances: dict[tuple[str, str, str, str, str], Allowance] = {}
        self._unbudgeted = Allowance({})
        """Of whoever has no budget: all these have their claims in common."""
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
        allowed = self.allowance(x, snapshot)
        must = allowed.bounds or self._bounded_by_target(x)
        if allowed.entry is None and not must and not allowed.budgets:
            return None
        holding = x.holding = Holding(snapshot, allowed)
        worst = _measured(x, holding)
        if must:
            _bind(x, holding, allowed, worst)
        if (entry := allowed.entry) is None:
            return None
        busy = self._waiting.busy(allowed.queues) if self._waiting.rooms else None
        refusal = self._take(x, holding, allowed, entry) if busy is None else Refusal(busy, 1.0)
        if refusal is None:
            return None
        if refusal.limit.wait > 0 and not x.shadow_of:
            holding.entered = False
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
        if holding.claimed is not None:
            self.give_back(x)
        if (grant := holding.admitted) is not None:
            holding.admitted = None
            self._end(grant, took(x), self.monotonic())

    def recall(self) -> None:
        """Another configuration is in force: whoever waits under a limit that was raised or removed enters."""
        for limit_id in tuple(self._waiting.rooms):
            self._waiting.call_up(limit_id)

    def _enter(self, x: Exchange) -> Refusal | None:
        """The turn of one that waited has come."""
        holding = x.holding
        assert holding is not None
        allowed = self._allowed(x, holding)
        refusal = None if allowed.entry is None else self._take(x, holding, allowed, allowed.entry)
        holding.entered = refusal is None
        return refusal

    def _take(self, x: Exchange, holding: Holding, allowed: Allowance, entry: Meters) -> Refusal | None:
        """Take for `x`, now. What refuses longest is named, and then nothing was taken."""
        worst = holding.worst
        assert worst is not None
        now, at = self.monotonic(), x.started_at
        if allowed.dated:
            at = x.started_at = self.calendar.tick(at)
        amounts = 1, worst.likely, 0, worst.largest + (holding.bound or 0)
        holding.admitted = entry.take(amounts, now, at)
        holding.lines = rate_lines(allowed.shown, now)
        return None if holding.admitted is not None else entry.refusal(amounts, now, at)

    # -- an attempt

    def claim(self, x: Exchange, candidate: Candidate, now: float) -> GatewayError | None:
        """Take the most that an attempt may cost, or say why this target is to be skipped. `now` is monotonic.

        It is, if it or a lenient budget has no room, or nobody knows its price. Raises `BudgetSpent` (or that some of
        it may come back) where a budget refuses.
        """
        holding = x.holding
        if holding is None:
            if not self._newest().limits:
                return None
            holding = self.begin(x)
        elif holding.claimed is not None:
            self.give_back(x)  # claimed before, and not asked after all
        allowed, upstream, model = self._allowed(x, holding), candidate.upstream, candidate.target.model
        if (wanted := self._wanted(allowed, upstream, model)) is None:
            return None
        price = upstream.models.get(model)
        if price is None and wanted.priced:
            return _unknown_price(candidate)
        worst = holding.worst or _measured(x, holding)
        if holding.bound is None and (allowed.bounds or wanted.bounds):
            _bind(x, holding, allowed, worst)
        output = holding.bound or 0
        cost = largest_cost(worst, output, price) if price is not None else 0
        most = 1, worst.likely, cost, worst.largest + output
        at = self.calendar.tick(self.wall())
        grant = wanted.meters.take(most, now, at)
        if grant is not None:
            holding.claimed = grant
            holding.at = at
            return None
        if allowed.strict is not None and (spent := allowed.strict.refusal(most, now, at)) is not None:
            raise refused(spent)
        full = wanted.meters.refusal(most, now, at)
        assert full is not None
        return refused(full)

    def reserve(self, x: Exchange, attempt: Attempt) -> float:
        """Hand what `claim` took to the attempt, or take it now if it was given back. When it begins (UTC seconds).

        Raises what the caller is told if there is no room any more.
        """
        taken = x.holding is not None and x.holding.claimed is not None
        if not taken and (full := self.claim(x, attempt.candidate, self.monotonic())) is not None:
            raise full
        holding = x.holding
        if holding is None or holding.claimed is None:
            return self.calendar.tick(self.wall())
        attempt.held, holding.claimed = holding.claimed, None
        return holding.at

    def give_back(self, x: Exchange) -> None:
        """The attempt for which something was claimed does not begin now."""
        if x.holding is not None and (grant := x.holding.claimed) is not None:
            x.holding.claimed = None
            self._end(grant, NOTHING, self.monotonic())

    def close(self, attempt: Attempt, record: AttemptRecord, now: float) -> None:
        """The attempt is over: count what its record says; one that was beaten costs its caller nothing.

        `now` is monotonic seconds.
        """
        if (grant := attempt.held) is None:
            return
        attempt.held = None
        used = record.usage.input + record.usage.output
        actual = 1, used, record.cost or 0, used
        self._end(grant, actual, now, NOTHING if record.state is State.BEATEN else None)

    def within(self, x: Exchange, usage: Usage | None) -> Usage | None:
        """The same, unless it is our own guess and above what was let through: a guess must not pass a budget."""
        bound = x.holding.bound if x.holding is not None else None
        if usage is None or bound is None or not usage.estimated or usage.output <= bound:
            return usage
        return Usage(usage.input, bound, usage.cached, usage.cache_write, min(usage.reasoning, bound), estimated=True)

    def standing(self, limit: Limit) -> Standing:
        """The limit's present state, for operators."""
        reading = self.counters.read(limit, self.monotonic(), self.calendar.tick())
        if limit.is_account:
            account = self.counters.accounts()[limit.id]
            return Standing(account.spent, account.reserved, account.free, reading.reset)
        return Standing(reading.limit - reading.remaining, 0, reading.remaining, reading.reset)

    # -- what applies

    def allowance(self, x: Exchange, snapshot: Snapshot) -> Allowance:
        """The limits of the caller on its route, by the newest configuration; of a copy, the organisation's alone."""
        caller, route = x.caller, x.route
        assert caller is not None
        assert route is not None
        key = (caller.organisation, caller.project, caller.member, "" if x.shadow_of else caller.key_id, route.model)
        found = self._allowances.get(key)
        if found is None:
            if len(self._allowances) >= _REMEMBERED:
                self._allowances.clear()
            made = allowance(snapshot, caller, route, self._meters, self._unbudgeted.claims, shadow=bool(x.shadow_of))
            found = self._allowances[key] = made
        return found

    def _wanted(self, allowed: Allowance, upstream: Upstream, model: str) -> Claim | None:
        """What an attempt under this allowance takes there, by the newest configuration."""
        if not allowed.budgets and upstream.organisation not in self._targeted:
            return None
        place, known = (upstream.organisation, upstream.name, model), allowed.claims
        if place in known:
            return known[place]
        if len(known) >= _REMEMBERED:
            known.clear()
        found = known[place] = claim(allowed, limits_of(self._of, place), self._meters)
        return found

    def _newest(self) -> Snapshot:
        snapshot = self._snapshots.current
        if snapshot is not self._of:
            self._of = snapshot
            self._targeted = _targeted(snapshot)
            self._allowances.clear()
            self._unbudgeted.claims.clear()
        return snapshot

    def _allowed(self, x: Exchange, holding: Holding) -> Allowance:
        """The same, remembered as long as the configuration stays."""
        if holding.of is not self._snapshots.current:
            snapshot = self._newest()
            holding.of, holding.allowed = snapshot, self.allowance(x, snapshot)
        return holding.allowed

    def begin(self, x: Exchange) -> Holding:
        """The exchange holds something from now on; one that is past admission takes nothing there any more."""
        holding = x.holding = Holding()
        return holding

    def _bounded_by_target(self, x: Exchange) -> bool:
        assert x.route is not None
        if x.route.organisation not in self._targeted:
            return False
        for target in x.route.targets:
            upstream = x.snapshot.upstreams.get(target.upstream)
            if upstream is not None:
                wanted = self._wanted(self._unbudgeted, upstream, target.model)
                if wanted is not None and wanted.bounds:
                    return True
        return False

    # -- amounts

    def _end(self, grant: Grant, actual: Amounts, now: float, callers: Amounts | None = None) -> None:
        """`callers`, if given, is what limits of the caller count instead."""
        if callers is None:
            grant.meters.settle(grant, actual, now)
        else:
            grant.meters.settle_apart(grant, actual, callers, now)
        if self._waiting.rooms:
            for places in grant.meters.places:
                self._waiting.call_up(places.limit.id)

    def _meters(self, limits: list[Limit]) -> Meters | None:
        return self.counters.meters(limits, self.monotonic(), self.calendar.tick()) if limits else None


_OF_TARGETS: Final = frozenset(str(level) for level in Level if level.of_target)


def _measured(x: Exchange, holding: Holding) -> WorstCase:
    """The most that the call may use. Raises `BadCall` if that cannot be known."""
    if holding.worst is None:
        assert x.call is not None
        assert x.size is not None
        holding.worst = worst_case(x.call, x.size)
    return holding.worst


def _bind(x: Exchange, holding: Holding, allowed: Allowance, worst: WorstCase) -> None:
    """Bound an output that must be and is not yet."""
    holding.bound = worst.output(allowed.output)
    if worst.declared is None:
        assert x.call is not None
        holding.asked = x.call
        x.call = bounded(x.call, allowed.output)


def took(x: Exchange) -> Amounts:
    """What a request that is over really took: nothing, if no target was asked and no kept answer given."""
    used = 0
    for one in x.attempts:
        if one.state is not State.BEATEN:
            used += one.usage.input + one.usage.output
    counts = x.attempts or (x.account is not None and x.account.cache in GIVEN)
    return 1 if counts else 0, used, 0, used


def _targeted(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(place[0] for place in snapshot.limits if place[1] in _OF_TARGETS)


def _unknown_price(candidate: Candidate) -> PriceUnknown:
    return PriceUnknown(
        "This call is under a budget, and the price of no target is known. The operator can set it: `price` of the "
        "model under `upstreams`.",
        detail=f"{candidate.upstream.name}/{candidate.target.model}",
        retry_after=60,
    )
