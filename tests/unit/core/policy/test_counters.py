"""T52, S11: over all levels and windows, through crashes and clock jumps: never over, never phantom, sums agree."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from intertie.core.policy.account import Account
from intertie.core.policy.counters import Counters
from intertie.core.policy.limits import Amounts, AtCap, Level, Limit, Measure, limit_id
from intertie.core.policy.meters import Grant, Refusal
from intertie.core.policy.windows import Per, Window, window

KEYS = ("k1", "k2", "k3")
PROJECT = {"k1": "p", "k2": "p", "k3": "q"}


def _limit(level: Level, holder: str, measure: Measure, amount: int, per: Per | None = None) -> Limit:
    return Limit(limit_id(level, holder, measure, per), level, holder, measure, amount, per, "Europe/Berlin")


def _all() -> list[Limit]:
    found = [
        _limit(Level.ORGANISATION, "o", Measure.MONEY, 5000, Per.MONTH),
        _limit(Level.ORGANISATION, "o", Measure.TOKENS, 9000, Per.DAY),
        _limit(Level.ORGANISATION, "o", Measure.MONEY, 20_000, Per.TOTAL),
        _limit(Level.PROJECT, "p", Measure.MONEY, 2000, Per.DAY),
        _limit(Level.PROJECT, "p", Measure.CONCURRENCY, 4),
        _limit(Level.PROJECT, "q", Measure.REQUESTS, 30, Per.HOUR),
    ]
    for key in KEYS:
        found += [_limit(Level.KEY, key, Measure.REQUESTS, 600), _limit(Level.KEY, key, Measure.TOKENS, 60_000)]
        found += [_limit(Level.KEY, key, Measure.MONEY, 900, Per.HOUR)]
    return found


LIMITS = _all()


def of(key: str) -> list[Limit]:
    """The limits a call of this key is under."""
    holders = {(Level.ORGANISATION, "o"), (Level.PROJECT, PROJECT[key]), (Level.KEY, key)}
    return [limit for limit in LIMITS if (limit.level, limit.holder) in holders]


def take(counters: Counters, limits: list[Limit], amounts: Amounts, now: float, at: float) -> Grant | Refusal:
    """What a call gets, or why it gets nothing."""
    meters = counters.meters(limits, now, at)
    outcome = meters.take(amounts, now, at) or meters.refusal(amounts, now, at)
    assert outcome is not None
    return outcome


class Spending(RuleBasedStateMachine):
    """Calls begin, end, fail and are cancelled; the clock moves and jumps; the process dies and comes back."""

    @initialize()
    def begin(self) -> None:
        self.now, self.at = 0.0, 1.79e9
        self.entries: list[tuple[str, float, Amounts]] = []
        self.open: list[tuple[str, Grant, Amounts, float]] = []
        self.told: Counter[tuple[str, int, str]] = Counter()
        self._start()

    def _start(self) -> None:
        self.told.clear()
        self.counters = Counters(self._spent, self._tell)

    def _tell(self, limit: Limit, percent: int, account: Account) -> None:
        self.told[limit.id, percent, account.window.id] += 1

    def _spent(self, limit: Limit, span: Window) -> int:
        """What the books say."""
        return sum(
            getattr(amounts, limit.measure.value)
            for key, at, amounts in self.entries
            if limit in of(key) and span.start <= at < span.end
        )

    @rule(key=st.sampled_from(KEYS), tokens=st.integers(0, 900), money=st.integers(0, 500))
    def call(self, key: str, tokens: int, money: int) -> None:
        amounts = Amounts(1, tokens, money)
        free = {limit.id: self.counters.read(limit, self.now, self.at).remaining for limit in of(key)}
        outcome = take(self.counters, of(key), amounts, self.now, self.at)
        wanted = {
            limit.id: 1 if limit.measure is Measure.CONCURRENCY else getattr(amounts, limit.measure.value)
            for limit in of(key)
        }
        if isinstance(outcome, Refusal):
            assert wanted[outcome.limit.id] > free[outcome.limit.id], "refused although there was room"
            assert outcome.wait > 0
        else:
            assert all(wanted[name] <= free[name] or wanted[name] == 0 for name in wanted), "let through without room"
            self.open.append((key, outcome, amounts, self.at))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000), share=st.sampled_from([0, 0, 25, 70, 100]), twice=st.booleans())
    def end(self, which: int, share: int, twice: bool) -> None:
        key, grant, most, at = self.open.pop(which % len(self.open))
        used = Amounts(1, most.tokens * share // 100, most.money * share // 100)
        grant.meters.settle(grant, used, self.now)
        if twice:
            grant.meters.settle(grant, most, self.now)
        self.entries.append((key, at, used))

    @rule(seconds=st.sampled_from([0.01, 1.0, 61.0, 3700.0, 90_000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.at += seconds

    @rule(jump=st.sampled_from([-7200.0, -30.0, 30.0, 7200.0]))
    def jump(self, jump: float) -> None:
        """Somebody sets the wall clock; the monotonic one does not care."""
        self.at += jump

    @rule()
    def crash(self) -> None:
        """What was open is recovered at no more than it held; the counters are rebuilt from the entries."""
        for key, _, most, at in self.open:
            self.entries.append((key, at, Amounts(1, most.tokens, most.money)))
        self.open.clear()
        self.now = 0.0
        self._start()

    @invariant()
    def never_over(self) -> None:
        for limit in LIMITS:
            account = self.counters.accounts().get(limit.id)
            if account is not None:
                assert account.spent + account.reserved <= account.cap, limit.id

    @invariant()
    def reserved_is_what_is_open(self) -> None:
        for limit in LIMITS:
            account = self.counters.accounts().get(limit.id)
            if account is not None:
                held = sum(amounts[which] for _, grant, amounts, _ in self.open
                           for (one, which), where in zip(grant.meters.sums, grant.windows, strict=True)
                           if one is account and where is account.window)  # fmt: skip
                assert account.reserved == held, limit.id

    def teardown(self) -> None:
        for key, grant, most, at in self.open:
            grant.meters.settle(grant, most, self.now)
            self.entries.append((key, at, most))
        assert all(not account.reserved for account in self.counters.accounts().values()), "phantom reservation"
        total = next(limit for limit in LIMITS if limit.per is Per.TOTAL)
        if (account := self.counters.accounts().get(total.id)) is not None:
            assert account.spent == sum(amounts.money for _, _, amounts in self.entries)
        assert all(count == 1 for count in self.told.values())


Spending.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSpending = Spending.TestCase


def test_the_longest_wait_is_the_one_named() -> None:
    counters = Counters(lambda _limit, _window: 0, lambda *_: None)
    rate = _limit(Level.KEY, "k", Measure.REQUESTS, 1)
    budget = _limit(Level.KEY, "k", Measure.MONEY, 10, Per.HOUR)
    first = take(counters, [rate, budget], Amounts(1, 0, 10), 0.0, 0.0)
    assert isinstance(first, Grant)
    first.meters.settle(first, Amounts(1, 0, 10), 0.0)
    refused = take(counters, [rate, budget], Amounts(1, 0, 1), 0.0, 60.0)
    assert isinstance(refused, Refusal)
    assert (refused.limit, refused.wait) == (budget, 3540.0)
    never = take(counters, [budget], Amounts(1, 0, 11), 0.0, 60.0)
    assert isinstance(never, Refusal)
    assert never.wait == math.inf


def test_what_is_reserved_may_come_back_soon() -> None:
    counters = Counters(lambda _limit, _window: 0, lambda *_: None)
    budget = _limit(Level.KEY, "k", Measure.MONEY, 10, Per.MONTH)
    assert isinstance(take(counters, [budget], Amounts(1, 0, 10), 0.0, 0.0), Grant)
    refused = take(counters, [budget], Amounts(1, 0, 5), 0.0, 0.0)
    assert isinstance(refused, Refusal)
    assert refused.wait == 1.0


def test_at_cap_is_refuse_unless_said() -> None:
    assert _limit(Level.KEY, "k", Measure.MONEY, 10, Per.MONTH).at_cap is AtCap.REFUSE


def test_the_hour_of_a_limit_is_its_window() -> None:
    assert window(Per.HOUR, "UTC", 3599.0).end == 3600.0
