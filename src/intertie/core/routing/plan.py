"""Whom a call may be sent to, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Final, Protocol

from msgspec.structs import replace

from intertie.core.errors import NoTarget
from intertie.core.routing import sticky
from intertie.core.routing.candidate import Candidate, TargetKey
from intertie.core.routing.docket import Docket
from intertie.core.routing.health import HealthBook, Standing
from intertie.core.routing.known import Known
from intertie.core.routing.reach import Reaches, nothing
from intertie.core.routing.resolve import ANY
from intertie.core.routing.room import OFFLINE, Room
from intertie.core.routing.sharing import shared
from intertie.core.routing.strategies import load
from intertie.core.routing.traffic import Traffic
from intertie.core.terms import Call, Caller, Operation, Route, Snapshot, StrategyName, Upstream

__all__ = ["Candidate", "Conditions", "TargetKey", "plan"]

PAUSED_WAIT: Final = 30.0
"""Retry-After when all targets are paused: people decide how long that takes."""
AWAY_WAIT: Final = 15.0
"""Retry-After when every node is away: a link is dialled again within seconds, an owner at work takes longer."""
_NAMED: Final = 3
"""Nodes that an error names, at most."""
_BACK, _FULL, _DEGRADED = 1, 2, 4
"""`Considered.setback`."""
_PAUSED: Final = Room(open=False, reason="paused by an operator")
"""In place of a capacity, which no upstream but a node tells."""
_STRATEGIES: Final = load()


class Conditions(Protocol):
    """What planning needs besides the call; the data plane has it all."""

    @property
    def reaches(self) -> Reaches:
        """What calls may reach, as far as that was found out before."""
        ...

    @property
    def health(self) -> HealthBook:
        """What is known of the targets."""
        ...

    @property
    def traffic(self) -> Traffic:
        """What was learned from calls."""
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
    call: Call,
    caller: Caller,
    route: Route,
    snapshot: Snapshot,
    conditions: Conditions,
    now: float,
    docket: Docket | None = None,
) -> tuple[Candidate, ...]:
    """The targets to ask, best first; never empty.

    In this order, so that nothing later can bring back what something earlier left out:

    1. *Reach*: own organisation, enabled, within the trust ceiling, and what rules require and do not forbid, however
       the rest is doing.
    2. *Openness*: nodes that take no work now (link down, drained, paused, their owner back) are left out, and so is
       what an operator paused.
    3. *Health* (S4, S5): at most half of the rest are ejected, and never all that still answer; ejected ones that stay
       are marked `degraded`. If nothing answers, one call per second gets one target as a probe. Targets which said
       that they do not serve the model are left out, unless all did: then one is asked, whose 404 is the client's.
    4. *Strategy*: the operator's order; a lower tier always comes before a higher one.
    5. *Sharing*: nodes of one tier with the same model and weight share the places which the strategy gave them, warm
       ones first, then by spare speed with a bit of chance (see `sharing`), if the strategy leaves that open. Other
       targets keep their place.
    6. *Conversation*: on a sticky route, who has it comes first in its tier (see `sticky`).
    7. *Preferences* of rules, across tiers: what meets more of them, or earlier ones, comes first.
    8. *Return*: targets that just came back go to the end, except for their growing share of calls.
    9. *Room*: nodes without a free slot go behind every target that has room, across tiers, so work overflows to the
       next tier; they are still asked (and wait briefly for a slot) when nothing else is left.
    10. *Degraded* targets come last.

    `docket` brings the rules and takes down what became of each target, also if nothing is left.
    Raises `NoEligibleTarget` if no target is allowed, `NoTarget` with `retry_after` if none can be asked now.
    """
    rules = docket.rules if docket is not None else ()
    reach = conditions.reaches.of(call, caller, route, snapshot, conditions, rules, now)
    if docket is not None:
        for out in reach.refused:
            docket.unknown(*out)
    if reach.lone is not None and _at_hand(reach.allowed[0], conditions, now):
        if docket is not None:
            docket.lone(reach.lone)
        return reach.allowed
    planner = _Planner(call, route, conditions, now, docket)
    order: Sequence[Candidate] = ()
    base: Sequence[Candidate] = ()
    try:
        if not reach.allowed:
            raise nothing(reach)
        order, base = planner.decided(reach.allowed)
    finally:
        if docket is not None and docket.noting:
            docket.place(order, base)
            planner.note_ruled(reach.ruled, base)
    return tuple(order)


def _at_hand(one: Candidate, conditions: Conditions, now: float) -> bool:
    """It is no node, in full use and not paused: most calls are for a route with one such target."""
    upstream, model = one.upstream, one.target.model
    if upstream.paused or conditions.room(upstream, model) is not None:
        return False
    return conditions.health.standing((upstream.id, model), now) is Standing.READY


class _Planner:
    """One plan in the making."""

    def __init__(self, call: Call, route: Route, conditions: Conditions, now: float, docket: Docket | None) -> None:
        self._call = call
        self._route = route
        self._conditions = conditions
        self._now = now
        self._docket = docket

    def decided(self, eligible: Sequence[Candidate]) -> tuple[Sequence[Candidate], Sequence[Candidate]]:
        """The order in which to ask, and the order before rules' preferences and setbacks. Raises `NoTarget`."""
        eligible, away = _open(eligible, self._conditions)
        for one in away:
            self._out(one, one.room.reason if one.room is not None else "")
        if not eligible:
            raise _nobody("", away, PAUSED_WAIT)
        health, now = self._conditions.health, self._now
        if len(eligible) == 1 and health.standing(eligible[0].key, now) is Standing.READY:
            only = self._ordered(eligible)
            return _full_last(only), only
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
            else:
                resting[key] = candidate
        if ready:
            self._all_out(resting.values())
            kept = health.spare(out, len(out) - (len(usable) + len(out)) // 2, now) if out else []
            self._all_out(candidate for key, candidate in out.items() if key not in kept)
            base = self._ordered(_paced(usable, health, now))
            order = _full_last(self._ramped(_preferred(base)))
            return (*order, *(_degraded(out[key]) for key in kept)), base
        if usable or out:
            self._all_out(resting.values())
            found = self._last_resort(usable, out)
            if not found:
                everybody = [*out, *(candidate.key for candidate in usable)]
                raise _nobody("No target of this model is healthy.", away, health.earliest(everybody, now))
            return found, found
        asked = _degraded(resting.pop(health.rested(resting)))
        self._all_out(resting.values())
        return (asked,), (asked,)

    def note_ruled(self, ruled: Sequence[Candidate], base: Sequence[Candidate]) -> None:
        """Write down those that rules alone keep out, with the place they would have, for whoever changes the rules."""
        if not ruled or self._docket is None:
            return
        found, away = _open(ruled, self._conditions)
        health = self._conditions.health
        asked = [one for one in found if health.standing(one.key, self._now) is Standing.READY]
        for one in (*away, *(one for one in found if one not in asked)):
            self._docket.out(one, one.rule)
        known = self._known(exploring=False)
        scored = _STRATEGIES[self._route.strategy].order(asked, self._call, known, self._conditions.rng)
        told = [replace(one, why="", setback=_FULL if _is_full(one) else 0) for one in scored]
        self._docket.ruled_out(told, base)

    def _known(self, *, exploring: bool) -> Known:
        docket, conditions = self._docket, self._conditions
        if docket is None:
            return Known(conditions.health, conditions.traffic, self._now)
        facts, route = docket.facts, (self._route.organisation, self._route.model)
        return Known(
            health=conditions.health,
            traffic=conditions.traffic,
            now=self._now,
            tokens=facts.tokens,
            output=conditions.traffic.expected_output(route, facts.output),
            held=docket.held,
            exploring=exploring and docket.exploring,
        )

    def _ordered(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """By the operator's strategy, equal nodes shared among themselves, and a conversation where it was."""
        docket, conditions = self._docket, self._conditions
        if len(candidates) < 2 and (docket is None or not docket.noting or len(self._route.targets) == 1):
            return candidates
        strategy = _STRATEGIES[self._route.strategy]
        order = strategy.order(candidates, self._call, self._known(exploring=True), conditions.rng)
        if len(order) < 2:
            return order
        if strategy.shares:
            order = shared(order, conditions.rng)
        if not self._route.sticky or docket is None or strategy.name is StrategyName.CHEAPEST:
            return order  # the cheapest strategy weighs the discount that a known conversation gets
        if docket.held is not None:
            return sticky.kept(order, docket.held.key, conditions.traffic)
        if docket.conversation is not None and strategy.name is StrategyName.WEIGHTED:
            return sticky.kept(order, sticky.chosen(order, docket.conversation), conditions.traffic)
        return order

    def _last_resort(self, trial: Sequence[Candidate], out: Mapping[TargetKey, Candidate]) -> tuple[Candidate, ...]:
        """Nobody is in full use: those that still answer something serve, else one probe per second goes through.

        Empty if this is not the call that probes.
        """
        health, now = self._conditions.health, self._now
        everybody = {candidate.key: candidate for candidate in trial} | dict(out)
        living = {key for key in everybody if health.alive(key, now)}
        if not living:
            probe = health.probe(everybody, now)
            self._all_out(candidate for key, candidate in everybody.items() if key != probe)
            return () if probe is None else (_degraded(everybody[probe]),)
        worth = living.union(candidate.key for candidate in trial)
        ranked = health.spare(everybody, len(everybody), now)
        others = len(everybody) - len(everybody) // 2 - len(worth)
        first = _preferred(self._ordered([everybody[key] for key in everybody if key in worth]))
        rest = [everybody[key] for key in ranked if key not in worth]
        self._all_out(rest[max(0, others) :])
        found = (*_full_last(first), *_full_last(rest[: max(0, others)]))
        return tuple(_degraded(candidate) for candidate in found)

    def _ramped(self, order: Sequence[Candidate]) -> Sequence[Candidate]:
        """Move a target that just came back behind the others, except for its growing share of calls.

        Done here and not in the strategies, so that it holds for each of them and across tiers.
        """
        if len(order) < 2:
            return order
        stay: list[Candidate] = []
        back: list[Candidate] = []
        for candidate in order:
            share = self._conditions.health.share(candidate.key, self._now)
            if share >= 1.0 or self._conditions.rng.random() < share:
                stay.append(candidate)
            else:
                back.append(_set_back(candidate, _BACK, "just came back"))
        return [*stay, *back] if back else order

    def _out(self, one: Candidate, why: str) -> None:
        if self._docket is not None:
            self._docket.out(one, why)

    def _all_out(self, ones: Iterable[Candidate]) -> None:
        """These are not asked because of their health."""
        if self._docket is not None and self._docket.noting:
            for one in ones:
                self._docket.out(one, self._conditions.health.reason(one.key))


def _open(eligible: Sequence[Candidate], conditions: Conditions) -> tuple[list[Candidate], list[Candidate]]:
    """Those that take work now, nodes among them with their room; and those that do not."""
    found: list[Candidate] = []
    away: list[Candidate] = []
    for candidate in eligible:
        upstream, model = candidate.upstream, candidate.target.model
        if upstream.paused and not upstream.paused.isdisjoint((ANY, model)):
            away.append(replace(candidate, room=_PAUSED))
            continue
        room = conditions.room(upstream, model)
        if room is None:
            found.append(candidate)
        else:
            (found if room.open else away).append(replace(candidate, room=room))
    return found, away


def _nobody(why: str, away: Sequence[Candidate], wait: float) -> NoTarget:
    """Nobody can be asked now: `why`, and what is with those that take no work."""
    told = [why] if why else []
    nodes = [one for one in away if one.room is not _PAUSED]
    if nodes:
        told.append(_absence(nodes))
    if len(nodes) < len(away):
        told.append(f"Every {'other ' if told else ''}target of this model is paused.")
    reasons = (f"{one.upstream.name}: {one.room.reason}" for one in away if one.room is not None)
    return NoTarget(" ".join(told), detail=", ".join(reasons), retry_after=min(wait, AWAY_WAIT) if nodes else wait)


def _absence(away: Sequence[Candidate]) -> str:
    """What the caller is told: which machines, all of its own organisation, and not what their owners are doing."""
    names = list(dict.fromkeys(one.upstream.name for one in away))
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    offline = all(one.room is not None and one.room.reason.startswith(OFFLINE) for one in away)
    state = "offline" if offline else "not taking work at the moment"
    return f"The node {shown} is {state}." if len(names) == 1 else f"The nodes {shown} are {state}."


def _full_last(order: Sequence[Candidate]) -> Sequence[Candidate]:
    """Nodes without a free slot behind everything that has room; else in the same order."""
    full = [candidate for candidate in order if _is_full(candidate)]
    if not full:
        return order
    return [
        *(candidate for candidate in order if not _is_full(candidate)),
        *(_set_back(candidate, _FULL, "has no free slot") for candidate in full),
    ]


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


def _preferred(order: Sequence[Candidate]) -> Sequence[Candidate]:
    """What rules prefer in front; else in the same order."""
    if all(one.preferred == order[0].preferred for one in order):
        return order
    return sorted(order, key=lambda one: -one.preferred)


def _is_full(one: Candidate) -> bool:
    return one.room is not None and one.room.full


def _set_back(one: Candidate, setback: int, why: str) -> Candidate:
    return replace(one, setback=one.setback | setback, why=f"{why}; {one.why}" if one.why else why)


def _degraded(candidate: Candidate) -> Candidate:
    return replace(_set_back(candidate, _DEGRADED, "in trouble, and nothing better is left"), degraded=True)
