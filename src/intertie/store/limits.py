"""Limits as configured, and what the books say was spent on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from intertie.core.ledger import State
from intertie.core.policy.answers import GIVEN
from intertie.core.policy.limits import AtCap, Level, Limit, Measure, Sums
from intertie.core.policy.windows import Per, Window
from intertie.store.schema import attempts, limits, requests

_BATCH: Final = 500
_MINUTES: Final = 1440


class LimitRow(msgspec.Struct, frozen=True):
    """A limit; known by its id, which says whose it is, what it counts and for how long."""

    organisation: str
    id: str
    level: str
    holder: str
    measure: str
    amount: int
    per: str | None
    zone: str
    at_cap: str
    thresholds: tuple[int, ...]
    wait: float
    origin: str
    created_at: float

    def limit(self) -> Limit:
        """As policy knows it. Its id names the organisation, too: in one process the limits of all are side by side."""
        return Limit(
            id=f"{self.organisation}/{self.id}",
            level=Level(self.level),
            holder=self.holder,
            measure=Measure(self.measure),
            amount=self.amount,
            per=None if self.per is None else Per(self.per),
            zone=self.zone,
            at_cap=AtCap(self.at_cap),
            thresholds=self.thresholds,
            wait=self.wait,
        )


_COLUMNS: Final = [limits.c[field.name] for field in msgspec.structs.fields(LimitRow)]
_THRESHOLDS: Final = [column.name for column in _COLUMNS].index("thresholds")


def listed(connection: sa.Connection, organisation: str | None = None) -> list[LimitRow]:
    """Limits by id: of one organisation or (for the snapshot) of all."""
    query = sa.select(*_COLUMNS).order_by(limits.c.organisation, limits.c.id)
    if organisation is not None:
        query = query.where(limits.c.organisation == organisation)
    # By position, and with few tuples for many rows: there may be a limit for each of a hundred thousand keys.
    known: dict[tuple[int, ...], tuple[int, ...]] = {}
    found = []
    for row in connection.execute(query):
        values: list[Any] = list(row)
        told = tuple(values[_THRESHOLDS])
        values[_THRESHOLDS] = known.setdefault(told, told)
        found.append(LimitRow(*values))
    return found


def write(connection: sa.Connection, row: LimitRow) -> None:
    """Adds the limit, or replaces the one of its id."""
    delete(connection, row.organisation, row.id)
    connection.execute(sa.insert(limits).values(**msgspec.structs.asdict(row) | {"thresholds": list(row.thresholds)}))


def delete(connection: sa.Connection, organisation: str, id_: str) -> bool:
    """Removes a limit; False if there was none."""
    chosen = sa.and_(limits.c.organisation == organisation, limits.c.id == id_)
    return connection.execute(sa.delete(limits).where(chosen)).rowcount > 0


_HOLDERS: Final[dict[Level, sa.Column[Any]]] = {
    Level.ORGANISATION: requests.c.organisation,
    Level.PROJECT: requests.c.project,
    Level.MEMBER: requests.c.member,
    Level.KEY: requests.c.key_id,
    Level.ROUTE: requests.c.route,
    Level.MODEL: attempts.c.model,
    Level.UPSTREAM: attempts.c.upstream,
}


def spent(connection: sa.Connection, organisation: str, level: Level, span: Window) -> dict[str, Sums]:
    """What each holder of a level took within a window, from entries.

    Money belongs to the window in which its attempt began, because that is when it is reserved. So do the requests and
    tokens of models and upstreams; those of the other levels belong to the window in which the request began. A request
    counts if some target was asked or a kept answer was given.

    What no caller was answered with is not the caller's: copies for shadow targets count for the organisation, models
    and upstreams alone, and so does the money of beaten attempts.
    """
    holder = _HOLDERS[level]
    if level.of_target:
        counts = (sa.func.count(), sa.func.sum(_tokens(attempts)), sa.func.sum(attempts.c.cost_micros))
        rows = connection.execute(_within(sa.select(holder, *counts), attempts, organisation, span).group_by(holder))
        return {name: Sums(int(n), int(tokens or 0), int(cost or 0)) for name, n, tokens, cost in rows}
    served = sa.or_(requests.c.attempts > 0, requests.c.cache.in_(GIVEN))
    taken_of = (sa.func.sum(sa.case((served, 1), else_=0)), sa.func.sum(_tokens(requests)))
    requested = _within(sa.select(holder, *taken_of), requests, organisation, span)
    if level.of_caller:
        requested = requested.where(requests.c.shadow_of.is_(None))
    taken = connection.execute(requested.group_by(holder))
    found = {name: Sums(int(n or 0), int(tokens or 0)) for name, n, tokens in taken}
    same = sa.and_(attempts.c.organisation == requests.c.organisation, attempts.c.request_id == requests.c.request_id)
    costs = sa.select(holder, sa.func.sum(attempts.c.cost_micros)).select_from(attempts.join(requests, same))
    if level.of_caller:
        costs = costs.where(requests.c.shadow_of.is_(None), attempts.c.state != State.BEATEN.value)
    for name, cost in connection.execute(_within(costs, attempts, organisation, span).group_by(holder)):
        found[name] = found.get(name, Sums())._replace(money=int(cost or 0))
    return found


def dated_after(connection: sa.Connection, organisation: str, at: float) -> list[float]:
    """Minutes (UTC seconds at which they begin) in which entries are dated after `at`: the nearest, a day of them.

    None, unless a clock was set back.
    """
    found: set[float] = set()
    for table in (requests, attempts):
        minute = sa.func.floor(table.c.started_at / 60) * 60
        query = sa.select(minute).where(table.c.organisation == organisation, table.c.started_at > at)
        found.update(connection.execute(query.distinct().order_by(minute).limit(_MINUTES)).scalars())
    return sorted(found)


def present(connection: sa.Connection, request_ids: Collection[str]) -> set[str]:
    """Those of the requests that are in the books already."""
    found: set[str] = set()
    for batch in _batches(request_ids):
        query = sa.select(requests.c.request_id).where(requests.c.request_id.in_(batch))
        found.update(connection.execute(query).scalars())
    return found


def _batches(request_ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(request_ids)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _tokens(table: sa.Table) -> sa.ColumnElement[int]:
    return table.c.input_tokens + table.c.output_tokens


def _within(query: sa.Select[Any], table: sa.Table, organisation: str, span: Window) -> sa.Select[Any]:
    query = query.where(table.c.organisation == organisation)
    if span.start > 0:
        query = query.where(table.c.started_at >= span.start)
    return query if span.end == float("inf") else query.where(table.c.started_at < span.end)
