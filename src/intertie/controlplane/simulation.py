"""Recorded traffic under rules that are not in force: who would have answered, for how much, how fast.

Works from metadata only: no content was ever recorded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import Final

import msgspec

from intertie.controlplane.control import Control
from intertie.core.pricing import cost
from intertie.core.routing.reach import facts_of
from intertie.core.routing.replay import Past, Place, replay
from intertie.core.routing.rules import Rule, TargetFacts
from intertie.core.terms import Price, Snapshot, State, Upstream, Usage
from intertie.store import records

LIMIT: Final = 100_000
"""Requests replayed, the newest."""
_MOVES: Final = 100
_OUTPUTS: Final = 1000


class Move(msgspec.Struct, frozen=True):
    """Calls whose placement changes alike. `was` and `now` are `upstream/model`; empty: nobody."""

    was: str
    now: str
    why: str
    requests: int
    cost_was: int
    cost_now: int
    """Micro-units, of the calls whose costs are known."""
    example: str
    """Id of one of the requests."""


class Simulation(msgspec.Struct, frozen=True):
    """What a draft would have done."""

    requests: int
    """Replayed; the counts below add up to it."""
    unchanged: int
    moved: int
    refused: int
    """Answered, and under the draft nobody may."""
    answered: int
    """Refused, and under the draft somebody would have been asked."""
    cost_was: int
    cost_now: int
    """Micro-units, over the calls whose costs are known both ways."""
    unknown_cost: int
    """Calls whose cost is not known one way or the other."""
    latency_was_ms: float | None
    latency_now_ms: float | None
    """Mean time to a whole answer; of a target that a call moves to, its median in this traffic."""
    moves: tuple[Move, ...]
    blind: tuple[str, ...]
    """What the draft asks for and the records cannot tell."""
    complete: bool
    """False if there was more traffic than is replayed: the newest was."""


def simulate(
    control: Control,
    organisation: str,
    snapshot: Snapshot,
    rules: Sequence[Rule],
    since: float | None = None,
    until: float | None = None,
) -> Simulation:
    """Replay the requests of a span (UTC seconds). Flush the loader first. Blocking, and longer than most."""
    with control.database.read() as connection:
        found = list(records.past(connection, organisation, since, until, limit=LIMIT))
    return _Run(organisation, snapshot, rules, found).result()


class _Run:
    def __init__(self, organisation: str, snapshot: Snapshot, rules: Sequence[Rule], found: list[Past]) -> None:
        self._rules = rules
        self._snapshot = snapshot
        self._found = found
        self._upstreams = {
            one.name: one for one in snapshot.upstreams.values() if one.organisation == organisation
        }  # fmt: skip
        self._seen = snapshot.rules.get(organisation, ())
        self._took: dict[Place, list[int]] = defaultdict(list)
        self._first: dict[Place, list[int]] = defaultdict(list)
        self._usages: dict[str, list[Usage]] = defaultdict(list)
        for past in found:
            for tried in past.attempts:
                if tried.state is State.OK:
                    self._took[tried.place].append(tried.duration_ms)
                    self._usages[past.route].append(tried.usage)
                    if tried.ttft_ms is not None:
                        self._first[tried.place].append(tried.ttft_ms)
        self._median = {place: median(values) for place, values in self._took.items()}
        self._latency = {place: median(values) / 1000 for place, values in self._first.items()}

    def result(self) -> Simulation:
        counts = {"unchanged": 0, "moved": 0, "refused": 0, "answered": 0}
        moves: dict[tuple[str, str, str], list[tuple[str, int | None, int | None]]] = defaultdict(list)
        was_sum = now_sum = unknown = 0
        was_times: list[float] = []
        now_times: list[float] = []
        for past in self._found:
            was = past.place
            now, why = replay(past, self._rules, self._facts)
            kind = _kind(was, now)
            counts[kind] += 1
            after = past.cost if kind == "unchanged" else self._cost(past, now)
            if past.cost is None or after is None:
                unknown += 1
            else:
                was_sum, now_sum = was_sum + past.cost, now_sum + after
            if kind != "unchanged":
                moves[_shown(was), _shown(now), why].append((past.request_id, past.cost, after))
            took = past.answer.duration_ms if past.answer is not None else None
            later = took if kind == "unchanged" else self._median.get(now) if now is not None else None
            if took is not None and later is not None:
                was_times.append(took)
                now_times.append(later)
        return Simulation(
            requests=len(self._found),
            **counts,
            cost_was=was_sum,
            cost_now=now_sum,
            unknown_cost=unknown,
            latency_was_ms=round(fmean(was_times), 1) if was_times else None,
            latency_now_ms=round(fmean(now_times), 1) if now_times else None,
            moves=tuple(sorted((_move(*group) for group in moves.items()), key=lambda one: -one.requests)[:_MOVES]),
            blind=self._blind(),
            complete=len(self._found) < LIMIT,
        )

    def _facts(self, place: Place, latency: float | None) -> TargetFacts | None:
        upstream = self._upstreams.get(place[0])
        if upstream is None:
            return None
        known = latency if latency is not None else self._latency.get(place)
        return facts_of(upstream, place[1], self._snapshot, known)

    def _price(self, place: Place) -> Price | None:
        upstream: Upstream | None = self._upstreams.get(place[0])
        return upstream.models.get(place[1]) if upstream is not None else None

    def _cost(self, past: Past, now: Place | None) -> int | None:
        """Tokens as recorded at the price of where it would go; failed attempts beside it cost what they did."""
        if now is None:
            return 0
        last = past.answer
        if last is None:
            return cost(self._usual(past), self._price(now))
        spent = cost(last.usage, self._price(now))
        sums = [one.cost for one in past.counting if one is not last]
        if spent is None or None in sums:
            return None
        return spent + sum(value for value in sums if value is not None)

    def _usual(self, past: Past) -> Usage:
        """What a call that nobody answered would have used: its own input, and the route's usual output."""
        usages = self._usages.get(past.route, ())[:_OUTPUTS]
        if not usages:
            return Usage(input=past.facts.tokens, output=past.facts.output or 0, estimated=True)
        usual = round(median(one.output for one in usages))
        bounded = usual if past.facts.output is None else min(usual, past.facts.output)
        return Usage(input=past.facts.tokens, output=bounded, estimated=True)

    def _blind(self) -> tuple[str, ...]:
        """Only what rules asked for at the time was read from calls."""
        asked = [{name for rule in self._seen for name in names(rule)} for names in (_headers, _contents)]
        wanted = [{name for rule in self._rules for name in names(rule)} for names in (_headers, _contents)]
        return tuple(
            f"{kind} {name}: recorded from when rules ask for it; until then this draft's rule matches nothing"
            for kind, have, want in zip(("header", "content"), asked, wanted, strict=True)
            for name in sorted(want - have)
        )


def _headers(rule: Rule) -> Sequence[str]:
    return tuple(rule.when.header)


def _contents(rule: Rule) -> Sequence[str]:
    return rule.when.content


def _kind(was: Place | None, now: Place | None) -> str:
    if was == now:
        return "unchanged"
    return "answered" if was is None else "refused" if now is None else "moved"


def _shown(place: Place | None) -> str:
    return "" if place is None else f"{place[0]}/{place[1]}"


def _move(key: tuple[str, str, str], calls: Sequence[tuple[str, int | None, int | None]]) -> Move:
    known = [(was, now) for _, was, now in calls if was is not None and now is not None]
    return Move(
        was=key[0],
        now=key[1],
        why=key[2],
        requests=len(calls),
        cost_was=sum(was for was, _ in known),
        cost_now=sum(now for _, now in known),
        example=calls[0][0],
    )
