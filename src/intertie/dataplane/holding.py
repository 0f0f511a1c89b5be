"""What a request holds of limits, and which limits apply to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from intertie.core.policy.limits import AtCap, Level, Limit, Measure
from intertie.core.policy.meters import Grant, Meters
from intertie.core.policy.worst_case import DEFAULT_OUTPUT, WorstCase
from intertie.core.providers import Reader
from intertie.core.terms import Call, Caller, Route, Snapshot
from intertie.core.wire.output_cap import CappedReader
from intertie.dataplane.refusals import Shown, by_noun

Place = tuple[str, str, str]
"""A target as limits name it: organisation, name of the upstream, model."""


class Claim(NamedTuple):
    """What an attempt takes: of the budgets of the caller, and of the limits of one target."""

    meters: Meters
    priced: bool
    """Whether a budget is among them, so that the price must be known."""
    bounds: bool
    """Whether the target's limits want the output bounded."""


class Allowance(NamedTuple):
    """The limits of a caller on a route, sorted by when and how they are taken; `None` where there are none."""

    claims: dict[Place, Claim | None]
    """What was found out by `claim`, by target; the gate writes it."""
    entry: Meters | None = None
    """All but money, taken when the request is admitted: rates by estimate, quotas at most."""
    dated: bool = False
    """Whether quotas are among them, so that the request's moment decides in which window it counts."""
    budgets: tuple[Limit, ...] = ()
    """Money per window: taken for each attempt."""
    strict: Meters | None = None
    """Those budgets that refuse a call; the others let a cheaper target answer."""
    output: int = DEFAULT_OUTPUT
    """Output tokens of a call that must be bounded and does not say."""
    bounds: bool = False
    """Whether calls must be bounded."""
    queues: tuple[Limit, ...] = ()
    """Limits under which calls may wait for a turn."""
    shown: Shown = Shown()
    """The rates that headers tell of."""


NO_ALLOWANCE: Final = Allowance({})
"""Before it was looked up."""
MakeMeters = Callable[[list[Limit]], Meters | None]


class Holding(msgspec.Struct, eq=False):
    """What one request holds. Everything in it is settled once; `Gate` writes it."""

    of: Snapshot | None = None
    allowed: Allowance = NO_ALLOWANCE
    """The limits of its caller on its route, by the configuration `of`."""
    worst: WorstCase | None = None
    """The call's, once somebody asked."""
    at: float = 0.0
    """UTC seconds at which `claimed` was taken; the attempt begins then."""
    bound: int | None = None
    """Output tokens of all choices that are let through; `None`: as many as come."""
    asked: Call | None = None
    """The call as it came, if the bound had to be put into it."""
    admitted: Grant | None = None
    """Held until the request ends."""
    claimed: Grant | None = None
    """Taken for the next attempt; held by that until it ends."""
    entered: bool = True
    """Nothing is to be taken at admission any more; false while it waits for its turn."""
    lines: bytes = b""
    """Header lines about rates, true when the request was admitted or refused."""

    def __repr__(self) -> str:
        return f"<Holding {self.admitted}, for the next attempt {self.claimed}>"

    def capped(self, reader: Reader, call: Call) -> Reader:
        """The reader of an answer that ends where `bound` does."""
        assert self.bound is not None
        assert self.worst is not None
        return CappedReader(reader, call, self.bound, self.worst.choices)


def allowance(
    snapshot: Snapshot,
    caller: Caller,
    route: Route,
    meters: MakeMeters,
    targets: dict[Place, Claim | None],
    *,
    shadow: bool = False,
) -> Allowance:
    """All limits that are known before a target is. Of a copy for a shadow target, no limit of the caller.

    `targets` has the claims of all allowances without budgets, which have them in common.
    """
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
    budgets = tuple(limit for limit in found if _is_budget(limit))
    entry = meters([limit for limit in found if not _is_budget(limit)])
    return Allowance(
        entry=entry,
        dated=entry is not None and bool(entry.sums),
        budgets=budgets,
        strict=meters([limit for limit in budgets if limit.at_cap is AtCap.REFUSE]),
        output=snapshot.max_output.get((organisation, caller.project), DEFAULT_OUTPUT),
        bounds=_bounds(found),
        queues=tuple(limit for limit in found if limit.wait > 0),
        shown=by_noun(entry),
        claims={} if budgets else targets,
    )


def limits_of(snapshot: Snapshot, target: Place) -> tuple[Limit, ...]:
    """All limits of one target."""
    organisation, upstream, model = target
    held = snapshot.limits.get((organisation, Level.UPSTREAM, upstream), ())
    return (*held, *snapshot.limits.get((organisation, Level.MODEL, model), ()))


def claim(allowed: Allowance, target: Sequence[Limit], meters: MakeMeters) -> Claim | None:
    """What an attempt takes under this allowance at a target with these limits. `None` if nothing."""
    made = meters([*allowed.budgets, *target])
    if made is None:
        return None
    return Claim(made, priced=any(map(_is_budget, (*allowed.budgets, *target))), bounds=_bounds(target))


def _is_budget(limit: Limit) -> bool:
    return limit.is_account and limit.measure is Measure.MONEY


def _bounds(limits: Sequence[Limit]) -> bool:
    """Whether these limits cannot be kept without knowing how long an output may become."""
    return any(limit.is_account and limit.measure is not Measure.REQUESTS for limit in limits)
