"""Which targets a call may reach at all: what no state of health and no failover can change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from intertie.core.errors import NoEligibleTarget
from intertie.core.ledger import Considered
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import row
from intertie.core.routing.rules import Rule, TargetFacts, judge
from intertie.core.routing.traffic import Traffic
from intertie.core.terms import Call, Caller, Operation, Route, Snapshot, Trust, Upstream

INELIGIBLE_WAIT: Final = 60.0
"""Retry-After when nothing is allowed: people decide when that changes."""
_NAMED: Final = 3
"""Rules that an error names, at most."""
_REMEMBERED: Final = 1024
"""Kinds of calls of which is kept what they reach."""
_ALONE: Final = "the only target"
_NONE: Final[frozenset[str]] = frozenset()


class Reach(NamedTuple):
    """Whom a call may reach."""

    allowed: tuple[Candidate, ...]
    ruled: tuple[Candidate, ...]
    """Those that rules alone forbid it."""
    refused: tuple[Refused, ...]
    """The others."""
    lone: Considered | None = None
    """Of a route with a single target: how that is written down when it is asked."""


class Refused(NamedTuple):
    """A target that is out of reach whatever rules say."""

    upstream: str
    """Its name, or its id if that is none of the caller's business."""
    model: str
    why: str


class Conditions(Protocol):
    """What reach depends on besides configuration."""

    @property
    def traffic(self) -> Traffic:
        """What was learned from calls, for ceilings of latency."""
        ...

    def speaks(self, provider: str, operation: Operation) -> bool:
        """Can this provider's adapter do this operation?"""
        ...


class Reaches:
    """What calls of each kind may reach, remembered while the configuration stays. Event loop only."""

    __slots__ = ("_found", "_of")

    def __init__(self) -> None:
        self._of: Snapshot | None = None
        self._found: dict[tuple[str, str, Operation, Trust, int], _Found] = {}

    def __repr__(self) -> str:
        return f"<Reaches {len(self._found)}>"

    def of(
        self,
        call: Call,
        caller: Caller,
        route: Route,
        snapshot: Snapshot,
        conditions: Conditions,
        rules: Sequence[Rule],
        now: float,
    ) -> Reach:
        """The same as `reachable`. Rules that ask how fast targets are have another answer every moment."""
        if self._of is not snapshot:
            self._of = snapshot
            self._found.clear()
        place = caller.organisation, route.model
        kind = (*place, call.operation, caller.trust, id(rules))
        known = self._found.get(kind)
        if known is not None and known.rules is rules and known.route is route:
            return known.reach
        found = reachable(call, caller, route, snapshot, conditions, rules, now)
        if snapshot.routes.get(place) is route and not any(rule.asks_latency for rule in rules):
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[kind] = _Found(route, rules, found)
        return found


class _Found(NamedTuple):
    route: Route
    rules: Sequence[Rule]
    reach: Reach


def reachable(
    call: Call,
    caller: Caller,
    route: Route,
    snapshot: Snapshot,
    conditions: Conditions,
    rules: Sequence[Rule],
    now: float,
) -> Reach:
    """The targets this call may ever reach under these rules, in the route's order; and whom it may not, and why."""
    allowed: list[Candidate] = []
    ruled: list[Candidate] = []
    refused: list[Refused] = []
    for position, target in enumerate(route.targets):
        upstream = snapshot.upstreams.get(target.upstream)
        if upstream is None or not upstream.organisation == route.organisation == caller.organisation:
            why = "unknown"
        elif not upstream.enabled:
            why = "disabled"
        elif not upstream.trust.within(caller.trust):
            why = f"outside trust {caller.trust}"
        elif not conditions.speaks(upstream.provider, call.operation):
            why = f"without {call.operation}"
        else:
            one = Candidate(target, upstream, position=position, why=_ALONE if len(route.targets) == 1 else "")
            if rules:
                one, fits = _ruled(one, rules, snapshot, conditions, now)
                (allowed if fits else ruled).append(one)
            else:
                allowed.append(one)
            continue
        own = upstream is not None and upstream.organisation == caller.organisation
        refused.append(Refused(upstream.name if own and upstream is not None else target.upstream, target.model, why))
    lone = row(allowed[0], 0, allowed=True) if allowed and len(route.targets) == 1 else None
    return Reach(tuple(allowed), tuple(ruled), tuple(refused), lone)


def facts_of(upstream: Upstream, model: str, snapshot: Snapshot, latency: float | None) -> TargetFacts:
    """What rules may ask about a target."""
    node = snapshot.nodes.get((upstream.organisation, upstream.name))
    return TargetFacts(
        upstream=upstream.name,
        trust=upstream.trust,
        region=upstream.region,
        labels=node.labels if node is not None and node.id == upstream.id else _NONE,
        price=upstream.models.get(model),
        latency=latency,
    )


def _ruled(
    one: Candidate, rules: Sequence[Rule], snapshot: Snapshot, conditions: Conditions, now: float
) -> tuple[Candidate, bool]:
    """The candidate with what rules say of it, and whether they allow it."""
    timed = any(rule.asks_latency for rule in rules)
    latency = conditions.traffic.first_output(one.key, now) if timed else None
    verdict = judge(rules, facts_of(one.upstream, one.target.model, snapshot, latency))
    told = (latency or 0.0) if timed else None
    made = replace(one, preferred=verdict.preferred, rule=verdict.why, latency=told)
    return made, verdict.allowed


def nothing(reach: Reach) -> NoEligibleTarget:
    """Nobody is allowed. Rules are named to the caller: else nobody could tell what to change."""
    by_rule = list(dict.fromkeys(one.rule for one in reach.ruled))
    counted = [*(one.why for one in reach.refused), *by_rule]
    named = "; ".join(by_rule[:_NAMED])
    told = f" {named[:1].upper()}{named[1:]}." if named else ""
    return NoEligibleTarget(
        f"No target of this model may answer this request.{told}",
        detail=", ".join(f"{count} {why}" for why, count in Counter(counted).items()) or "the route has no targets",
        retry_after=INELIGIBLE_WAIT,
    )
