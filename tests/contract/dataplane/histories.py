"""A gate, the books and the clock, driven by a tape of bytes: one history of calls, crashes and changes.

What the books must say is worked out a second time, plainly and slowly, from the records alone.
"""

from __future__ import annotations

from typing import Any, cast

from intertie.core.errors import GatewayError
from intertie.core.ledger import State
from intertie.core.policy.limits import Measure
from intertie.core.policy.windows import window
from intertie.core.policy.worst_case import size
from intertie.core.terms import Caller, Operation, Route, Usage
from intertie.dataplane.account import close_attempt, opening, settlement
from intertie.dataplane.exchange import Attempt, Exchange
from intertie.store.recovery import _Reader
from tests.contract.dataplane.history_setting import CALLERS, CALLS, CANDIDATES, JUMPS, Setting, Tape, by_attempt

__all__ = ["Tape", "World"]


class World(Setting):
    """One history. `step` does the next thing on the tape, `check` compares, `end` ends what runs."""

    # -- calls -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A request arrives."""
        tape = self.tape
        self._count += 1
        x = Exchange(f"req_{self._count}", Operation.CHAT, {}, b"")
        x.caller = CALLERS[tape.below(4) or 3 + tape.below(3)]
        x.call = CALLS[tape.below(len(CALLS))]
        x.size = size(x.call)
        x.route = Route(x.caller.organisation, ("r1", "r2")[tape.below(2)], ())
        x.snapshot = self.source.current
        x.shadow_of = "req_0" if tape.below(8) == 0 else ""
        x.started, x.started_at, x.deadline = self.mono, self.at, self.mono + 600
        try:
            assert self.gate.admit(x) is None
        except GatewayError as error:
            self.seen["refused"] += 1
            self._must_be_short(x, error)
            self._settle(x, State.FAILED)
        else:
            self.live.append(x)

    def claim(self, x: Exchange, *, hedge: bool = False) -> None:
        """It is to be sent somewhere; sometimes it is not after all, or waits before it is."""
        candidates = CANDIDATES[_caller(x).organisation]
        candidate = candidates[self.tape.below(len(candidates))]
        how = self.tape.below(8)
        try:
            if self.gate.claim(x, candidate, self.mono) is not None:
                self.seen["skipped"] += 1
                return
            if how == 0:  # given up: the next claim, or the end, must find it
                return
            if how == 1:
                self.gate.give_back(x)
                self._pass(0.5)
            attempt = Attempt(x.tries + 1, candidate, None, hedge=hedge)
            at = self.gate.reserve(x, attempt)
        except GatewayError as error:
            self.seen["refused"] += 1
            self._must_be_short(x, error)
            return
        x.tries += 1
        x.running = attempt
        x.live.append(attempt)
        attempt.started, attempt.started_at = self.mono, at
        self.openings.setdefault(x.id, {})[attempt.n] = opening(x, attempt)
        self.seen["hedge" if hedge else "attempt"] += 1

    def fail(self, x: Exchange) -> None:
        """An attempt comes to nothing, and the request lives on, maybe with the one beside it."""
        attempt = x.live[self.tape.below(len(x.live))]
        self.failed.add((x.id, attempt.n))
        self._close(x, attempt, None, State.FAILED)

    def finish(self, x: Exchange) -> None:
        """An attempt ends well or because the client left, and the request with it; one beside it is beaten."""
        state = (State.OK, State.OK, State.INTERRUPTED, State.CANCELLED)[self.tape.below(4)]
        self._close(x, x.live[self.tape.below(len(x.live))], self._used(x), state)
        for beaten in tuple(x.live):
            self._close(x, beaten, self._used(x), State.BEATEN)
        x.attempts.sort(key=lambda one: one.n)
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

    def _close(self, x: Exchange, attempt: Attempt, used: Usage | None, state: State) -> None:
        attempt.usage = self.gate.within(x, used)
        self.gate.close(attempt, close_attempt(x, attempt, state, self.mono), self.mono)
        x.live.remove(attempt)

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
                if x.live:
                    told = x.live[self.tape.below(len(x.live))].n
                    reader._output[x.id, told] = _bound(x) * self.tape.below(4) // 3
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
        elif len(x.live) == 1 and kind == 9 and x.tries < 3:
            self.claim(x, hedge=True)
        elif x.live:
            (self.fail if kind < 3 else self.finish)(x)
        elif kind == 0 or x.tries >= 3:
            self.leave(x)
        else:
            self.claim(x)

    def end(self) -> None:
        """All that runs ends."""
        for x in list(self.live):
            if x.live:
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
            running = [one for x in self.live if (one := settlement(x, 0.0)) is not None] if by_attempt(limit) else []
            spent = self._sum(limit, organisation, account.window, [*self.books, *running])
            assert account.spent == spent, id_
            assert id_ not in self.strict or account.spent + account.reserved <= limit.amount, id_

    def check_end(self) -> None:
        """Nothing is held any more, thresholds were told once, and no window of the books is above its cap."""
        for id_, account in self.gate.counters.accounts().items():
            assert account.reserved == 0, id_
        assert self.gate.counters.running() == 0
        assert all(count == 1 for count in self.told.values())
        moments = {at for one in self.books for at in (one.started_at, *(each.started_at for each in one.attempts))}
        for id_ in self.always:
            limit, organisation = self.limits[id_]
            if limit.per is not None:
                for span in {window(limit.per, limit.zone, at) for at in moments}:
                    assert self._sum(limit, organisation, span, self.books) <= limit.amount, (id_, span.id)

    def _held(self, id_: str, where: str) -> int:
        grants = [attempt.held for x in self.live for attempt in x.live]
        for x in self.live:
            if x.holding is not None:
                grants += [x.holding.admitted, x.holding.claimed]
        return sum(
            grant.amounts[counted]
            for grant in grants
            if grant is not None and grant.open
            for account, counted in grant.meters.sums
            if account.limit.id == id_ and account.since <= grant.age and account.window.id == where
        )

    def _must_be_short(self, x: Exchange, error: GatewayError) -> None:
        """A refusal has a reason, and says when to come back or not to."""
        assert error.retry_after is None or error.retry_after > 0
        if error.code != "insufficient_quota" or x.holding is None or x.holding.worst is None:
            return
        most = x.holding.worst.largest + _bound(x)
        short = False
        for limit, organisation in self.limits.values():
            if limit.per is None or organisation != _caller(x).organisation:
                continue
            account = self.gate.counters.accounts()[limit.id]
            left = limit.amount - account.spent - account.reserved
            need = 1 if limit.measure is Measure.REQUESTS else most if limit.measure is Measure.TOKENS else most * 4
            short = short or left < need
        assert short, "refused although there is room"


def _caller(x: Exchange) -> Caller:
    assert x.caller is not None
    return x.caller


def _bound(x: Exchange) -> int:
    """Output tokens that its upstream may give."""
    if x.holding is None or x.holding.bound is None:
        return 50
    return x.holding.bound
