"""Routes: written whole, with their targets."""

from __future__ import annotations

from collections.abc import Container, Mapping

import msgspec

from intertie.controlplane import audit, embedder, implied, route_options
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.consistency import nearest
from intertie.controlplane.control import Conflict, Control, Unknown, nobody
from intertie.controlplane.entries import RouteEntry, ShadowTargetEntry, TargetEntry
from intertie.controlplane.outcome import Origin, Outcome
from intertie.core.errors import BadCall
from intertie.core.keeping import LOCAL, CachePolicy
from intertie.core.terms import Hedge, StrategyName
from intertie.store import nodes, revision, routes, upstreams
from intertie.store.database import Connection
from intertie.store.routes import RouteRow, ShadowRow, TargetRow


class TargetView(msgspec.Struct, frozen=True):
    """A target as lists show it; exactly one of `upstream`, `node` (both names) and `node_label` is there."""

    model: str
    weight: int
    tier: int
    upstream: str | None = None
    node: str | None = None
    node_label: str | None = None


class ShadowTargetView(msgspec.Struct, frozen=True):
    """Who gets copies; exactly one of `upstream` and `node` (both names) is there."""

    model: str
    upstream: str | None = None
    node: str | None = None


class ShadowView(msgspec.Struct, frozen=True):
    """Who gets copies of which part of a route's answered calls."""

    targets: tuple[ShadowTargetView, ...]
    share: float


class RouteView(msgspec.Struct, frozen=True):
    """A route as lists show it. Its origin is `node` if nobody wrote it: it follows from what nodes serve."""

    model: str
    strategy: StrategyName
    targets: tuple[TargetView, ...]
    deadline: float
    max_attempts: int
    origin: str
    cache: CachePolicy | None = None
    sticky: bool = False
    fallback: Mapping[str, tuple[str, ...]] = {}
    hedge: Hedge | None = None
    shadow: ShadowView | None = None


def put(control: Control, organisation: str, entry: RouteEntry, by: Actor = BY_GATEWAY) -> Outcome:
    """Makes the route of that model, or replaces it. Raises `Unknown` if a target names no upstream or node."""
    with control.database.write() as connection:
        outcome = write(connection, control, organisation, entry, Origin.API, by)
        if outcome is not Outcome.UNCHANGED:
            revision.bump(connection)
        return outcome


def list_(control: Control, organisation: str) -> list[RouteView]:
    """The organisation's routes by model, those that follow from its nodes among them."""
    with control.database.read() as connection:
        rows = routes.listed(connection, organisation)
        rows += _implied(connection, control, organisation, rows)
        names = {upstream: name for name, upstream in upstreams.ids(connection, organisation).items()}
        machines = set(upstreams.nodes(connection, organisation).values())
    return [
        RouteView(
            model=row.model,
            strategy=StrategyName(row.strategy),
            targets=tuple(_view(target, names, machines) for target in row.targets),
            deadline=row.deadline,
            max_attempts=row.max_attempts,
            origin=row.origin,
            cache=route_options.cache(row.options),
            sticky=route_options.sticky(row.options),
            fallback=route_options.fallback(row.options),
            hedge=route_options.hedge(row.options),
            shadow=_shadow_view(row, names, machines),
        )
        for row in sorted(rows, key=lambda row: row.model)
    ]


def remove(control: Control, organisation: str, model: str, by: Actor = BY_GATEWAY) -> None:
    """Removes a route. Raises `Unknown`, or `Conflict` for one that follows from nodes."""
    with control.database.write() as connection:
        if not discard(connection, control, organisation, model, by):
            found = _implied(connection, control, organisation, routes.listed(connection, organisation))
            if any(row.model == model for row in found):
                raise Conflict(
                    f"nobody wrote the route {model}: nodes serve this model. Write a route of that name to decide who "
                    "answers, or drain or revoke the nodes"
                )
            known = [row.model for row in routes.listed(connection, organisation)]
            raise nobody("route", model, known, "intertie routes list")
        revision.bump(connection)


def discard(connection: Connection, control: Control, organisation: str, model: str, by: Actor = BY_GATEWAY) -> bool:
    """Removes a route inside the caller's transaction; False if there was none."""
    before = next(iter(routes.listed(connection, organisation, model=model)), None)
    if before is None:
        return False
    names = _names(connection, organisation)
    routes.delete(connection, organisation, model)
    audit.changed(connection, control, organisation, by, Item("route", model, _look(before, names), None))
    return True


def write(
    connection: Connection,
    control: Control,
    organisation: str,
    entry: RouteEntry,
    origin: Origin,
    by: Actor = BY_GATEWAY,
) -> Outcome:
    """Makes the route so, inside the caller's transaction. Raises `Conflict` if it needs what is not installed."""
    similar = entry.cache.similar if entry.cache is not None else None
    if similar is not None and similar.embeddings == LOCAL and (absent := embedder.missing()):
        raise Conflict(f"the route {entry.model} finds similar questions: {embedder.EmbedderMissing(absent)}")
    before = next(iter(routes.listed(connection, organisation, model=entry.model)), None)
    machines = upstreams.nodes(connection, organisation)
    known = {name: id_ for name, id_ in upstreams.ids(connection, organisation).items() if name not in machines}
    after = RouteRow(
        organisation=organisation,
        model=entry.model,
        strategy=entry.strategy.value,
        deadline=entry.deadline,
        max_attempts=entry.max_attempts,
        origin=origin.value,
        created_at=before.created_at if before else control.clock(),
        options=route_options.stored(entry),
        targets=tuple(_target(entry, target, known, machines) for target in entry.targets),
        shadows=tuple(_shadow(entry, target, known, machines) for target in entry.shadow.targets)
        if entry.shadow is not None
        else (),
    )
    if after == before:
        return Outcome.UNCHANGED
    routes.write(connection, after)
    names = _names(connection, organisation)
    was = None if before is None else _look(before, names)
    audit.changed(connection, control, organisation, by, Item("route", entry.model, was, _look(after, names)))
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if msgspec.structs.replace(after, origin=before.origin) == before else Outcome.UPDATED


def _target(route: RouteEntry, entry: TargetEntry, known: Mapping[str, str], machines: Mapping[str, str]) -> TargetRow:
    """`known` and `machines` are name -> id of upstreams that are not nodes, and of nodes."""
    model = entry.model or route.model
    if (model == "*") != (route.model == "*"):
        raise BadCall("only targets of the route * pass the model asked for, and all of them do", param="targets")
    upstream = _place(entry, known, machines) if entry.node_label is None else None
    return TargetRow(upstream, model, entry.weight, entry.tier, entry.node_label)


def _shadow(
    route: RouteEntry, entry: ShadowTargetEntry, known: Mapping[str, str], machines: Mapping[str, str]
) -> ShadowRow:
    """The same for who gets copies."""
    model = entry.model or route.model
    if model == "*" != route.model:
        raise BadCall("only shadow targets of the route * pass the model asked for", param="shadow")
    return ShadowRow(_place(entry, known, machines), model)


def _place(entry: TargetEntry | ShadowTargetEntry, known: Mapping[str, str], machines: Mapping[str, str]) -> str:
    """The id of the upstream or node that is named."""
    found = machines.get(entry.node) if entry.node is not None else known.get(entry.upstream or "")
    if found is not None:
        return found
    if entry.node is not None:
        raise _no_node(entry.node, known, machines)
    raise _no_upstream(entry.upstream or "", known, machines)


def _names(connection: Connection, organisation: str) -> dict[str, str]:
    return {upstream: name for name, upstream in upstreams.ids(connection, organisation).items()}


def _look(row: RouteRow, names: Mapping[str, str]) -> dict[str, object]:
    """For the audit trail: targets in words."""
    look = {name: value for name, value in msgspec.structs.asdict(row).items() if name not in {"organisation", "model"}}
    look["targets"] = [_in_words(target, names) for target in row.targets]
    look["shadows"] = [f"{names.get(one.upstream, one.upstream)}/{one.model}" for one in row.shadows]
    return look


def _in_words(target: TargetRow, names: Mapping[str, str]) -> str:
    place = f"label {target.node_label}" if target.upstream is None else names.get(target.upstream, target.upstream)
    return f"{place}/{target.model} weight {target.weight} tier {target.tier}"


def _no_upstream(name: str, known: Mapping[str, str], machines: Mapping[str, str]) -> Unknown:
    hint = f"it is a node: write node: {name} instead of upstream" if name in machines else nearest(name, known)
    hint = hint or f"make it with: intertie upstreams put {name} --provider P"
    return Unknown(f"no upstream is named {name}: {hint}", param="targets")


def _no_node(name: str, known: Mapping[str, str], machines: Mapping[str, str]) -> Unknown:
    if name in known:
        return Unknown(f"no node is named {name}: it is an upstream, write upstream: {name}", param="targets")
    hint = f"{near} Or enrol" if (near := nearest(name, machines)) else "enrol"
    return Unknown(f"no node is named {name}: {hint} it with: intertie nodes token {name}", param="targets")


def _view(target: TargetRow, names: Mapping[str, str], machines: Container[str]) -> TargetView:
    shared = (target.model, target.weight, target.tier)
    if target.upstream is None:
        return TargetView(*shared, node_label=target.node_label)
    name = names[target.upstream]
    return TargetView(*shared, node=name) if target.upstream in machines else TargetView(*shared, upstream=name)


def _shadow_view(row: RouteRow, names: Mapping[str, str], machines: Container[str]) -> ShadowView | None:
    views = []
    for one in row.shadows:
        name = names[one.upstream]
        node = one.upstream in machines
        views.append(ShadowTargetView(one.model, node=name) if node else ShadowTargetView(one.model, upstream=name))
    return ShadowView(tuple(views), route_options.shadow_share(row.options)) if views else None


def _implied(connection: Connection, control: Control, organisation: str, written: list[RouteRow]) -> list[RouteRow]:
    rows = upstreams.listed(connection, organisation)
    machines = implied.machines(nodes.listed(connection, organisation, reports=False), rows)
    return list(implied.routes(written, rows, machines, control.prices))
