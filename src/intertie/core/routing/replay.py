"""Recorded calls under other rules: where each would have gone, with everything but the rules as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from intertie.core.ledger import CallFacts, Considered, State
from intertie.core.routing.rules import Rule, TargetFacts, applying, applying_to_either, judge
from intertie.core.terms import Usage

Place = tuple[str, str]
"""(upstream's name, model)."""

_STAGE: Final = 8
"""Setbacks from here on are those of a fallback's targets."""
_DEGRADED: Final = 4


class Tried(msgspec.Struct, frozen=True):
    """One attempt as the books have it."""

    upstream: str
    model: str
    state: State
    usage: Usage
    cost: int | None
    duration_ms: int
    ttft_ms: int | None = None

    @property
    def place(self) -> Place:
        """Where it went."""
        return self.upstream, self.model


class Past(msgspec.Struct, frozen=True):
    """One request as the books have it. Without a plan it had one target and no rules."""

    request_id: str
    route: str
    facts: CallFacts
    plan: tuple[Considered, ...]
    attempts: tuple[Tried, ...]
    cost: int | None = 0

    @property
    def place(self) -> Place | None:
        """Who answered it, or was the last to try; `None` if nobody was asked."""
        return None if self.answer is None else self.answer.place

    @property
    def answer(self) -> Tried | None:
        """The attempt that answered it, whole or not, or else the last one."""
        counting = self.counting
        last = counting[-1] if counting else None
        return next((tried for tried in reversed(counting) if tried.state is not State.FAILED), last)

    @property
    def counting(self) -> list[Tried]:
        """The attempts that the request is the sum of: without those that another was faster than."""
        return [tried for tried in self.attempts if tried.state is not State.BEATEN]


class Replayed(NamedTuple):
    """Where a call would have gone, and why there."""

    place: Place | None
    why: str


FactsOf = Callable[[Place, float | None], TargetFacts | None]
"""(target, its latency at the time, if a rule had asked for it) -> what rules may ask; `None` for one that is gone."""


def replay(past: Past, rules: Sequence[Rule], facts_of: FactsOf) -> Replayed:
    """Where it would have gone.

    Taken as given is what was so at that time: who could not be asked for health, room or reach; the strategy's order;
    and that the targets which were to be asked before the one that answered did not answer. Under the rules that were
    in force this yields the very placement that is recorded.
    """
    found = {"": applying(rules, past.facts)}
    passed = _passed_over(past)
    best: tuple[tuple[int, int, int, float], Place, str] | None = None
    refusal, shut, own = "", "", False
    for one in _askable(past):
        place = one.upstream, one.model
        facts = facts_of(place, one.latency)
        if facts is None:
            continue
        if one.via not in found:
            found[one.via] = applying_to_either(rules, past.facts, one.via)
        verdict = judge(found[one.via], facts)
        if one.setback < _STAGE:
            own, shut = own or verdict.allowed, shut or verdict.why
        if not verdict.allowed and place not in passed:
            refusal = verdict.why if place == past.place else refusal or verdict.why
        if not verdict.allowed or place in passed:
            continue
        turn = _turn(one, verdict.preferred)
        if best is None or turn < best[0]:
            best = turn, place, verdict.why
    if not own:  # a fallback is for what a target of the route itself has rejected
        return Replayed(None, refusal or shut)
    if best is None:
        return Replayed(None, refusal)
    return Replayed(best[1], best[2] or (refusal if best[1] != past.place else ""))


def _askable(past: Past) -> list[Considered]:
    """Whoever could have been asked, had the rules been others."""
    found = [one for one in past.plan if one.base is not None]
    listed = {(one.upstream, one.model) for one in found}
    for tried in past.attempts:
        if tried.place not in listed:  # a plan of one target, or one too long to be written down whole
            listed.add(tried.place)
            found.append(Considered(tried.upstream, tried.model, base=1000.0 + len(found)))
    return found


def _passed_over(past: Past) -> set[Place]:
    """Whoever was to be asked before the one that answered: it failed, had no credential or no room under a limit."""
    order = [(one.upstream, one.model) for one in past.plan if one.allowed]
    answered = past.place
    if answered is None:
        return set(order)
    before = order[: order.index(answered)] if answered in order else order
    return {*before, *(tried.place for tried in past.counting)} - {answered}


def _turn(one: Considered, preferred: int) -> tuple[int, int, int, float]:
    """The order in which `plan` asks: those in trouble last and as they were, else by setback, preference and base."""
    stage, setback = divmod(one.setback, _STAGE)
    base = one.base or 0.0
    return (stage, _DEGRADED, 0, base) if setback & _DEGRADED else (stage, setback, -preferred, base)
