"""The states of the limits that some calls share, looked up once per configuration: what each of them takes from.

This is on the path of every request, several times: so it is written in line, without a call per limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from intertie.core.policy.account import Account, Age
from intertie.core.policy.bucket import MINUTE, Bucket
from intertie.core.policy.limits import MONEY, MOST, REQUESTS, TOKENS, Amounts, Limit, Measure
from intertie.core.policy.windows import Window


class Refusal(NamedTuple):
    """No room: which limit, and how many seconds until there may be (infinite: never in this window)."""

    limit: Limit
    wait: float


class Places:
    """How many calls run under a limit of concurrency."""

    __slots__ = ("limit", "most", "running")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.most = limit.amount
        self.running = 0

    def __repr__(self) -> str:
        return f"<Places {self.running} of {self.most} taken>"


Tell = Callable[[Limit, int, Account], None]
"""Called when an account reaches a threshold (percent)."""


Turn = Callable[[Account, float], None]
"""Called when the window of an account is over, with the moment (UTC seconds)."""


class Grant(msgspec.Struct, eq=False):
    """What one call holds. Ended exactly once, by `settle`."""

    meters: Meters
    amounts: Amounts
    age: int
    """The `Age` at which it was taken: of an account whose window is younger, it holds nothing any more."""
    later: tuple[tuple[Account, int, Window], ...] = ()
    """Accounts that came after it, of which it holds nothing and towards which it counts when it ends."""
    open: bool = True

    def __repr__(self) -> str:
        return f"<Grant {'open' if self.open else 'settled'} {self.meters!r}>"

    def counts(self, account: Account) -> bool:
        """Whether it will count in the account's present window."""
        if any(one is account and one.since <= self.age for one, _ in self.meters.sums):
            return True
        return any(one is account and where is account.window for one, _, where in self.later)


class Meters:
    """Limits with their states. Times: `now` monotonic for rates, `at` UTC seconds for windows."""

    __slots__ = ("_accounts", "_age", "_buckets", "_checked", "_soonest", "_tell", "_turn", "places", "rates", "sums")

    def __init__(
        self,
        places: tuple[Places, ...],
        rates: tuple[tuple[Limit, Bucket, int], ...],
        sums: tuple[tuple[Account, int], ...],
        age: Age,
        tell: Tell,
        turn: Turn,
    ) -> None:
        self.places = places
        self.rates = rates
        """With the place of what each counts in `Amounts`; so for the sums."""
        self.sums = sums
        self._age = age
        self._tell = tell
        self._turn = turn
        buckets = [
            (place, tuple(bucket for _, bucket, which in rates if which == place)) for place in (REQUESTS, TOKENS)
        ]
        self._buckets = tuple(one for one in buckets if one[1])
        accounts = [(place, tuple(one for one, which in sums if which == place)) for place in (REQUESTS, MONEY, MOST)]
        self._accounts = tuple(one for one in accounts if one[1])
        self._checked = -1
        self._soonest = -math.inf
        """When the first window ends, as it was when the age was `_checked`."""

    def __bool__(self) -> bool:
        return bool(self.places or self.rates or self.sums)

    def __repr__(self) -> str:
        return f"<Meters {len(self.rates)} rates, {len(self.places)} places, {len(self.sums)} sums>"

    def take(self, amounts: Amounts, now: float, at: float) -> Grant | None:
        """Hold `amounts` of every limit, or of none: then `refusal` says why."""
        age = self._age
        if at >= self._soonest or self._checked != age.count:
            self._enter(at)
        fits = True  # nobody sees what is taken too much, since nothing waits until it is given back
        for places in self.places:
            places.running += 1
            if places.running > places.most:
                fits = False
        moment = int(now * 1e9)
        for place, buckets in self._buckets:
            cost = amounts[place] * MINUTE
            for bucket in buckets:
                base, due = moment * bucket.limit, bucket.due
                bucket.due = due = (due if due > base else base) + cost  # noqa: FURB136 (a call costs as much as the rest)
                if due > base + bucket.full:
                    fits = False
        for place, accounts in self._accounts:
            amount = amounts[place]
            for account in accounts:
                account.reserved = held = account.reserved + amount
                if held + account.spent > account.cap and amount > 0:
                    fits = False
        if fits:
            return Grant(self, amounts, age.count)
        self._undo(amounts)
        return None

    def _undo(self, amounts: Amounts) -> None:
        """Give back what was taken just now."""
        for places in self.places:
            places.running -= 1
        for _, bucket, which in self.rates:
            bucket.due -= amounts[which] * MINUTE
        for account, which in self.sums:
            account.reserved -= amounts[which]

    def _enter(self, at: float) -> None:
        """Bring accounts whose window is over into that of the moment `at`."""
        for account, _ in self.sums:
            if at >= account.window.end:
                self._turn(account, at)
        self._soonest = min((account.window.end for account, _ in self.sums), default=math.inf)
        self._checked = self._age.count

    def refusal(self, amounts: Amounts, now: float, at: float) -> Refusal | None:
        """The limit without room that takes longest to have some; takes nothing."""
        waits = [Refusal(one.limit, 1.0) for one in self.places if one.running >= one.most]
        waits += [Refusal(limit, bucket.wait(amounts[which], now)) for limit, bucket, which in self.rates]
        self._enter(at)
        for account, which in self.sums:
            if not account.fits(amounts[which]):
                waits.append(Refusal(account.limit, _shortage(account, amounts[which], at)))
        longest = max(waits, key=_wait, default=None)
        return longest if longest is not None and longest.wait > 0 else None

    def settle(self, grant: Grant, actual: Amounts, now: float) -> None:
        """End a grant of these limits with what was really taken. A second call changes nothing."""
        if not grant.open:
            return
        grant.open = False
        taken, age = grant.amounts, grant.age
        for places in self.places:
            places.running -= 1
        for place, buckets in self._buckets:
            excess = (actual[place] - taken[place]) * MINUTE
            if excess:  # what was used is used, whether it fits or not
                moment = int(now * 1e9)
                for bucket in buckets:
                    base, due = moment * bucket.limit, bucket.due
                    bucket.due = (due if due > base else base) + excess  # noqa: FURB136 (see above)
        for place, accounts in self._accounts:
            reserved, spent = taken[place], actual[place]
            for account in accounts:
                if account.since <= age:
                    account.reserved -= reserved
                    account.spent += spent
                    if account.spent >= account.due:
                        self._told(account)
        for account, which, held_in in grant.later:
            self._settle(account, held_in, 0, actual[which])

    def settle_apart(self, grant: Grant, actual: Amounts, callers: Amounts, now: float) -> None:
        """The same, with `callers` as what limits of the caller count."""
        if not grant.open:
            return
        grant.open = False
        taken = grant.amounts
        for places in self.places:
            places.running -= 1
        for limit, bucket, which in self.rates:
            bucket.take((callers if limit.level.of_caller else actual)[which] - taken[which], now)
        sums = [(one, which, one.window, taken[which]) for one, which in self.sums if one.since <= grant.age]
        for account, which, held_in, held in [*sums, *((*one, 0) for one in grant.later)]:
            self._settle(account, held_in, held, (callers if account.limit.level.of_caller else actual)[which])

    def _settle(self, account: Account, window: Window, reserved: int, spent: int) -> None:
        account.settle(window, reserved, spent)
        if account.spent >= account.due:
            self._told(account)

    def _told(self, account: Account) -> None:
        for percent in account.crossed():
            self._tell(account.limit, percent, account)


def which(limit: Limit) -> int:
    """Where in `Amounts` stands what a limit counts."""
    if limit.measure is Measure.REQUESTS:
        return REQUESTS
    if limit.measure is Measure.MONEY:
        return MONEY
    return MOST if limit.is_account else TOKENS


def _wait(refusal: Refusal) -> float:
    return refusal.wait


def _shortage(account: Account, amount: int, at: float) -> float:
    """Seconds until an amount that does not fit may: what is reserved may come back soon; only what is spent waits for
    the window's end.
    """
    if amount <= account.cap - account.spent:
        return 1.0
    return max(1.0, account.window.end - at) if amount <= account.cap else math.inf
