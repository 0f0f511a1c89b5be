"""What histories begin from and change: limits, callers, prices, moments; and sums of books, worked out plainly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from intertie.core.ledger import AttemptRecord, Opening, Settlement, State
from intertie.core.policy.limits import AtCap, Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per, Window, window
from intertie.core.routing.candidate import Candidate
from intertie.core.terms import Call, Caller, Operation, Price, Snapshot, Target, Upstream
from intertie.core.wire.envelope import peek
from intertie.dataplane.admitted import Gate
from intertie.dataplane.adoption import Opened, adopt
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.threshold import Threshold

ORGANISATIONS: Final = ("one", "two")
CALLERS: Final = tuple(
    Caller(organisation, project, key, key, member=member)
    for organisation in ORGANISATIONS
    for project, key, member in (("p", "k1", "ann"), ("p", "k2", ""), ("q", "k3", "ann"))
)
_PRICES: Final = (
    ("dear", "m", Price(1_000_000, 3_000_000, cached_input=500_000, cache_write=1_250_000)),
    ("cheap", "m", Price(333_333, 700_001)),
    ("own", "w", Price(0, 0)),
    ("mystery", "m", None),
)
CANDIDATES: Final = {
    organisation: tuple(
        Candidate(
            Target(f"{organisation}-{name}", model),
            Upstream(f"{organisation}-{name}", organisation, name, "openai_compatible", "", models={model: price}),
        )
        for name, model, price in _PRICES
    )
    for organisation in ORGANISATIONS
}
_HOLDERS: Final = (
    (Level.PROJECT, "p"),
    (Level.PROJECT, "p"),
    (Level.PROJECT, "q"),
    (Level.MEMBER, "ann"),
    (Level.KEY, "k1"),
    (Level.KEY, "k2"),
    (Level.ROUTE, "r1"),
    (Level.MODEL, "m"),
    (Level.UPSTREAM, "dear"),
    (Level.UPSTREAM, "cheap"),
)
_ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
_PERIODS: Final = (None, Per.MINUTE, Per.HOUR, Per.HOUR, Per.DAY, Per.DAY, Per.WEEK, Per.MONTH, Per.TOTAL)
_STARTS: Final = (
    1_743_292_800.0,  # the day on which Berlin's clocks go forward
    1_761_433_200.0,  # the day on which they go back begins
    1_772_323_199.0,  # the last second of February
    1_767_225_590.0,  # the last seconds of a year, in UTC
    1_790_000_000.5,
)
JUMPS: Final = (-259_200.0, -7200.0, -61.0, -1.0, 1.0, 61.0, 7200.0, 259_200.0, 2_700_000.0)
OUTPUT: Final = 20


def _calls() -> tuple[Call, ...]:
    found = []
    for letters in (0, 40, 300):
        for bounds in ({}, {"max_tokens": 0}, {"max_tokens": 30}, {"max_completion_tokens": 200}, {"n": 3}):
            body = {"model": "m", "messages": [{"role": "user", "content": "é" * letters}], **bounds}
            found.append(peek(json.dumps(body, ensure_ascii=False).encode(), Operation.CHAT, "r"))
    return tuple(found)


CALLS: Final = _calls()


class Tape:
    """Bytes that decide; where they end, the first choice is taken."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def over(self) -> bool:
        """Nothing is left to decide."""
        return self._at >= len(self._raw)

    def below(self, count: int) -> int:
        """A number from 0 on, below `count` (at most 256)."""
        if self.over:
            return 0
        self._at += 1
        return self._raw[self._at - 1] * count // 256


class Source:
    """The configuration in force."""

    def __init__(self) -> None:
        self.current = Snapshot()


class Quiet:
    """Keeps no events."""

    def event(self, name: str, **fields: Any) -> None:
        """Nothing."""


class Change(NamedTuple):
    """A limit that is new or gone."""

    limit: Limit
    organisation: str


class Setting:
    """The configuration of one history, its books and its clock: a base for what happens there."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.at = _STARTS[tape.below(len(_STARTS))]
        self.mono = 0.0
        self.books: list[Settlement] = []
        self.live: list[Exchange] = []
        self.openings: dict[str, dict[int, Opening]] = {}
        self.failed: set[tuple[str, int]] = set()
        self.limits: dict[str, Change] = {}
        self.strict: set[str] = set()
        """Ids of limits whose account was never above its cap for another reason than calls."""
        self.always: set[str] = set()
        """Of those, the ones whose every window must keep to the cap, by the books alone."""
        self.told: Counter[tuple[str, int, str, int]] = Counter()
        self.seen: Counter[str] = Counter()
        """What happened, so that a run can tell that it happened at all."""
        self._count = 0
        for _ in range(2 + tape.below(7)):
            self._draw()
        self.always = self.strict = set(self.limits)
        self.always = set(self.always)
        self._start()

    # -- configuration -----------------------------------------------------------------------------------------------

    def _draw(self) -> Change | None:
        """Another limit, unless the one that is drawn is there already."""
        tape = self.tape
        organisation = ORGANISATIONS[tape.below(5) // 4]
        places = ((Level.ORGANISATION, organisation), *_HOLDERS)
        level, holder = places[tape.below(len(places))]
        per = _PERIODS[tape.below(len(_PERIODS))]
        measures = [Measure.REQUESTS, Measure.TOKENS, Measure.MONEY if per is not None else Measure.CONCURRENCY]
        measure = measures[(tape.below(4) + 1) // 2 if per is not None else tape.below(3)]
        id_ = f"{organisation}/{limit_id(level, holder, measure, per)}"
        if id_ in self.limits:
            return None
        amount = self._amount(measure, per)
        zone, at_cap = _ZONES[tape.below(4)], (AtCap.REFUSE, AtCap.CHEAPER)[tape.below(2)]
        limit = Limit(id_, level, holder, measure, amount, per, zone, at_cap)
        made = self.limits[id_] = Change(limit, organisation)
        return made

    def _amount(self, measure: Measure, per: Per | None) -> int:
        share = 1 + self.tape.below(12)
        if measure is Measure.CONCURRENCY:
            return (share + 3) // 4
        if measure is Measure.REQUESTS:
            return (share + 1) // 2 if per is not None else share * 3
        return share * (150 if measure is Measure.TOKENS else 200)

    def _snapshot(self) -> Snapshot:
        held: dict[tuple[str, str, str], tuple[Limit, ...]] = {}
        for limit, organisation in self.limits.values():
            place = (organisation, str(limit.level), limit.holder)
            held[place] = (*held.get(place, ()), limit)
        outputs = {(organisation, "p"): OUTPUT for organisation in ORGANISATIONS}
        return Snapshot(limits=held, max_output=outputs)

    def _opened(self, changes: Iterable[Change], books: list[Settlement]) -> list[Opened]:
        at = self.gate.calendar.now()
        found = []
        for limit, organisation in changes:
            if limit.per is not None:
                span = window(limit.per, limit.zone, at)
                moments = {at for one in books for at in (one.started_at, *(each.started_at for each in one.attempts))}
                windows = {window(limit.per, limit.zone, moment) for moment in moments if moment >= span.end}
                later = {one.id: self._sum(limit, organisation, one, books) for one in windows}
                found.append(Opened(limit, organisation, span, self._sum(limit, organisation, span, books), later))
        return found

    def _start(self) -> None:
        """The process begins: every account with what the books say."""
        self.source = Source()
        self.gate = Gate(self.source, Quiet(), lambda: self.mono, lambda: self.at)
        self.gate.told = self._tell
        self.told.clear()
        adopt(self.gate, self._opened(self.limits.values(), self.books), (), ())
        self.source.current = self._snapshot()

    def _tell(self, reached: Threshold) -> None:
        self.told[reached.limit.id, reached.percent, reached.window.id, reached.amount] += 1

    def change(self) -> None:
        """Another configuration: a limit more, one fewer, another amount or another zone."""
        what = self.tape.below(5)
        ids = sorted(self.limits)
        new: Change | None = None
        if what == 0 or not ids:
            new = self._draw()
        else:
            id_ = ids[self.tape.below(len(ids))]
            limit, organisation = self.limits[id_]
            if what == 1:
                del self.limits[id_]
            else:
                amount = self._amount(limit.measure, limit.per)
                zone = _ZONES[self.tape.below(4)] if what == 4 else limit.zone
                changed = Change(replace(limit, amount=amount, zone=zone), organisation)
                new = changed if zone != limit.zone else None
                self.limits[id_] = changed
            self.strict.discard(id_)
            self.always.discard(id_)
        self.seen["change"] += 1
        if new is not None:
            late = self.books[len(self.books) - min(self.tape.below(3), len(self.books)) :]
            known = [one for one in self.books if one not in late]
            adopt(self.gate, self._opened([new], known), late, self.live)
        self.source.current = self._snapshot()

    def _sum(self, limit: Limit, organisation: str, span: Window, books: Iterable[Settlement]) -> int:
        return sum(mine(limit, one, span) for one in books if one.organisation == organisation)


def mine(limit: Limit, account: Settlement, span: Window) -> int:
    """What one account adds to a limit in a window, by the words of the manual."""
    if limit.level is Level.MODEL:
        rows = [one for one in account.attempts if one.model == limit.holder]
    elif limit.level is Level.UPSTREAM:
        rows = [one for one in account.attempts if one.upstream == limit.holder]
    else:
        holder = {
            Level.PROJECT: account.project,
            Level.MEMBER: account.member,
            Level.KEY: account.key_id,
            Level.ROUTE: account.route,
        }
        callers = limit.level in holder
        if holder.get(limit.level, account.organisation) != limit.holder or (callers and account.shadow_of):
            return 0
        rows = [one for one in account.attempts if one.state is not State.BEATEN or not callers]
    if not by_attempt(limit):
        if not span.start <= account.started_at < span.end:
            return 0
        counts = bool(account.attempts) or account.cache in ("hit", "coalesced")
        answered = [one for one in rows if one.state is not State.BEATEN]
        return int(counts) if limit.measure is Measure.REQUESTS else _tokens(answered)
    rows = [one for one in rows if span.start <= one.started_at < span.end]
    if limit.measure is Measure.MONEY:
        return sum(one.cost or 0 for one in rows)
    return len(rows) if limit.measure is Measure.REQUESTS else _tokens(rows)


def _tokens(rows: Iterable[AttemptRecord]) -> int:
    return sum(one.usage.input + one.usage.output for one in rows)


def by_attempt(limit: Limit) -> bool:
    return limit.measure is Measure.MONEY or limit.level.of_target
