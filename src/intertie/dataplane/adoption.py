"""Limits that come into force while requests run: each begins with exactly what was spent before and is spent now.

Sums come from the books (of requests that are in them), from the accounts of requests that ended meanwhile, and from
the requests under way, which from then on count towards the new limit too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from intertie.core.policy.limits import Level, Limit, Measure, Sums
from intertie.core.policy.windows import Window
from intertie.core.terms import Settlement
from intertie.dataplane.account import settlement
from intertie.dataplane.admitted import SERVED, Gate
from intertie.dataplane.exchange import Exchange


class Opened(NamedTuple):
    """What the books say about one quota or budget."""

    limit: Limit
    organisation: str
    span: Window
    spent: int
    later: Mapping[str, int] = MappingProxyType({})
    """Window -> what is spent in it already: an earlier run's clock was ahead."""


def adopt(gate: Gate, opened: Sequence[Opened], unseen: Iterable[Settlement], running: Iterable[Exchange]) -> None:
    """Put accounts in force: `unseen` are ended requests that the books did not have when they were asked."""
    ended = list(unseen)
    live = [x for x in running if not x.settled and x.caller is not None and x.route is not None]
    partial = [account for x in live if (account := settlement(x, gate.monotonic())) is not None]
    for one in opened:
        gate.calendar.tick(one.span.start)
        gate.calendar.expect(one.limit, one.later)
        spent = one.spent + sum(share_of(one, account) for account in ended)
        if _by_attempt(one.limit):
            spent += sum(share_of(one, account) for account in partial)
        gate.counters.adopt(one.limit, one.span, spent)
    for x in live:
        _cover(gate, x, opened)


def share_of(opened: Opened, account: Settlement) -> int:
    """What one request's account adds to a limit's sum; the same rules as in SQL (see `store.limits.spent`)."""
    limit, span = opened.limit, opened.span
    if account.organisation != opened.organisation:
        return 0
    attempts = [one for one in account.attempts if span.start <= one.started_at < span.end]
    if limit.level.of_target:
        name = "model" if limit.level is Level.MODEL else "upstream"
        mine = [one for one in attempts if getattr(one, name) == limit.holder]
        tokens = sum(one.usage.input + one.usage.output for one in mine)
        return Sums(len(mine), tokens, sum(one.cost or 0 for one in mine)).of(limit)
    if getattr(account, _MEMBERS[limit.level]) != limit.holder:
        return 0
    within = span.start <= account.started_at < span.end
    served = within and (bool(account.attempts) or account.cache in SERVED)
    tokens = sum(one.usage.input + one.usage.output for one in account.attempts) if within else 0
    return Sums(int(served), tokens, sum(one.cost or 0 for one in attempts)).of(limit)


_MEMBERS: Final = {
    Level.ORGANISATION: "organisation",
    Level.PROJECT: "project",
    Level.KEY: "key_id",
    Level.ROUTE: "route",
}


def _by_attempt(limit: Limit) -> bool:
    return limit.measure is Measure.MONEY or limit.level.of_target


def _cover(gate: Gate, x: Exchange, opened: Iterable[Opened]) -> None:
    """Let what `x` holds count towards the new limits. One that waits for its turn takes from them when it has it."""
    if x.holding is not None and not x.holding.entered:
        return
    for one in opened:
        if not _concerns(x, one):
            continue
        holding = x.holding or gate.begin(x)
        if not _by_attempt(one.limit):
            gate.counters.cover(holding.admitted, one.limit, x.started_at)
        elif x.running is not None and x.tries > len(x.attempts):
            gate.counters.cover(holding.attempt, one.limit, x.running.started_at)


def _concerns(x: Exchange, opened: Opened) -> bool:
    caller, route, limit = x.caller, x.route, opened.limit
    assert caller is not None
    assert route is not None
    if caller.organisation != opened.organisation:
        return False
    if not limit.level.of_target:
        holders = {Level.PROJECT: caller.project, Level.KEY: caller.key_id, Level.ROUTE: route.model}
        return holders.get(limit.level, caller.organisation) == limit.holder
    if x.running is None:
        return False
    candidate = x.running.candidate
    return limit.holder == (candidate.target.model if limit.level is Level.MODEL else candidate.upstream.name)
