"""The books, summed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa

from intertie.core.ledger import State
from intertie.core.policy.answers import GIVEN
from intertie.store.schema import attempts, requests

Dimension = Literal["route", "model", "key", "project", "member", "upstream", "node", "target", "day"]

_DAY: Final = 86_400
_BROKEN: Final = (State.FAILED.value, State.INTERRUPTED.value)


class UsageRow(msgspec.Struct, frozen=True):
    """What one route, project, upstream … used."""

    name: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_micros: int | None
    """Sum of the known costs; `None` if none is known."""
    unknown_cost_requests: int
    """Requests whose cost is not in the sum, because a price was unknown."""
    errors: int
    """Requests that failed or broke off; by upstream, node, target or model: attempts that did."""
    cache_hits: int
    """Requests answered by what was kept, or by what an equal call was given."""
    estimated: int
    """Requests (attempts) with estimated tokens."""
    saved_micros: int
    """What those answers would have cost, as far as known."""
    ttft_ms: int | None = None
    """Mean time to the first output, where one was measured: of streams."""
    duration_ms: int | None = None
    """Mean time to the end of what ended well."""


_OF_REQUESTS: Final[Mapping[str, sa.ColumnElement[Any]]] = {
    "route": requests.c.route,
    "project": requests.c.project,
    "member": sa.func.coalesce(requests.c.member, ""),
    "key": requests.c.project + "/" + requests.c.key_name,
    "day": sa.cast(sa.func.floor(requests.c.started_at / _DAY), sa.Integer),
}
_OF_ATTEMPTS: Final[Mapping[str, sa.ColumnElement[Any]]] = {
    "model": attempts.c.model,
    "upstream": attempts.c.upstream,
    "node": attempts.c.node,
    "target": attempts.c.upstream + "/" + attempts.c.model,
}


def by(
    connection: sa.Connection,
    organisation: str,
    dimension: Dimension,
    since: float | None,
    until: float | None,
    *,
    shadow: bool = False,
) -> list[UsageRow]:
    """One row per value of `dimension`, for what began from `since` up to before `until` (UTC seconds).

    Of requests that callers sent; or, with `shadow`, of the copies of them that went to shadow targets.

    By route, project, member, key and day, requests are summed, and every request is in exactly one row; those of no
    member are under the empty name. By upstream, node, target and model (the one that served), attempts are summed: a
    request that failed over is counted in each row it touched, and answers from the cache are in none. The most
    requests come first; days in their order.
    """
    name = _OF_REQUESTS.get(dimension)
    table = requests if name is not None else attempts
    name = _OF_ATTEMPTS[dimension] if name is None else name
    query = sa.select(name.label("name"), *_sums(table)).where(table.c.organisation == organisation)
    query = query.where(table.c.shadow_of.is_not(None) if shadow else table.c.shadow_of.is_(None))
    if dimension == "node":
        query = query.where(attempts.c.node != "")
    if since is not None:
        query = query.where(table.c.started_at >= since)
    if until is not None:
        query = query.where(table.c.started_at < until)
    query = query.group_by(name).order_by(name if dimension == "day" else sa.desc("requests"), name)
    rows = connection.execute(query).mappings()
    return [UsageRow(**{**row, "name": _day(row["name"]) if dimension == "day" else row["name"]}) for row in rows]


def _sums(table: sa.Table) -> tuple[sa.ColumnElement[Any], ...]:
    """The other columns of `UsageRow`, in their order."""
    c = table.c
    known = c.cost_micros.is_not(None)
    given = requests.c.cache.in_(GIVEN) & (requests.c.state == State.OK.value)
    columns: dict[str, sa.ColumnElement[Any]] = {
        "requests": sa.func.count(sa.distinct(c.request_id)),
        "input_tokens": sa.func.sum(c.input_tokens),
        "output_tokens": sa.func.sum(c.output_tokens),
        "cost_micros": sa.func.sum(c.cost_micros),
        "unknown_cost_requests": sa.func.count(sa.distinct(sa.case((~known, c.request_id)))),
        "errors": _times(c.state.in_(_BROKEN)),
        "cache_hits": _times(given) if table is requests else sa.literal(0),
        "estimated": _times(c.estimated),
        "saved_micros": sa.func.coalesce(sa.func.sum(c.saved_micros), 0) if table is requests else sa.literal(0),
        "ttft_ms": sa.func.round(sa.func.avg(c.ttft_ms)),
        "duration_ms": sa.func.round(sa.func.avg(sa.case((c.state == State.OK.value, c.duration_ms)))),
    }
    return tuple(sa.cast(column, sa.BigInteger).label(name) for name, column in columns.items())


def _times(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _day(number: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=number)).date().isoformat()
