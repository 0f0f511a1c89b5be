"""What must be so at every moment of a history, worked out plainly and slowly from its records alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from intertie.core.errors import GatewayError
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Window, window
from intertie.core.terms import AttemptRecord, Settlement
from intertie.dataplane.account import settlement
from intertie.dataplane.exchange import Exchange

if TYPE_CHECKING:
    from tests.contract.dataplane.histories import World


def check(world: World) -> None:
    """Accounts, grants and books agree, and no cap is passed."""
    accounts = world.gate.counters.accounts()
    for id_, (limit, organisation) in world.limits.items():
        if limit.per is None:
            continue
        account = accounts[id_]
        assert account.reserved == _held(world, id_, account.window.id), id_
        running = [one for x in world.live if (one := settlement(x, 0.0)) is not None] if _by_attempt(limit) else []
        spent = booked(limit, organisation, account.window, [*world.books, *running])
        assert account.spent == spent, id_
        assert id_ not in world.strict or account.spent + account.reserved <= limit.amount, id_


def check_end(world: World) -> None:
    """Nothing is held any more, thresholds were told once, and no window of the books is above its cap."""
    for id_, account in world.gate.counters.accounts().items():
        assert account.reserved == 0, id_
    assert world.gate.counters._running == {}
    assert all(count == 1 for count in world.told.values())
    moments = {at for one in world.books for at in (one.started_at, *(each.started_at for each in one.attempts))}
    for id_ in world.always:
        limit, organisation = world.limits[id_]
        if limit.per is not None:
            for span in {window(limit.per, limit.zone, at) for at in moments}:
                assert booked(limit, organisation, span, world.books) <= limit.amount, (id_, span.id)


def _held(world: World, id_: str, where: str) -> int:
    return sum(
        held.amount
        for x in world.live
        if x.holding is not None
        for grant in (*x.holding.admitted, *x.holding.attempt)
        for held in grant.held
        if grant.open and held.limit.id == id_ and held.window == where
    )


def must_be_short(world: World, x: Exchange, error: GatewayError) -> None:
    """A refusal has a reason, and says when to come back or not to."""
    assert error.retry_after is None or error.retry_after > 0
    if error.code != "insufficient_quota" or x.holding is None or x.holding.size is None:
        return
    most = x.holding.size.largest + bound(x)
    short = False
    for limit, organisation in world.limits.values():
        assert x.caller is not None
        if limit.per is None or organisation != x.caller.organisation:
            continue
        account = world.gate.counters.accounts()[limit.id]
        left = limit.amount - account.spent - account.reserved
        need = 1 if limit.measure is Measure.REQUESTS else most if limit.measure is Measure.TOKENS else most * 4
        short = short or left < need
    assert short, "refused although there is room"


def booked(limit: Limit, organisation: str, span: Window, books: Iterable[Settlement]) -> int:
    """What the books say was spent."""
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


def bound(x: Exchange) -> int:
    """Output tokens that its upstream may give."""
    if x.holding is None or x.holding.bound is None:
        return 50
    return x.holding.bound
