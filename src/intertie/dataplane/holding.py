"""What a request holds of limits, and which limits apply to it."""

from __future__ import annotations

from typing import Final, NamedTuple

from intertie.core.policy.counters import Grant
from intertie.core.policy.limits import AtCap, Level, Limit, Measure
from intertie.core.policy.worst_case import DEFAULT_OUTPUT, Size
from intertie.core.providers import Reader
from intertie.core.terms import Call, Caller, Route, Snapshot
from intertie.core.wire.output_cap import CappedReader
from intertie.dataplane.refusals import by_noun


class Allowance(NamedTuple):
    """The limits of a caller on a route, sorted by when and how they are taken."""

    rates: tuple[Limit, ...] = ()
    """Per minute, and calls at a time: taken by estimate when the request is admitted."""
    quotas: tuple[Limit, ...] = ()
    """Requests and tokens per window: the most that is possible is taken when the request is admitted."""
    strict: tuple[Limit, ...] = ()
    """Budgets that refuse: taken for each attempt."""
    lenient: tuple[Limit, ...] = ()
    """Budgets that let a cheaper target answer: taken for each attempt."""
    output: int = DEFAULT_OUTPUT
    """Output tokens of a call that must be bounded and does not say."""
    bounds: bool = False
    """Whether calls must be bounded."""
    queues: tuple[Limit, ...] = ()
    """Limits under which calls may wait for a turn."""
    budgets: tuple[Limit, ...] = ()
    """Both kinds."""
    shown: tuple[tuple[bytes, tuple[Limit, ...]], ...] = ()
    """The rates that headers tell of; see `refusals.by_noun`."""
    idle: bool = True
    """Nothing of it is taken at admission."""


class Share(NamedTuple):
    """The limits of a target: of its upstream, and of its model wherever it is served."""

    rates: tuple[Limit, ...] = ()
    accounts: tuple[Limit, ...] = ()
    priced: bool = False
    """Whether a budget is among them."""
    bounds: bool = False


NO_SHARE: Final = Share()
NO_ALLOWANCE: Final = Allowance()


class Holding:
    """What one request holds. Everything in it is settled once; `Gate` writes it."""

    __slots__ = ("admitted", "allowed", "asked", "at", "attempt", "bound", "entered", "lines", "of", "size")

    def __init__(self) -> None:
        self.allowed = NO_ALLOWANCE
        """The limits of its caller on its route, by the configuration `of`."""
        self.of: Snapshot | None = None
        self.at = 0.0
        """UTC seconds at which `attempt` was taken; the attempt begins then."""
        self.size: Size | None = None
        self.bound: int | None = None
        """Output tokens of all choices that are let through; `None`: as many as come."""
        self.asked: Call | None = None
        """The call as it came, if the bound had to be put into it."""
        self.admitted: list[Grant] = []
        """Held until the request ends."""
        self.attempt: list[Grant] = []
        """Held until the attempt ends."""
        self.entered = False
        """Nothing is to be taken at admission any more; false while it waits for its turn."""
        self.lines = b""
        """Header lines about rates, true when the request was admitted or refused."""

    def __repr__(self) -> str:
        return f"<Holding {len(self.admitted)} grants, {len(self.attempt)} of an attempt>"

    def capped(self, reader: Reader, call: Call) -> Reader:
        """The reader of an answer that ends where `bound` does."""
        assert self.bound is not None
        return CappedReader(reader, call, self.bound, self.size.choices if self.size is not None else 1)


def allowance(snapshot: Snapshot, caller: Caller, route: Route) -> Allowance:
    """All limits that are known before a target is."""
    organisation = caller.organisation
    found = [
        limit
        for level, holder in (
            (Level.ORGANISATION, organisation),
            (Level.PROJECT, caller.project),
            (Level.KEY, caller.key_id),
            (Level.ROUTE, route.model),
        )
        for limit in snapshot.limits.get((organisation, level, holder), ())
    ]
    found_rates = tuple(limit for limit in found if not limit.is_account)
    sums = [limit for limit in found if limit.is_account]
    budgets = [limit for limit in sums if limit.measure is Measure.MONEY]
    return Allowance(
        rates=found_rates,
        quotas=tuple(limit for limit in sums if limit.measure is not Measure.MONEY),
        strict=tuple(limit for limit in budgets if limit.at_cap is AtCap.REFUSE),
        lenient=tuple(limit for limit in budgets if limit.at_cap is AtCap.CHEAPER),
        output=snapshot.max_output.get((organisation, caller.project), DEFAULT_OUTPUT),
        bounds=any(limit.measure is not Measure.REQUESTS for limit in sums),
        queues=tuple(limit for limit in found if limit.wait > 0),
        budgets=tuple(budgets),
        shown=by_noun(found_rates),
        idle=not found or len(budgets) == len(found),
    )


def share(snapshot: Snapshot, organisation: str, upstream: str, model: str) -> Share:
    """All limits of one target; `upstream` is its name."""
    held = snapshot.limits.get((organisation, Level.UPSTREAM, upstream), ())
    found: tuple[Limit, ...] = (*held, *snapshot.limits.get((organisation, Level.MODEL, model), ()))
    if not found:
        return NO_SHARE
    accounts = tuple(limit for limit in found if limit.is_account)
    return Share(
        rates=tuple(limit for limit in found if not limit.is_account),
        accounts=accounts,
        priced=any(limit.measure is Measure.MONEY for limit in accounts),
        bounds=any(limit.measure is not Measure.REQUESTS for limit in accounts),
    )
