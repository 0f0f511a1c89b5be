"""Whom a call may be sent to, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Protocol

from msgspec.structs import replace

from intertie.core.errors import NoEligibleTarget, NoTarget
from intertie.core.routing.candidate import Candidate, TargetKey
from intertie.core.routing.health import HealthBook, Standing
from intertie.core.routing.room import OFFLINE, Room
from intertie.core.routing.sharing import shared
from intertie.core.routing.strategies import load
from intertie.core.terms import Call, Caller, Operation, Route, Snapshot, Upstream

__all__ = ["Candidate", "Conditions", "TargetKey", "plan"]

BARRED_WAIT: Final = 30.0
"""Retry-After when all targets drain or are quarantined: people decide how long that takes."""
INELIGIBLE_WAIT: Final = 60.0
AWAY_WAIT: Final = 15.0
"""Retry-After when every node is away: a link is dialled again within seconds, an owner at work takes longer."""
_NAMED: Final = 3
"""Nodes that an error names, at most."""
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

    In this order, so that nothing later can bring back what something earlier left out:

    1. *Reach*: own organisation, enabled, within the trust ceiling, however the rest is doing.
    2. *Openness*: nodes that take no work now (link down, drained, paused, their owner back) are left out.
    3. *Health* (S4, S5): at most half of the rest are ejected, and never all that still answer; ejected ones that stay
       are marked `degraded`. If nothing answers, one call per second gets one target as a probe. Targets which said
       that they do not serve the model are left out, unless all did: then one is asked, whose 404 is the client's.
    4. *Strategy*: the operator's order; a lower tier always comes before a higher one. Targets that just came back go
       to the end, except for their growing share of calls.
    5. *Sharing*: nodes of one tier with the same model and weight share the places which the strategy gave them, warm
       ones first, then by spare speed with a bit of chance (see `sharing`). Other targets keep their place.
    6. *Room*: nodes without a free slot go behind every target that has room, across tiers, so work overflows to the
       next tier; they are still asked (and wait briefly for a slot) when nothing else is left.
    7. *Degraded* targets come last.

    Raises `NoEligibleTarget` if no target is allowed, `NoTarget` with `retry_after` if none can be asked now.
    """
    eligible, away = _open(_eligible(call, caller, route, snapshot, conditions), conditions)
    if not eligible:
        raise _nobody("", away, AWAY_WAIT)
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
        return (*_full_last(_ramped(order, conditions, now)), *(_degraded(out[key]) for key in kept))
    if usable or out:
        found = _last_resort(usable, out, call, route, conditions, now)
        if not found:
            everybody = [*out, *(candidate.key for candidate in usable)]
            raise _nobody("No target of this model is healthy.", away, health.earliest(everybody, now))
        return found
    if resting:
        return (_degraded(resting[health.rested(resting)]),)
    raise _nobody("Every target of this model is being drained.", away, BARRED_WAIT)


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


def _open(eligible: list[Candidate], conditions: Conditions) -> tuple[list[Candidate], list[Candidate]]:
    """Those that take work now, nodes among them with their room; and the nodes that do not."""
    found: list[Candidate] = []
    away: list[Candidate] = []
    for candidate in eligible:
        room = conditions.room(candidate.upstream, candidate.target.model)
        if room is None:
            found.append(candidate)
        else:
            (found if room.open else away).append(replace(candidate, room=room))
    return found, away


def _nobody(why: str, away: Sequence[Candidate], wait: float) -> NoTarget:
    """Nobody can be asked now: `why`, and what the nodes that are away are doing."""
    told = [why] if why else []
    if away:
        told.append(_absence(away))
    reasons = (f"{one.upstream.name}: {one.room.reason}" for one in away if one.room is not None)
    return NoTarget(" ".join(told), detail=", ".join(reasons), retry_after=min(wait, AWAY_WAIT) if away else wait)


def _absence(away: Sequence[Candidate]) -> str:
    """What the caller is told: which machines, all of its own organisation, and not what their owners are doing."""
    names = list(dict.fromkeys(one.upstream.name for one in away))
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    offline = all(one.room is not None and one.room.reason.startswith(OFFLINE) for one in away)
    state = "offline" if offline else "not taking work at the moment"
    return f"The node {shown} is {state}." if len(names) == 1 else f"The nodes {shown} are {state}."


def _last_resort(
    trial: Sequence[Candidate],
    out: Mapping[TargetKey, Candidate],
    call: Call,
    route: Route,
    conditions: Conditions,
    now: float,
) -> tuple[Candidate, ...]:
    """Nobody is in full use: those that still answer something serve, else one probe per second goes through.

    Empty if this is not the call that probes.
    """
    health = conditions.health
    everybody = {candidate.key: candidate for candidate in trial} | dict(out)
    living = {key for key in everybody if health.alive(key, now)}
    if not living:
        probe = health.probe(everybody, now)
        return () if probe is None else (_degraded(everybody[probe]),)
    worth = living.union(candidate.key for candidate in trial)
    ranked = health.spare(everybody, len(everybody), now)
    others = len(everybody) - len(everybody) // 2 - len(worth)
    first = _ordered([everybody[key] for key in everybody if key in worth], call, route, conditions)
    rest = [everybody[key] for key in ranked if key not in worth][: max(0, others)]
    return tuple(_degraded(candidate) for candidate in (*_full_last(first), *_full_last(rest)))


def _ordered(candidates: Sequence[Candidate], call: Call, route: Route, conditions: Conditions) -> Sequence[Candidate]:
    """By the operator's strategy, and equal nodes shared among themselves."""
    if len(candidates) < 2:
        return candidates
    order = _STRATEGIES[route.strategy].order(candidates, call, conditions.health, conditions.rng)
    return shared(order, conditions.rng)


def _full_last(order: Sequence[Candidate]) -> Sequence[Candidate]:
    """Nodes without a free slot behind everything that has room; else in the same order."""
    full = [candidate for candidate in order if candidate.room is not None and candidate.room.full]
    if not full or len(full) == len(order):
        return order
    return [*(candidate for candidate in order if candidate.room is None or not candidate.room.full), *full]


def _paced(ready: list[Candidate], health: HealthBook, now: float) -> list[Candidate]:
    """The same with the pace of slow targets filled in."""
    if len(ready) < 2:
        return ready
    paced = []
    for candidate in ready:
        # Only targets of the same model are comparable; another model may be slower by nature and wanted so.
        peers = (other.key for other in ready if other.target.model == candidate.target.model)
        pace = health.pace(candidate.key, peers, now)
        paced.append(candidate if pace == 1.0 else replace(candidate, pace=pace))
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
    return replace(candidate, degraded=True)
