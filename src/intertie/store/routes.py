"""Routes and their targets."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import sqlalchemy as sa

from intertie.store.schema import routes, targets


class TargetRow(msgspec.Struct, frozen=True):
    """One target; `upstream` is an id (a node's is that of its upstream), or None where `node_label` chooses."""

    upstream: str | None
    model: str
    weight: int
    tier: int
    node_label: str | None = None


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


def listed(connection: sa.Connection, organisation: str | None = None, *, model: str | None = None) -> list[RouteRow]:
    """Routes by model: of one organisation or (for the snapshot) of all, and only the one for `model` if given."""
    chosen, chosen_targets = sa.select(routes), sa.select(targets)
    if organisation is not None:
        chosen = chosen.where(routes.c.organisation == organisation)
        chosen_targets = chosen_targets.where(targets.c.organisation == organisation)
    if model is not None:
        chosen = chosen.where(routes.c.model == model)
        chosen_targets = chosen_targets.where(targets.c.route == model)
    found: dict[tuple[str, str], list[TargetRow]] = defaultdict(list)
    for row in connection.execute(chosen_targets.order_by(targets.c.position)):
        target = TargetRow(row.upstream, row.model, row.weight, row.tier, row.node_label)
        found[row.organisation, row.route].append(target)
    return [
        RouteRow(**row, targets=tuple(found[row["organisation"], row["model"]]))
        for row in connection.execute(chosen.order_by(routes.c.model)).mappings()
    ]


def write(connection: sa.Connection, row: RouteRow) -> None:
    """Adds the route, or replaces the one of its model, together with its targets."""
    values = msgspec.structs.asdict(row)
    del values["targets"]
    delete(connection, row.organisation, row.model)
    connection.execute(sa.insert(routes).values(**values))
    if row.targets:
        place = {"organisation": row.organisation, "route": row.model}
        connection.execute(
            sa.insert(targets),
            [{**place, "position": at, **msgspec.structs.asdict(target)} for at, target in enumerate(row.targets)],
        )


def delete(connection: sa.Connection, organisation: str, model: str) -> bool:
    """Removes a route with its targets; False if there was none."""
    chosen = sa.and_(routes.c.organisation == organisation, routes.c.model == model)
    return connection.execute(sa.delete(routes).where(chosen)).rowcount > 0
