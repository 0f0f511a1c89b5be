"""Recorded traffic under rules that are not in force: who would have answered, for how much, how fast.

Works from metadata only: no content was ever recorded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Final, NamedTuple

import msgspec

from intertie.controlplane.control import Control
from intertie.core.ledger import State
from intertie.core.pricing import cost
from intertie.core.routing.reach import facts_of
from intertie.core.routing.replay import Past, Place, replay
from intertie.core.routing.rules import Rule, TargetFacts
from intertie.core.terms import Price, Snapshot, Upstream, Usage
from intertie.store import records

LIMIT: Final = 100_000
"""Requests replayed, the newest."""
_MOVES: Final = 100
_OUTPUTS: Final = 1000
_UNANSWERED: Final = frozenset((State.FAILED, State.INTERRUPTED))
"""How the last attempt of a call ended which elsewhere would have been answered whole."""


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
    run = _Run(organisation, snapshot, rules)
    with control.database.read() as connection:
        if any(wish.latency is not None for rule in rules for wish in (rule.require, rule.prefer, rule.forbid) if wish):
            run.measure(records.past(connection, organisation, since, until, limit=LIMIT))
        for past in records.past(connection, organisation, since, until, limit=LIMIT):
            run.add(past)
    return run.result()


class _Call(NamedTuple):
    """What is kept of a replayed call until all are known: many are replayed, so no plan and no fact."""

    id: str
    was: Place | None
    now: Place | None
    why: str
    cost_was: int | None
    spent: int | None
    """What it costs where it goes; also unknown as long as `usual` is to be priced."""
    usual: tuple[str, int, int | None] | None
    """(route, input tokens, most output) of a call that used nothing then and would use what is usual."""
    took: int | None


class _Run:
    def __init__(self, organisation: str, snapshot: Snapshot, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._snapshot = snapshot
        self._calls: list[_Call] = []
        self._upstreams = {
            one.name: one for one in snapshot.upstreams.values() if one.organisation == organisation
        }  # fmt: skip
        self._seen = snapshot.rules.get(organisation, ())
        self._took: dict[Place, list[int]] = defaultdict(list)
        self._outputs: dict[str, list[int]] = defaultdict(list)
        self._latency: dict[Place, float] = {}

    def measure(self, found: Iterable[Past]) -> None:
        """Learn how long targets took to their first output, for rules that ask it of calls of which none did then."""
        first: dict[Place, list[int]] = defaultdict(list)
        for past in found:
            for tried in past.attempts:
                if tried.state is State.OK and tried.ttft_ms is not None:
                    first[tried.place].append(tried.ttft_ms)
        self._latency = {place: median(values) / 1000 for place, values in first.items()}

    def add(self, past: Past) -> None:
        """Replay a call."""
        for tried in past.attempts:
            if tried.state is State.OK:
                self._took[tried.place].append(tried.duration_ms)
                if len(outputs := self._outputs[past.route]) < _OUTPUTS:
                    outputs.append(tried.usage.output)
        was, (now, why) = past.place, replay(past, self._rules, self._facts)
        usual = None
        spent = past.cost
        if was != now:
            spent, usual = self._cost(past, now)
        took = past.attempts[-1].duration_ms if past.attempts else None
        self._calls.append(_Call(past.request_id, was, now, why, past.cost, spent, usual, took))

    def result(self) -> Simulation:
        counts = {"unchanged": 0, "moved": 0, "refused": 0, "answered": 0}
        moves: dict[tuple[str, str, str], list[tuple[str, int | None, int | None]]] = defaultdict(list)
        was_sum = now_sum = unknown = 0
        was_times: list[float] = []
        now_times: list[float] = []
        medians = {place: median(values) for place, values in self._took.items()}
        for one in self._calls:
            kind = _kind(one.was, one.now)
            counts[kind] += 1
            after = self._priced(one)
            if one.cost_was is None or after is None:
                unknown += 1
            else:
                was_sum, now_sum = was_sum + one.cost_was, now_sum + after
            if kind != "unchanged":
                moves[_shown(one.was), _shown(one.now), one.why].append((one.id, one.cost_was, after))
            later = one.took if kind == "unchanged" else medians.get(one.now) if one.now is not None else None
            if one.took is not None and later is not None:
                was_times.append(one.took)
                now_times.append(later)
        return Simulation(
            requests=len(self._calls),
            **counts,
            cost_was=was_sum,
            cost_now=now_sum,
            unknown_cost=unknown,
            latency_was_ms=round(fmean(was_times), 1) if was_times else None,
            latency_now_ms=round(fmean(now_times), 1) if now_times else None,
            moves=tuple(sorted((_move(*group) for group in moves.items()), key=lambda one: -one.requests)[:_MOVES]),
            blind=self._blind(),
            complete=len(self._calls) < LIMIT,
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

    def _cost(self, past: Past, now: Place | None) -> tuple[int | None, tuple[str, int, int | None] | None]:
        """What it costs where it would go, as far as that is known yet, and what else is to be priced.

        Tokens as recorded, at today's price there; failed attempts before it cost what they did. One that nobody
        answered would have used what is usual on its route.
        """
        if now is None:
            return 0, None
        costs = [one.cost for one in past.attempts[:-1]]
        spent = None if None in costs else sum(one or 0 for one in costs)
        if not past.attempts or past.attempts[-1].state in _UNANSWERED:
            return spent, (past.route, past.facts.tokens, past.facts.output)
        priced = cost(past.attempts[-1].usage, self._price(now))
        return (None if spent is None or priced is None else spent + priced), None

    def _priced(self, one: _Call) -> int | None:
        if one.usual is None or one.spent is None or one.now is None:
            return one.spent
        route, tokens, most = one.usual
        outputs = self._outputs.get(route)
        output = round(median(outputs)) if outputs else most or 0
        usage = Usage(input=tokens, output=output if most is None else min(output, most), estimated=True)
        priced = cost(usage, self._price(one.now))
        return None if priced is None else one.spent + priced

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
