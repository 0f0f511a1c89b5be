"""Limits that come into force while requests run: each begins with exactly what was spent before and is spent now.

Sums come from the books (of requests that are in them), from the accounts of requests that ended meanwhile, and from
the requests under way, which from then on count towards the new limit too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from intertie.core.ledger import AttemptRecord, Settlement, State
from intertie.core.policy.answers import GIVEN
from intertie.core.policy.limits import Level, Limit, Measure, Sums
from intertie.core.policy.windows import Window
from intertie.dataplane.account import settlement
from intertie.dataplane.admitted import Gate
from intertie.dataplane.exchange import Attempt, Exchange


class Opened(NamedTuple):
    """What the books say about one quota or budget."""

    limit: Limit
    organisation: str
    span: Window
    spent: int
    later: Mapping[str, int] = MappingProxyType({})
    """Window -> what is spent in it already: an earlier run's clock was ahead."""


Place = tuple[str, Level, str]
"""Organisation, level and holder: whose limits they are."""


def adopt(gate: Gate, opened: Sequence[Opened], unseen: Iterable[Settlement], running: Iterable[Exchange]) -> None:
    """Put accounts in force: `unseen` are ended requests that the books did not have when they were asked.

    On the event loop, so each request is held against the limits of its own holders alone, however many there are.
    """
    live = [x for x in running if not x.settled and x.caller is not None and x.route is not None]
    partial = [account for x in live if (account := settlement(x, gate.monotonic())) is not None]
    places: dict[Place, list[int]] = {}
    for number, one in enumerate(opened):
        places.setdefault((one.organisation, one.limit.level, one.limit.holder), []).append(number)
    spent = [one.spent for one in opened]
    for accounts, ended in ((unseen, True), (partial, False)):
        for account in accounts:
            for number in _concerned(places, _places_of(account)):
                if ended or _by_attempt(opened[number].limit):
                    spent[number] += share_of(opened[number], account)
    for one, sum_ in zip(opened, spent, strict=True):
        gate.calendar.tick(one.span.start)
        gate.calendar.expect(one.limit, one.later)
        gate.counters.adopt(one.limit, one.span, sum_)
    for x in live:
        _cover(gate, x, opened, places)


def _concerned(places: Mapping[Place, list[int]], holders: Iterable[Place]) -> Iterator[int]:
    for holder in set(holders):
        yield from places.get(holder, ())


def _places_of(account: Settlement) -> Iterator[Place]:
    """Whose limits an account may count towards."""
    for level, name in _HOLDERS.items():
        yield account.organisation, level, getattr(account, name)
    for attempt in account.attempts:
        yield account.organisation, Level.MODEL, attempt.model
        yield account.organisation, Level.UPSTREAM, attempt.upstream


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
    if getattr(account, _HOLDERS[limit.level]) != limit.holder or (account.shadow_of and limit.level.of_caller):
        return 0
    within = span.start <= account.started_at < span.end
    served = within and (bool(account.attempts) or account.cache in GIVEN)
    tokens = sum(one.usage.input + one.usage.output for one in _counting(account.attempts)) if within else 0
    paid = _counting(attempts) if limit.level.of_caller else attempts
    return Sums(int(served), tokens, sum(one.cost or 0 for one in paid)).of(limit)


def _counting(attempts: Iterable[AttemptRecord]) -> list[AttemptRecord]:
    """Those that a request is the sum of."""
    return [one for one in attempts if one.state is not State.BEATEN]


_HOLDERS: Final = {
    Level.ORGANISATION: "organisation",
    Level.PROJECT: "project",
    Level.MEMBER: "member",
    Level.KEY: "key_id",
    Level.ROUTE: "route",
}


def _by_attempt(limit: Limit) -> bool:
    return limit.measure is Measure.MONEY or limit.level.of_target


def _cover(gate: Gate, x: Exchange, opened: Sequence[Opened], places: Mapping[Place, list[int]]) -> None:
    """Let what `x` holds count towards the new limits. One that waits for its turn takes from them when it has it."""
    if x.holding is not None and not x.holding.entered:
        return
    for number in _concerned(places, _own_places(x)):
        limit = opened[number].limit
        if _by_attempt(limit):
            for attempt in x.live:
                attempt.held = gate.counters.cover(attempt.held, limit, attempt.started_at)
        else:
            holding = x.holding or gate.begin(x)
            holding.admitted = gate.counters.cover(holding.admitted, limit, x.started_at)
    for attempt in x.live:
        for number in _concerned(places, _target_places(x, attempt)):
            attempt.held = gate.counters.cover(attempt.held, opened[number].limit, attempt.started_at)


def _own_places(x: Exchange) -> Iterator[Place]:
    """Whose limits are the request's own; of a copy, none of the caller's."""
    caller, route = x.caller, x.route
    assert caller is not None
    assert route is not None
    known = (caller.organisation, caller.project, caller.member, caller.key_id, route.model)
    for level, holder in zip(_HOLDERS, known, strict=True):
        if not (x.shadow_of and level.of_caller):
            yield caller.organisation, level, holder


def _target_places(x: Exchange, attempt: Attempt) -> Iterator[Place]:
    """Whose limits are those of the target that an attempt asks."""
    assert x.caller is not None
    organisation, candidate = x.caller.organisation, attempt.candidate
    yield organisation, Level.MODEL, candidate.target.model
    yield organisation, Level.UPSTREAM, candidate.upstream.name
