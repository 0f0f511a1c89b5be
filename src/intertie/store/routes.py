"""Routes and their targets."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import sqlalchemy as sa

from intertie.store.schema import routes, shadows, targets


class TargetRow(msgspec.Struct, frozen=True):
    """One target; `upstream` is an id (a node's is that of its upstream), or None where `node_label` chooses."""

    upstream: str | None
    model: str
    weight: int
    tier: int
    node_label: str | None = None


class ShadowRow(msgspec.Struct, frozen=True):
    """Who gets copies; `upstream` is an id."""

    upstream: str
    model: str


class RouteRow(msgspec.Struct, frozen=True):
    """A route; known by its model, which is unique in its organisation."""

    organisation: str
    model: str
    strategy: str
    deadline: float
    max_attempts: int
    origin: str
    created_at: float
    options: dict[str, Any] | None = None
    targets: tuple[TargetRow, ...] = ()
    shadows: tuple[ShadowRow, ...] = ()


def listed(connection: sa.Connection, organisation: str | None = None, *, model: str | None = None) -> list[RouteRow]:
    """Routes by model: of one organisation or (for the snapshot) of all, and only the one for `model` if given."""
    chosen = sa.select(routes)
    if organisation is not None:
        chosen = chosen.where(routes.c.organisation == organisation)
    if model is not None:
        chosen = chosen.where(routes.c.model == model)
    asked: dict[tuple[str, str], list[TargetRow]] = defaultdict(list)
    for row in connection.execute(_of(targets, organisation, model)):
        target = TargetRow(row.upstream, row.model, row.weight, row.tier, row.node_label)
        asked[row.organisation, row.route].append(target)
    copied: dict[tuple[str, str], list[ShadowRow]] = defaultdict(list)
    for row in connection.execute(_of(shadows, organisation, model)):
        copied[row.organisation, row.route].append(ShadowRow(row.upstream, row.model))
    found = []
    for route in connection.execute(chosen.order_by(routes.c.model)).mappings():
        key = route["organisation"], route["model"]
        found.append(RouteRow(**route, targets=tuple(asked[key]), shadows=tuple(copied[key])))
    return found


def write(connection: sa.Connection, row: RouteRow) -> None:
    """Adds the route, or replaces the one of its model, together with its targets and shadow targets."""
    values = msgspec.structs.asdict(row)
    del values["targets"], values["shadows"]
    delete(connection, row.organisation, row.model)
    connection.execute(sa.insert(routes).values(**values))
    place = {"organisation": row.organisation, "route": row.model}
    for table, ones in ((targets, row.targets), (shadows, row.shadows)):
        if ones:
            connection.execute(
                sa.insert(table),
                [{**place, "position": at, **msgspec.structs.asdict(one)} for at, one in enumerate(ones)],
            )


def delete(connection: sa.Connection, organisation: str, model: str) -> bool:
    """Removes a route with its targets; False if there was none."""
    chosen = sa.and_(routes.c.organisation == organisation, routes.c.model == model)
    return connection.execute(sa.delete(routes).where(chosen)).rowcount > 0


def _of(table: sa.Table, organisation: str | None, model: str | None) -> sa.Select[Any]:
    """Rows of the routes that are meant, each route's in their order."""
    query = sa.select(table)
    if organisation is not None:
        query = query.where(table.c.organisation == organisation)
    if model is not None:
        query = query.where(table.c.route == model)
    return query.order_by(table.c.position)
