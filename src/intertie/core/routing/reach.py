"""Which targets a call may reach at all: what no state of health and no failover can change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from intertie.core.errors import NoEligibleTarget
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import Docket
from intertie.core.routing.rules import Rule, TargetFacts, judge
from intertie.core.routing.traffic import Traffic
from intertie.core.terms import Call, Caller, Operation, Route, Snapshot, Target, Upstream

INELIGIBLE_WAIT: Final = 60.0
"""Retry-After when nothing is allowed: people decide when that changes."""
_NAMED: Final = 3
"""Rules that an error names, at most."""
_NONE: Final[frozenset[str]] = frozenset()


class Reach(NamedTuple):
    """Whom a call may reach."""

    allowed: list[Candidate]
    ruled: list[Candidate]
    """Those that rules alone forbid it."""
    refusals: list[str]
    """Why not the others."""


class Conditions(Protocol):
    """What reach depends on besides configuration."""

    @property
    def traffic(self) -> Traffic:
        """What was learned from calls, for ceilings of latency."""
        ...

    def speaks(self, provider: str, operation: Operation) -> bool:
        """Can this provider's adapter do this operation?"""
        ...


def reachable(
    call: Call,
    caller: Caller,
    route: Route,
    snapshot: Snapshot,
    conditions: Conditions,
    docket: Docket | None,
    now: float,
) -> Reach:
    """The targets this call may ever reach, in the route's order; and whom it may not, and why."""
    allowed: list[Candidate] = []
    ruled: list[Candidate] = []
    refusals: list[str] = []
    rules = docket.rules if docket is not None else ()
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
            one = Candidate(target, upstream, position=position)
            if rules:
                one, fits = _ruled(one, rules, snapshot, conditions, now)
                (allowed if fits else ruled).append(one)
            else:
                allowed.append(one)
            continue
        refusals.append(why)
        if docket is not None and docket.noting:
            _write_down(docket, upstream, target, caller, why)
    return Reach(allowed, ruled, refusals)


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
    latency = conditions.traffic.first_output(one.key, now)
    verdict = judge(rules, facts_of(one.upstream, one.target.model, snapshot, latency))
    made = Candidate(
        target=one.target,
        upstream=one.upstream,
        position=one.position,
        preferred=verdict.preferred,
        rule=verdict.why,
        latency=latency,
    )
    return made, verdict.allowed


def _write_down(docket: Docket, upstream: Upstream | None, target: Target, caller: Caller, why: str) -> None:
    """Names of other organisations' upstreams are nobody's business here."""
    own = upstream is not None and upstream.organisation == caller.organisation
    docket.unknown(upstream.name if own and upstream is not None else target.upstream, target.model, why)


def nothing(reach: Reach) -> NoEligibleTarget:
    """Nobody is allowed. Rules are named to the caller: else nobody could tell what to change."""
    by_rule = list(dict.fromkeys(one.rule for one in reach.ruled))
    counted = [*reach.refusals, *by_rule]
    named = "; ".join(by_rule[:_NAMED])
    told = f" {named[:1].upper()}{named[1:]}." if named else ""
    return NoEligibleTarget(
        f"No target of this model may answer this request.{told}",
        detail=", ".join(f"{count} {why}" for why, count in Counter(counted).items()) or "the route has no targets",
        retry_after=INELIGIBLE_WAIT,
    )
