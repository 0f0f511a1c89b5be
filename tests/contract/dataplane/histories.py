"""A gate, the books and the clock, driven by a tape of bytes: one history of calls, crashes and changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from msgspec.structs import replace

from intertie.core.errors import GatewayError
from intertie.core.policy.limits import Limit
from intertie.core.policy.windows import window
from intertie.core.terms import Opening, Operation, Route, Settlement, Snapshot, State, Usage
from intertie.dataplane.account import close_attempt, opening, settlement
from intertie.dataplane.admitted import Gate
from intertie.dataplane.adoption import Opened, adopt
from intertie.dataplane.exchange import Attempt, Exchange
from intertie.dataplane.threshold import Threshold
from intertie.store.recovery import _Reader
from tests.contract.dataplane.drawn import (
    CALLERS,
    CALLS,
    CANDIDATES,
    JUMPS,
    ORGANISATIONS,
    OUTPUT,
    STARTS,
    Change,
    Tape,
    amount,
    any_limit,
    zone,
)
from tests.contract.dataplane.reckoned import booked, bound, must_be_short


class Source:
    """The configuration in force."""

    def __init__(self) -> None:
        self.current = Snapshot()


class Quiet:
    """Keeps no events."""

    def event(self, name: str, **fields: Any) -> None:
        """Nothing."""


class World:
    """One history. `step` does the next thing on the tape, `check` compares, `end` ends what runs."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.at = STARTS[tape.below(len(STARTS))]
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
        """Another limit, unless it is there already."""
        made = any_limit(self.tape)
        if made.limit.id in self.limits:
            return None
        self.limits[made.limit.id] = made
        return made

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
                later = {one.id: booked(limit, organisation, one, books) for one in windows}
                found.append(Opened(limit, organisation, span, booked(limit, organisation, span, books), later))
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
                other = amount(self.tape, limit.measure, limit.per)
                where = zone(self.tape) if what == 4 else limit.zone
                changed = Change(replace(limit, amount=other, zone=where), organisation)
                new = changed if where != limit.zone else None
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
            must_be_short(self, x, error)
            self._settle(x, State.FAILED)
        else:
            self.live.append(x)

    def claim(self, x: Exchange) -> None:
        """It is to be sent somewhere; sometimes it is not after all, or waits before it is."""
        assert x.caller is not None
        candidates = CANDIDATES[x.caller.organisation]
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
            must_be_short(self, x, error)
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
        said = bound(x) * (2 if estimated else shares // 16) // (1 if estimated else 3)
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
        self.at += JUMPS[self.tape.below(len(JUMPS))]
        self.seen["jump"] += 1

    def crash(self) -> None:
        """The process dies. What was in flight comes into the books as the recovery of a start has it."""
        reader = _Reader(cast("Any", None))
        reader._failed = self.failed
        for x in self.live:
            attempts = self.openings.pop(x.id, None)
            if attempts:
                last = max(attempts)
                reader._output[x.id, last] = 0 if (x.id, last) in self.failed else bound(x) * self.tape.below(4) // 3
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
