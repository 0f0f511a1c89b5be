"""Whom a call may be sent to, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Protocol

from intertie.core.errors import NoEligibleTarget, NoTarget
from intertie.core.routing.candidate import Candidate, TargetKey
from intertie.core.routing.health import HealthBook, Standing
from intertie.core.routing.room import Room
from intertie.core.routing.strategies import load
from intertie.core.terms import Call, Caller, Operation, Route, Snapshot, Upstream

__all__ = ["Candidate", "Conditions", "TargetKey", "plan"]

BARRED_WAIT: Final = 30.0
"""Retry-After when all targets drain or are quarantined: people decide how long that takes."""
INELIGIBLE_WAIT: Final = 60.0
_STRATEGIES: Final = load()


class Conditions(Protocol):
    """What planning needs besides the call; the data plane has all three."""

    @property
    def health(self) -> HealthBook:
        """What is known of the targets."""
        ...

    @property
    def rng(self) -> Random:
        """Where chance comes from."""
        ...

    def speaks(self, provider: str, operation: Operation) -> bool:
        """Can this provider's adapter do this operation?"""
        ...

    def room(self, upstream: Upstream, model: str) -> Room | None:
        """What a node can take of this model right now; `None` for an upstream that is not a node."""
        ...


def plan(
    call: Call, caller: Caller, route: Route, snapshot: Snapshot, conditions: Conditions, now: float
) -> tuple[Candidate, ...]:
    """The targets to ask, best first; never empty.

    Only what the caller may reach: own organisation, enabled, within the trust ceiling, however the rest is doing. Then
    health (S4, S5): at most half of these are ejected, and never all that still answer; ejected ones that stay are last
    and marked `degraded`. If nothing answers, one call per second gets one target as a probe. Targets which said that
    they do not serve the model are left out, unless all did: then one is asked, whose 404 is the client's.

    Raises `NoEligibleTarget` if no target is allowed, `NoTarget` with `retry_after` if none can be asked now.
    """
    eligible = _eligible(call, caller, route, snapshot, conditions)
    health = conditions.health
    if len(eligible) == 1 and health.standing(eligible[0].key, now) is Standing.READY:
        return (eligible[0],)
    usable: list[Candidate] = []
    out: dict[TargetKey, Candidate] = {}
    resting: dict[TargetKey, Candidate] = {}
    ready = False
    for candidate in eligible:
        key = candidate.key
        standing = health.standing(key, now)
        if standing is Standing.READY or standing is Standing.TRIAL:
            usable.append(candidate)
            ready = ready or standing is Standing.READY
        elif standing is Standing.OUT:
            out[key] = candidate
        elif standing is Standing.RESTING:
            resting[key] = candidate
    if ready:
        kept = health.spare(out, len(out) - (len(usable) + len(out)) // 2, now) if out else []
        order = _ordered(_paced(usable, health, now), call, route, conditions)
        return (*_ramped(order, conditions, now), *(_degraded(out[key]) for key in kept))
    if usable or out:
        return _last_resort(usable, out, call, route, conditions, now)
    if resting:
        return (_degraded(resting[health.rested(resting)]),)
    raise NoTarget("Every target of this model is being drained.", retry_after=BARRED_WAIT)


def _eligible(call: Call, caller: Caller, route: Route, snapshot: Snapshot, conditions: Conditions) -> list[Candidate]:
    """The targets this call may ever reach, in the route's order. Raises `NoEligibleTarget` if there is none."""
    eligible: list[Candidate] = []
    refusals: list[str] = []
    for target in route.targets:
        upstream = snapshot.upstreams.get(target.upstream)
        if upstream is None or not upstream.organisation == route.organisation == caller.organisation:
            refusals.append("unknown")
        elif not upstream.enabled:
            refusals.append("disabled")
        elif not upstream.trust.within(caller.trust):
            refusals.append(f"outside trust {caller.trust}")
        elif not conditions.speaks(upstream.provider, call.operation):
            refusals.append(f"without {call.operation}")
        else:
            eligible.append(Candidate(target, upstream))
    if not eligible:
        raise NoEligibleTarget(
            "No target of this model may answer this request.",
            detail=", ".join(f"{count} {why}" for why, count in Counter(refusals).items())
            or "the route has no targets",
            retry_after=INELIGIBLE_WAIT,
        )
    return eligible


def _last_resort(
    trial: Sequence[Candidate],
    out: Mapping[TargetKey, Candidate],
    call: Call,
    route: Route,
    conditions: Conditions,
    now: float,
) -> tuple[Candidate, ...]:
    """Nobody is in full use: those that still answer something serve, else one probe per second goes through."""
    health = conditions.health
    everybody = {candidate.key: candidate for candidate in trial} | dict(out)
    living = {key for key in everybody if health.alive(key, now)}
    if not living:
        probe = health.probe(everybody, now)
        if probe is None:
            raise NoTarget("No target of this model is healthy.", retry_after=health.earliest(everybody, now))
        return (_degraded(everybody[probe]),)
    worth = living.union(candidate.key for candidate in trial)
    ranked = health.spare(everybody, len(everybody), now)
    others = len(everybody) - len(everybody) // 2 - len(worth)
    first = _ordered([everybody[key] for key in everybody if key in worth], call, route, conditions)
    rest = [everybody[key] for key in ranked if key not in worth][: max(0, others)]
    return tuple(_degraded(candidate) for candidate in (*first, *rest))


def _ordered(candidates: Sequence[Candidate], call: Call, route: Route, conditions: Conditions) -> Sequence[Candidate]:
    if len(candidates) < 2:
        return candidates
    return _STRATEGIES[route.strategy].order(candidates, call, conditions.health, conditions.rng)


def _paced(ready: list[Candidate], health: HealthBook, now: float) -> list[Candidate]:
    """The same with the pace of slow targets filled in."""
    if len(ready) < 2:
        return ready
    paced = []
    for candidate in ready:
        # Only targets of the same model are comparable; another model may be slower by nature and wanted so.
        peers = (other.key for other in ready if other.target.model == candidate.target.model)
        pace = health.pace(candidate.key, peers, now)
        paced.append(candidate if pace == 1.0 else Candidate(candidate.target, candidate.upstream, pace=pace))
    return paced


def _ramped(order: Sequence[Candidate], conditions: Conditions, now: float) -> Sequence[Candidate]:
    """Move a target that just came back behind the others, except for its growing share of calls.

    Done here and not in the strategies, so that it holds for each of them and across tiers.
    """
    if len(order) < 2:
        return order
    stay: list[Candidate] = []
    back: list[Candidate] = []
    for candidate in order:
        share = conditions.health.share(candidate.key, now)
        (stay if share >= 1.0 or conditions.rng.random() < share else back).append(candidate)
    return [*stay, *back] if back else order


def _degraded(candidate: Candidate) -> Candidate:
    return Candidate(candidate.target, candidate.upstream, degraded=True, pace=candidate.pace)
