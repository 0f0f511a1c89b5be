"""Routes: written whole, with their targets."""

from __future__ import annotations

import msgspec

from intertie.controlplane.consistency import nearest
from intertie.controlplane.control import Control, Unknown
from intertie.controlplane.entries import RouteEntry, TargetEntry
from intertie.controlplane.outcome import Origin, Outcome
from intertie.core.errors import BadCall
from intertie.core.terms import StrategyName
from intertie.store import revision, routes, upstreams
from intertie.store.database import Connection
from intertie.store.routes import RouteRow, TargetRow


class TargetView(msgspec.Struct, frozen=True):
    """A target as lists show it; `upstream` is a name."""

    upstream: str
    model: str
    weight: int
    tier: int


class RouteView(msgspec.Struct, frozen=True):
    """A route as lists show it."""

    model: str
    strategy: StrategyName
    targets: tuple[TargetView, ...]
    deadline: float
    max_attempts: int
    origin: str


def put(control: Control, organisation: str, entry: RouteEntry) -> Outcome:
    """Makes the route of that model, or replaces it. Raises `Unknown` if a target names no upstream."""
    with control.database.write() as connection:
        outcome = write(connection, control, organisation, entry, Origin.API)
        if outcome is not Outcome.UNCHANGED:
            revision.bump(connection)
        return outcome


def list_(control: Control, organisation: str) -> list[RouteView]:
    """The organisation's routes by model."""
    with control.database.read() as connection:
        rows = routes.listed(connection, organisation)
        names = {upstream: name for name, upstream in upstreams.ids(connection, organisation).items()}
    return [
        RouteView(
            model=row.model,
            strategy=StrategyName(row.strategy),
            targets=tuple(TargetView(names[t.upstream], t.model, t.weight, t.tier) for t in row.targets),
            deadline=row.deadline,
            max_attempts=row.max_attempts,
            origin=row.origin,
        )
        for row in rows
    ]


def remove(control: Control, organisation: str, model: str) -> None:
    """Removes a route. Raises `Unknown`."""
    with control.database.write() as connection:
        if not routes.delete(connection, organisation, model):
            raise Unknown(f"no route is named {model}")
        revision.bump(connection)


def write(connection: Connection, control: Control, organisation: str, entry: RouteEntry, origin: Origin) -> Outcome:
    """Makes the route so, inside the caller's transaction."""
    before = next(iter(routes.listed(connection, organisation, model=entry.model)), None)
    known = upstreams.ids(connection, organisation)
    after = RouteRow(
        organisation=organisation,
        model=entry.model,
        strategy=entry.strategy.value,
        deadline=entry.deadline,
        max_attempts=entry.max_attempts,
        origin=origin.value,
        created_at=before.created_at if before else control.clock(),
        targets=tuple(_target(entry, target, known) for target in entry.targets),
    )
    if after == before:
        return Outcome.UNCHANGED
    routes.write(connection, after)
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if msgspec.structs.replace(after, origin=before.origin) == before else Outcome.UPDATED


def _target(route: RouteEntry, entry: TargetEntry, known: dict[str, str]) -> TargetRow:
    if entry.upstream not in known:
        hint = nearest(entry.upstream, known)
        raise Unknown(f"no upstream is named {entry.upstream}" + (f": {hint}" if hint else ""), param="targets")
    model = entry.model or route.model
    if (model == "*") != (route.model == "*"):
        raise BadCall("only targets of the route * pass the model asked for, and all of them do", param="targets")
    return TargetRow(known[entry.upstream], model, entry.weight, entry.tier)
