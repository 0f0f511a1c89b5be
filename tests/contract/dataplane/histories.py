"""A gate, the books and the clock, driven by a tape of bytes: one history of calls, crashes and changes.

What the books must say is worked out here a second time, plainly and slowly, from the records alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

from msgspec.structs import replace

from intertie.core.errors import GatewayError
from intertie.core.policy.limits import AtCap, Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per, Window, window
from intertie.core.routing.candidate import Candidate
from intertie.core.terms import (
    AttemptRecord,
    Call,
    Caller,
    Opening,
    Operation,
    Price,
    Route,
    Settlement,
    Snapshot,
    State,
    Target,
    Upstream,
    Usage,
)
from intertie.core.wire.envelope import peek
from intertie.dataplane.account import close_attempt, opening, settlement
from intertie.dataplane.admitted import Gate
from intertie.dataplane.adoption import Opened, adopt
from intertie.dataplane.exchange import Attempt, Exchange
from intertie.dataplane.threshold import Threshold
from intertie.store.recovery import _Reader

ORGANISATIONS: Final = ("one", "two")
CALLERS: Final = tuple(
    Caller(organisation, project, key, key)
    for organisation in ORGANISATIONS
    for project, key in (("p", "k1"), ("p", "k2"), ("q", "k3"))
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
_JUMPS: Final = (-259_200.0, -7200.0, -61.0, -1.0, 1.0, 61.0, 7200.0, 259_200.0, 2_700_000.0)
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


class World:
    """One history. `step` does the next thing on the tape, `check` compares, `end` ends what runs."""

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
        at = self.gate.clock()
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

    # -- calls -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A request arrives."""
        tape = self.tape
        self._count += 1
        x = Exchange(f"req_{self._count}", Operation.CHAT, {}, b"")
        x.caller = CALLERS[tape.below(4) or 3 + tape.below(3)]
        x.call = CALLS[tape.below(len(CALLS))]
        x.route = Route(x.caller.organisation, ("r1", "r2")[tape.below(2)], ())
        x.snapshot = self.source.current
        x.started, x.started_at, x.deadline = self.mono, self.at, self.mono + 600
        try:
            assert self.gate.admit(x) is None
        except GatewayError as error:
            self.seen["refused"] += 1
            self._must_be_short(x, error)
            self._settle(x, State.FAILED)
        else:
            self.live.append(x)

    def claim(self, x: Exchange) -> None:
        """It is to be sent somewhere; sometimes it is not after all, or waits before it is."""
        candidates = CANDIDATES[_caller(x).organisation]
        candidate = candidates[self.tape.below(len(candidates))]
        how = self.tape.below(8)
        try:
            if self.gate.claim(x, candidate) is not None:
                self.seen["skipped"] += 1
                return
            if how == 0:  # given up: the next claim, or the end, must find it
                return
            if how == 1:
                self.gate.close(x, None)
                self._pass(0.5)
            at = self.gate.reserve(x, candidate)
        except GatewayError as error:
            self.seen["refused"] += 1
            self._must_be_short(x, error)
            return
        x.tries += 1
        attempt = x.running = Attempt(x.tries, candidate, None)
        attempt.started, attempt.started_at = self.mono, at
        self.openings.setdefault(x.id, {})[attempt.n] = opening(x, attempt)
        self.seen["attempt"] += 1

    def fail(self, x: Exchange) -> None:
        """The attempt comes to nothing, and the request lives on."""
        assert x.running is not None
        self.failed.add((x.id, x.running.n))
        self._close(x, None, State.FAILED)

    def finish(self, x: Exchange) -> None:
        """The attempt ends well or because the client left, and the request with it."""
        used = self._used(x)
        state = (State.OK, State.OK, State.INTERRUPTED, State.CANCELLED)[self.tape.below(4)]
        self._close(x, used, state)
        self._leave(x, state)

    def leave(self, x: Exchange) -> None:
        """The request ends while nobody is asked: given up, or answered from what was kept."""
        if not x.attempts and self.tape.below(2):
            x.cache = "hit"
        self._leave(x, State.OK if x.cache else State.FAILED)

    def _leave(self, x: Exchange, state: State) -> None:
        self.live.remove(x)
        self._settle(x, state)
        if self.tape.below(4) == 0:
            self.gate.release(x)
            self.gate.release(x)

    def _used(self, x: Exchange) -> Usage:
        """Anything up to the most that was let through."""
        assert x.call is not None
        shares = self.tape.below(64)
        taken = x.call.size * (shares % 4) // 3
        cached = taken * (shares // 4 % 4) // 6
        estimated = shares // 16 == 0
        said = _bound(x) * (2 if estimated else shares // 16) // (1 if estimated else 3)
        return Usage(taken, said, cached, taken - cached if shares % 2 else 0, estimated=estimated)

    def _close(self, x: Exchange, used: Usage | None, state: State) -> None:
        assert x.running is not None
        x.running.usage = self.gate.within(x, used)
        close_attempt(x, x.running, state, self.mono)
        self.gate.close(x, x.attempts[-1])

    def _settle(self, x: Exchange, state: State) -> None:
        x.state = state
        x.account = settlement(x, self.mono)
        assert x.account is not None
        self.books.append(x.account)
        self.openings.pop(x.id, None)
        x.settled = True
        self.gate.booked(x)

    # -- time and death ----------------------------------------------------------------------------------------------

    def _pass(self, seconds: float) -> None:
        self.mono += seconds
        self.at += seconds

    def wait(self) -> None:
        """A little, or until around the end of some account's window."""
        kind = self.tape.below(4)
        ends = sorted({one.window.end for one in self.gate.counters.accounts().values()} - {float("inf")})
        ends = [end for end in ends if end > self.at]
        if kind == 0 or not ends:
            self._pass((0.01, 2.0, 25.0, 70.0)[self.tape.below(4)])
        else:
            end = ends[self.tape.below(min(len(ends), 256))]
            self._pass(max(0.0, end - self.at + (-0.5, 0.0, 0.25)[kind - 1]))
            self.seen["boundary"] += 1

    def jump(self) -> None:
        """Somebody sets the wall's clock; the monotonic one does not care."""
        self.at += _JUMPS[self.tape.below(len(_JUMPS))]
        self.seen["jump"] += 1

    def crash(self) -> None:
        """The process dies. What was in flight comes into the books as the recovery of a start has it."""
        reader = _Reader(cast("Any", None))
        reader._failed = self.failed
        for x in self.live:
            attempts = self.openings.pop(x.id, None)
            if attempts:
                last = max(attempts)
                reader._output[x.id, last] = 0 if (x.id, last) in self.failed else _bound(x) * self.tape.below(4) // 3
                self.books.append(reader._estimate(list(attempts.values())))
        self.live.clear()
        self.mono = 0.0
        self.seen["crash"] += 1
        self._start()

    def step(self) -> None:
        """The next thing on the tape."""
        kind = self.tape.below(20)
        x = self.live[self.tape.below(len(self.live))] if self.live and kind < 10 else None
        if x is None:
            if kind < 15:
                self.begin()
            else:
                (self.wait, self.wait, self.jump, self.change, self.crash)[kind - 15]()
        elif x.tries > len(x.attempts):
            (self.fail if kind < 3 else self.finish)(x)
        elif kind == 0 or x.tries >= 3:
            self.leave(x)
        else:
            self.claim(x)

    def end(self) -> None:
        """All that runs ends."""
        for x in list(self.live):
            if x.tries > len(x.attempts):
                self.finish(x)
            else:
                self.leave(x)

    # -- what must be so ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Accounts, grants and books agree, and no cap is passed."""
        accounts = self.gate.counters.accounts()
        for id_, (limit, organisation) in self.limits.items():
            if limit.per is None:
                continue
            account = accounts[id_]
            assert account.reserved == self._held(id_, account.window.id), id_
            running = [one for x in self.live if (one := settlement(x, 0.0)) is not None] if _by_attempt(limit) else []
            spent = self._sum(limit, organisation, account.window, [*self.books, *running])
            assert account.spent == spent, id_
            assert id_ not in self.strict or account.spent + account.reserved <= limit.amount, id_

    def check_end(self) -> None:
        """Nothing is held any more, thresholds were told once, and no window of the books is above its cap."""
        for id_, account in self.gate.counters.accounts().items():
            assert account.reserved == 0, id_
        assert self.gate.counters._running == {}
        assert all(count == 1 for count in self.told.values())
        moments = {at for one in self.books for at in (one.started_at, *(each.started_at for each in one.attempts))}
        for id_ in self.always:
            limit, organisation = self.limits[id_]
            if limit.per is not None:
                for span in {window(limit.per, limit.zone, at) for at in moments}:
                    assert self._sum(limit, organisation, span, self.books) <= limit.amount, (id_, span.id)

    def _held(self, id_: str, where: str) -> int:
        return sum(
            held.amount
            for x in self.live
            if x.holding is not None
            for grant in (*x.holding.admitted, *x.holding.attempt)
            for held in grant.held
            if grant.open and held.limit.id == id_ and held.window == where
        )

    def _must_be_short(self, x: Exchange, error: GatewayError) -> None:
        """A refusal has a reason, and says when to come back or not to."""
        assert error.retry_after is None or error.retry_after > 0
        if error.code != "insufficient_quota" or x.holding is None or x.holding.size is None:
            return
        most = x.holding.size.largest + _bound(x)
        short = False
        for limit, organisation in self.limits.values():
            if limit.per is None or organisation != _caller(x).organisation:
                continue
            account = self.gate.counters.accounts()[limit.id]
            left = limit.amount - account.spent - account.reserved
            need = 1 if limit.measure is Measure.REQUESTS else most if limit.measure is Measure.TOKENS else most * 4
            short = short or left < need
        assert short, "refused although there is room"

    def _sum(self, limit: Limit, organisation: str, span: Window, books: Iterable[Settlement]) -> int:
        return sum(_mine(limit, one, span) for one in books if one.organisation == organisation)


def _mine(limit: Limit, account: Settlement, span: Window) -> int:
    """What one account adds to a limit in a window, by the words of the manual."""
    if limit.level is Level.MODEL:
        rows = [one for one in account.attempts if one.model == limit.holder]
    elif limit.level is Level.UPSTREAM:
        rows = [one for one in account.attempts if one.upstream == limit.holder]
    else:
        holder = {Level.PROJECT: account.project, Level.KEY: account.key_id, Level.ROUTE: account.route}
        if holder.get(limit.level, account.organisation) != limit.holder:
            return 0
        rows = list(account.attempts)
    if not _by_attempt(limit):
        if not span.start <= account.started_at < span.end:
            return 0
        counts = bool(account.attempts) or account.cache in ("hit", "coalesced")
        return int(counts) if limit.measure is Measure.REQUESTS else _tokens(rows)
    rows = [one for one in rows if span.start <= one.started_at < span.end]
    if limit.measure is Measure.MONEY:
        return sum(one.cost or 0 for one in rows)
    return len(rows) if limit.measure is Measure.REQUESTS else _tokens(rows)


def _tokens(rows: Iterable[AttemptRecord]) -> int:
    return sum(one.usage.input + one.usage.output for one in rows)


def _by_attempt(limit: Limit) -> bool:
    return limit.measure is Measure.MONEY or limit.level.of_target


def _caller(x: Exchange) -> Caller:
    assert x.caller is not None
    return x.caller


def _bound(x: Exchange) -> int:
    """Output tokens that its upstream may give."""
    if x.holding is None or x.holding.bound is None:
        return 50
    return x.holding.bound
