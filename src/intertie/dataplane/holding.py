"""What a request holds of limits, and which limits apply to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from intertie.core.policy.limits import AtCap, Level, Limit, Measure
from intertie.core.policy.meters import Grant, Meters
from intertie.core.policy.worst_case import DEFAULT_OUTPUT, Size
from intertie.core.providers import Reader
from intertie.core.terms import Call, Caller, Route, Snapshot
from intertie.core.wire.output_cap import CappedReader
from intertie.dataplane.refusals import Shown, by_noun


class Allowance(NamedTuple):
    """The limits of a caller on a route, sorted by when and how they are taken; `None` where there are none."""

    rates: Meters | None = None
    """Per minute, and calls at a time: taken by estimate when the request is admitted."""
    quotas: Meters | None = None
    """Requests and tokens per window: the most that is possible is taken when the request is admitted."""
    budgets: Meters | None = None
    """Money per window: taken for each attempt."""
    strict: Meters | None = None
    """Those budgets that refuse a call; the others let a cheaper target answer."""
    output: int = DEFAULT_OUTPUT
    """Output tokens of a call that must be bounded and does not say."""
    bounds: bool = False
    """Whether calls must be bounded."""
    queues: tuple[Limit, ...] = ()
    """Limits under which calls may wait for a turn."""
    shown: Shown = ()
    """The rates that headers tell of."""
    idle: bool = True
    """Nothing of it is taken at admission."""


class Share(NamedTuple):
    """The limits of a target: of its upstream, and of its model wherever it is served."""

    rates: Meters | None
    accounts: Meters | None
    priced: bool
    """Whether a budget is among them."""
    bounds: bool


NO_ALLOWANCE: Final = Allowance()
MakeMeters = Callable[[list[Limit]], Meters | None]


class Holding:
    """What one request holds. Everything in it is settled once; `Gate` writes it."""

    __slots__ = ("admitted", "allowed", "asked", "at", "bound", "claimed", "entered", "lines", "of", "size")

    def __init__(self) -> None:
        self.allowed = NO_ALLOWANCE
        """The limits of its caller on its route, by the configuration `of`."""
        self.of: Snapshot | None = None
        self.at = 0.0
        """UTC seconds at which `claimed` was taken; the attempt begins then."""
        self.size: Size | None = None
        self.bound: int | None = None
        """Output tokens of all choices that are let through; `None`: as many as come."""
        self.asked: Call | None = None
        """The call as it came, if the bound had to be put into it."""
        self.admitted: list[Grant] = []
        """Held until the request ends."""
        self.claimed: list[Grant] = []
        """Taken for the next attempt; held by that until it ends."""
        self.entered = False
        """Nothing is to be taken at admission any more; false while it waits for its turn."""
        self.lines = b""
        """Header lines about rates, true when the request was admitted or refused."""

    def __repr__(self) -> str:
        return f"<Holding {len(self.admitted)} grants, {len(self.claimed)} for the next attempt>"

    def capped(self, reader: Reader, call: Call) -> Reader:
        """The reader of an answer that ends where `bound` does."""
        assert self.bound is not None
        return CappedReader(reader, call, self.bound, self.size.choices if self.size is not None else 1)


def allowance(
    snapshot: Snapshot, caller: Caller, route: Route, meters: MakeMeters, *, shadow: bool = False
) -> Allowance:
    """All limits that are known before a target is. Of a copy for a shadow target, no limit of the caller."""
    organisation = caller.organisation
    holders = (
        (Level.ORGANISATION, organisation),
        (Level.PROJECT, caller.project),
        (Level.MEMBER, caller.member),
        (Level.KEY, caller.key_id),
        (Level.ROUTE, route.model),
    )
    found = [
        limit
        for level, holder in holders
        if not (shadow and level.of_caller)
        for limit in snapshot.limits.get((organisation, level, holder), ())
    ]
    budgets = [limit for limit in found if limit.is_account and limit.measure is Measure.MONEY]
    rates = meters([limit for limit in found if not limit.is_account])
    return Allowance(
        rates=rates,
        quotas=meters([limit for limit in found if limit.is_account and limit.measure is not Measure.MONEY]),
        budgets=meters(budgets),
        strict=meters([limit for limit in budgets if limit.at_cap is AtCap.REFUSE]),
        output=snapshot.max_output.get((organisation, caller.project), DEFAULT_OUTPUT),
        bounds=any(limit.is_account and limit.measure is not Measure.REQUESTS for limit in found),
        queues=tuple(limit for limit in found if limit.wait > 0),
        shown=by_noun(rates),
        idle=len(budgets) == len(found),
    )


def share(snapshot: Snapshot, target: tuple[str, str, str], meters: MakeMeters) -> Share | None:
    """All limits of one target: organisation, name of the upstream, model. `None` if there are none."""
    organisation, upstream, model = target
    held = snapshot.limits.get((organisation, Level.UPSTREAM, upstream), ())
    found: tuple[Limit, ...] = (*held, *snapshot.limits.get((organisation, Level.MODEL, model), ()))
    if not found:
        return None
    accounts = [limit for limit in found if limit.is_account]
    return Share(
        rates=meters([limit for limit in found if not limit.is_account]),
        accounts=meters(accounts),
        priced=any(limit.measure is Measure.MONEY for limit in accounts),
        bounds=any(limit.measure is not Measure.REQUESTS for limit in accounts),
    )
