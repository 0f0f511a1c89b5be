"""Every limit's present state, and the two steps of each call: take (all or nothing), settle (once).

Embedded mode: this is the authority, rebuilt from the books at start. Nothing here waits, so between the look and the
change no other call can come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from intertie.core.policy.account import Account
from intertie.core.policy.bucket import Bucket
from intertie.core.policy.limits import Amounts, Limit, Measure
from intertie.core.policy.windows import Window, window


class Refusal(NamedTuple):
    """No room: which limit, and how many seconds until there may be (infinite: never in this window)."""

    limit: Limit
    wait: float


class Held(msgspec.Struct, frozen=True, gc=False):
    """What a grant holds of one limit; `window` is empty where there is none."""

    limit: Limit
    amount: int
    window: str


class Grant:
    """What one call holds. Ended exactly once, by `Counters.settle`."""

    __slots__ = ("held", "open")

    def __init__(self, held: list[Held]) -> None:
        self.held = held
        self.open = True

    def __repr__(self) -> str:
        return f"<Grant {'open' if self.open else 'settled'} {len(self.held)} limits>"


class Reading(NamedTuple):
    """A limit for response headers: true to the unit."""

    limit: int
    remaining: int
    reset: float


Spent = Callable[[Limit, Window], int]
"""What the books say was spent on a limit in a window; asked when a window is first met."""
Tell = Callable[[Limit, int, Account], None]
"""Called when an account reaches a threshold (percent)."""


class Counters:
    """One per process. Times: `now` monotonic for rates, `at` UTC for windows."""

    def __init__(self, spent: Spent, tell: Tell) -> None:
        self._spent = spent
        self._tell = tell
        self._buckets: dict[str, Bucket] = {}
        self._accounts: dict[str, Account] = {}
        self._running: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Counters {len(self._buckets)} rates, {len(self._accounts)} accounts, {len(self._running)} running>"

    def take(self, limits: Iterable[Limit], amounts: Amounts, now: float, at: float) -> Grant | Refusal:
        """Hold `amounts` of every limit, or of none. The refusal that takes longest to pass is the one named."""
        # One pass that looks and one that takes, in line: this is on the path of every request.
        requests, tokens, money = amounts
        met: list[tuple[Limit, int, Bucket | Account | None]] = []
        worst: Refusal | None = None
        state: Bucket | Account | None
        for limit in limits:
            measure = limit.measure
            if measure is _CONCURRENCY:
                amount, state = 1, None
                wait = 0.0 if self._running.get(limit.id, 0) < limit.amount else 1.0
            else:
                amount = requests if measure is _REQUESTS else tokens if measure is _TOKENS else money
                if limit.per is None:
                    state = bucket = self.bucket(limit, now)
                    wait = bucket.wait(amount, now)
                else:
                    state = account = self._account(limit, at)
                    wait = 0.0 if account.fits(amount) else _shortage(account, amount, at)
            if wait and (worst is None or wait > worst.wait):
                worst = Refusal(limit, wait)
            met.append((limit, amount, state))
        return worst if worst is not None else Grant([self._hold(*one, now) for one in met])

    def look(self, limits: Iterable[Limit], amounts: Amounts, now: float, at: float) -> Refusal | None:
        """Why `take` would refuse at this moment, without taking anything."""
        worst: Refusal | None = None
        for limit in limits:
            wait = self._wait(limit, _amount(limit, amounts), now, at)
            if wait > 0 and (worst is None or wait > worst.wait):
                worst = Refusal(limit, wait)
        return worst

    def settle(self, grant: Grant, actual: Amounts, now: float) -> None:
        """End a grant with what was really taken. A second call changes nothing."""
        if not grant.open:
            return
        grant.open = False
        for held in grant.held:
            limit = held.limit
            if limit.measure is _CONCURRENCY:
                running = self._running[limit.id] - 1
                if running:
                    self._running[limit.id] = running
                else:
                    del self._running[limit.id]
            elif limit.per is None:
                excess = _amount(limit, actual) - held.amount
                if excess:
                    self._buckets[limit.id].take(excess, now)
            else:
                account = self._accounts[limit.id]
                account.settle(held.window, held.amount, _amount(limit, actual))
                if account.due(limit.thresholds):
                    for percent in account.crossed(limit.thresholds):
                        self._tell(limit, percent, account)

    def read(self, limit: Limit, now: float, at: float) -> Reading:
        """The limit's state for headers and consoles."""
        if limit.measure is Measure.CONCURRENCY:
            return Reading(limit.amount, max(0, limit.amount - self._running.get(limit.id, 0)), 0.0)
        if limit.is_rate:
            bucket = self.bucket(limit, now)
            return Reading(limit.amount, bucket.remaining(now), bucket.reset(now))
        account = self._account(limit, at)
        return Reading(limit.amount, account.free, max(0.0, account.window.end - at))

    def adopt(self, limit: Limit, span: Window, spent: int) -> None:
        """Begin, or begin again, to keep the account of a limit of which the books say `spent` in the window `span`.

        Thresholds that are already passed were told when they were, maybe by an earlier run, and are not told again.
        """
        account = self._accounts.get(limit.id)
        if account is None or account.window.id != span.id:
            account = self._accounts[limit.id] = Account(limit.amount, span, spent)
        account.window = span  # of another zone, it may have the same name
        account.spent = spent
        account.resize(limit.amount, limit.thresholds)

    def cover(self, grants: list[Grant], limit: Limit, began: float) -> None:
        """Let a call that began at `began` and has these open grants count towards a limit that they were made before.

        Or before its windows changed. A call that began in another window than the present one counts nowhere in it.
        """
        span = self._accounts[limit.id].window
        if any(held.limit.id == limit.id and held.window == span.id for grant in grants for held in grant.held):
            return
        for grant in grants:
            grant.held = [held for held in grant.held if held.limit.id != limit.id]
        if span.start <= began < span.end:
            if not grants:
                grants.append(Grant([]))
            grants[0].held.append(Held(limit, 0, span.id))

    def accounts(self) -> Mapping[str, Account]:
        """Every account met so far, by the limit's id."""
        return self._accounts

    def _wait(self, limit: Limit, amount: int, now: float, at: float) -> float:
        if limit.measure is Measure.CONCURRENCY:
            return 0.0 if self._running.get(limit.id, 0) < limit.amount else 1.0
        if limit.is_rate:
            return self.bucket(limit, now).wait(amount, now)
        account = self._account(limit, at)
        return 0.0 if account.fits(amount) else _shortage(account, amount, at)

    def _hold(self, limit: Limit, amount: int, state: Bucket | Account | None, now: float) -> Held:
        if isinstance(state, Bucket):
            state.take(amount, now)
        elif state is not None:
            return Held(limit, amount, state.reserve(amount))
        else:
            self._running[limit.id] = self._running.get(limit.id, 0) + 1
        return Held(limit, amount, "")

    def bucket(self, limit: Limit, now: float) -> Bucket:
        """The state of a rate."""
        bucket = self._buckets.get(limit.id)
        if bucket is None:
            bucket = self._buckets[limit.id] = Bucket(limit.amount, now)
        elif bucket.limit != limit.amount:
            bucket.resize(limit.amount, now)
        return bucket

    def _account(self, limit: Limit, at: float) -> Account:
        account = self._accounts.get(limit.id)
        if account is None:
            assert limit.per is not None
            span = window(limit.per, limit.zone, at)
            account = self._accounts[limit.id] = Account(limit.amount, span, self._spent(limit, span))
        elif at >= account.window.end:
            assert limit.per is not None
            span = window(limit.per, limit.zone, at)
            account.enter(span, self._spent(limit, span))
        if account.cap != limit.amount:
            account.resize(limit.amount, limit.thresholds)
        return account


_REQUESTS: Final = Measure.REQUESTS
_TOKENS: Final = Measure.TOKENS
_CONCURRENCY: Final = Measure.CONCURRENCY


def _shortage(account: Account, amount: int, at: float) -> float:
    """Seconds until an amount that does not fit may: what is reserved may come back soon; only what is spent waits for
    the window's end.
    """
    if amount <= account.cap - account.spent:
        return 1.0
    return max(1.0, account.window.end - at) if amount <= account.cap else math.inf


def _amount(limit: Limit, amounts: Amounts) -> int:
    measure = limit.measure
    if measure is _REQUESTS:
        return amounts.requests
    if measure is _TOKENS:
        return amounts.tokens
    return amounts.money if measure is Measure.MONEY else 1
