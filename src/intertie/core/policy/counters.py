"""Every limit's present state by its id. Calls take from `Meters`, which are made here, once per configuration.

Embedded mode: this is the authority, rebuilt from the books at start. Nothing here waits, so between the look and the
change no other call can come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from intertie.core.policy.account import Account, Age
from intertie.core.policy.bucket import Bucket
from intertie.core.policy.limits import NOTHING, Limit, Measure
from intertie.core.policy.meters import Grant, Meters, Places, Tell, which
from intertie.core.policy.windows import Window, window


class Reading(NamedTuple):
    """A limit for response headers: true to the unit."""

    limit: int
    remaining: int
    reset: float


Spent = Callable[[Limit, Window], int]
"""What the books say was spent on a limit in a window; asked when a window is first met."""


class Counters:
    """One per process. Times: `now` monotonic for rates, `at` UTC for windows."""

    def __init__(self, spent: Spent, tell: Tell) -> None:
        self._spent = spent
        self._tell = tell
        self._buckets: dict[str, Bucket] = {}
        self._accounts: dict[str, Account] = {}
        self._places: dict[str, Places] = {}
        self._age = Age()

    def __repr__(self) -> str:
        return f"<Counters {len(self._buckets)} rates, {len(self._accounts)} accounts, {len(self._places)} places>"

    def meters(self, limits: Iterable[Limit], now: float, at: float) -> Meters:
        """The states of these limits, with what the operator allows now. To be made anew when that changes."""
        held = tuple(limits)
        return Meters(
            places=tuple(self.places(one) for one in held if one.measure is Measure.CONCURRENCY),
            rates=tuple((one, self.bucket(one, now), which(one)) for one in held if one.is_rate),
            sums=tuple((self.account(one, at), which(one)) for one in held if one.is_account),
            age=self._age,
            tell=self._tell,
            turn=self.turn,
        )

    def read(self, limit: Limit, now: float, at: float) -> Reading:
        """The limit's state for headers and consoles."""
        if limit.measure is Measure.CONCURRENCY:
            places = self.places(limit)
            return Reading(limit.amount, max(0, places.most - places.running), 0.0)
        if limit.is_rate:
            bucket = self.bucket(limit, now)
            return Reading(limit.amount, bucket.remaining(now), bucket.reset(now))
        account = self.account(limit, at)
        return Reading(limit.amount, account.free, max(0.0, account.window.end - at))

    def adopt(self, limit: Limit, span: Window, spent: int) -> None:
        """Begin, or begin again, to keep the account of a limit of which the books say `spent` in the window `span`.

        Thresholds that are already passed were told when they were, maybe by an earlier run, and are not told again.
        """
        account = self._accounts.get(limit.id)
        if account is None:
            account = self._accounts[limit.id] = Account(limit, span)
        account.allow(limit)
        if account.begin(span, spent):
            self._renewed(account)

    def cover(self, grant: Grant | None, limit: Limit, began: float) -> Grant | None:
        """Let a call that began at `began` and has this open grant count towards a limit that it was made before.

        Or before its windows changed. A call that began in another window than the present one counts nowhere in it.
        Returns the grant, made now for a call that had none.
        """
        account = self._accounts[limit.id]
        span = account.window
        if (grant is not None and grant.counts(account)) or not span.start <= began < span.end:
            return grant
        if grant is None:
            grant = Grant(self.meters((), 0.0, 0.0), NOTHING, self._age.count)
        grant.later += ((account, which(limit), span),)
        return grant

    def turn(self, account: Account, at: float) -> None:
        """The window of an account is over: the one of this moment begins."""
        limit = account.limit
        assert limit.per is not None
        span = window(limit.per, limit.zone, at)
        if account.enter(span, self._spent(limit, span)):
            self._renewed(account)

    def _renewed(self, account: Account) -> None:
        """Its window is another one now: grants of before hold nothing in it."""
        self._age.count += 1
        account.since = self._age.count

    def accounts(self) -> Mapping[str, Account]:
        """Every account met so far, by the limit's id."""
        return self._accounts

    def running(self) -> int:
        """Places that are taken, of all limits together."""
        return sum(places.running for places in self._places.values())

    def places(self, limit: Limit) -> Places:
        """The state of a limit of concurrency."""
        places = self._places.get(limit.id)
        if places is None:
            places = self._places[limit.id] = Places(limit)
        places.limit, places.most = limit, limit.amount
        return places

    def bucket(self, limit: Limit, now: float) -> Bucket:
        """The state of a rate."""
        bucket = self._buckets.get(limit.id)
        if bucket is None:
            bucket = self._buckets[limit.id] = Bucket(limit.amount, now)
        elif bucket.limit != limit.amount:
            bucket.resize(limit.amount, now)
        return bucket

    def account(self, limit: Limit, at: float) -> Account:
        """The state of a quota or budget, in the window of this moment."""
        assert limit.per is not None
        account = self._accounts.get(limit.id)
        if account is None:
            span = window(limit.per, limit.zone, at)
            account = self._accounts[limit.id] = Account(limit, span, self._spent(limit, span))
        elif at >= account.window.end:
            self.turn(account, at)
        if account.limit is not limit:
            account.allow(limit)
        return account
