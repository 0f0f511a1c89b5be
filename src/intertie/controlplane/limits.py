"""Limits: written by a configuration file or one at a time, and what the books say was spent on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.config import Document
from intertie.controlplane.consistency import nearest
from intertie.controlplane.control import Control, Unknown
from intertie.controlplane.limit_entries import LimitEntry
from intertie.controlplane.outcome import Origin, Outcome
from intertie.core.policy.limits import Level, Limit, Sums
from intertie.core.policy.windows import Per, Window, window
from intertie.dataplane.adoption import Opened
from intertie.store import keys, limits, members, projects, revision, upstreams
from intertie.store.database import Connection
from intertie.store.limits import LimitRow


class LimitView(msgspec.Struct, frozen=True):
    """A limit as lists show it. Money is micro-units."""

    id: str
    level: str
    holder: str
    name: str
    """The holder for people: of a key, `project/name`."""
    measure: str
    amount: int
    per: str | None
    zone: str
    at_cap: str
    alert: tuple[int, ...]
    wait: float
    origin: str
    spent: int | None = None
    """In this window; of concurrency, calls under way; of a rate, what has not flowed back. Null: not known here."""
    reserved: int | None = None
    """Held for calls under way, on top of `spent`."""
    remaining: int | None = None
    resets_in: float | None = None
    """Seconds until the window ends or the rate is whole again; null: never."""


def put(control: Control, organisation: str, entry: LimitEntry, by: Actor = BY_GATEWAY) -> tuple[str, Outcome]:
    """Sets one limit; its id and what that did. Raises `Unknown` if nobody is who is to be limited."""
    with control.database.write() as connection:
        limit = entry.limit(_holder(connection, organisation, entry.level, entry.holder or organisation))
        before = {row.id: row for row in limits.listed(connection, organisation)}.get(limit.id)
        outcome = _write(connection, control, (organisation, limit), Origin.API, by, before)
        if outcome is not Outcome.UNCHANGED:
            revision.bump(connection)
    return limit.id, outcome


def list_(control: Control, organisation: str) -> list[tuple[LimitView, Limit]]:
    """The organisation's limits, each as lists show it and as the data plane knows it."""
    with control.database.read() as connection:
        rows = limits.listed(connection, organisation)
        named = {
            row.id: f"{row.project}/{row.name}" for row in keys.listed(connection, organisation, None, revoked=True)
        }
    return [(_view(row, named.get(row.holder, row.holder)), row.limit()) for row in rows]


def remove(control: Control, organisation: str, id_: str, by: Actor = BY_GATEWAY) -> None:
    """Removes the limit of that id. Raises `Unknown`."""
    with control.database.write() as connection:
        known = {row.id: row for row in limits.listed(connection, organisation)}
        if id_ not in known:
            raise Unknown(f"no limit has the id {id_}: intertie limits list shows them. {nearest(id_, known)}".strip())
        _remove(connection, control, known[id_], by)
        revision.bump(connection)


def write(
    connection: Connection, control: Control, organisation: str, document: Document, by: Actor = BY_GATEWAY
) -> Iterator[tuple[Outcome | str, str]]:
    """Makes the document's limits so, inside the caller's transaction; yields what became of each, removed ones too.

    Keys must have been written before: their limits are held by their ids.
    """
    wanted = {limit.id: limit for limit in _wanted(connection, organisation, document)}
    before = {row.id: row for row in limits.listed(connection, organisation)}
    for limit in wanted.values():
        yield _write(connection, control, (organisation, limit), Origin.CONFIG, by, before.get(limit.id)), limit.id
    for row in before.values():
        if row.origin == Origin.CONFIG and row.id not in wanted:
            _remove(connection, control, row, by)
            yield "removed", row.id


def by_holder(rows: Iterable[LimitRow]) -> dict[tuple[str, str, str], tuple[Limit, ...]]:
    """As the snapshot has them: (organisation, level, holder) -> limits."""
    found: dict[tuple[str, str, str], list[Limit]] = {}
    for row in rows:
        found.setdefault((row.organisation, row.level, row.holder), []).append(row.limit())
    return {place: tuple(held) for place, held in found.items()}


# -- what the books say ----------------------------------------------------------------------------------------------


def spent(connection: Connection, wanted: Iterable[tuple[str, Limit]], at: float) -> list[Opened]:
    """What was taken of quotas and budgets, each in the window that holds the moment `at`. (organisation, limit).

    And in windows after it, should the books have entries that are dated later: a clock was ahead when they were made.
    """
    known: dict[tuple[str, Level, Window], dict[str, Sums]] = {}
    ahead: dict[str, list[float]] = {}
    found = []

    def sums(organisation: str, limit: Limit, span: Window) -> int:
        place = (organisation, limit.level, span)
        if place not in known:
            known[place] = limits.spent(connection, *place)
        return known[place].get(limit.holder, Sums()).of(limit)

    for organisation, limit in wanted:
        if limit.per is None:
            continue
        if organisation not in ahead:
            ahead[organisation] = limits.dated_after(connection, organisation, at)
        span = window(limit.per, limit.zone, at)
        windows = {window(limit.per, limit.zone, moment) for moment in ahead[organisation] if moment >= span.end}
        later = {one.id: sums(organisation, limit, one) for one in windows}
        found.append(Opened(limit, organisation, span, sums(organisation, limit, span), later))
    return found


# -- rows ------------------------------------------------------------------------------------------------------------


def _wanted(connection: Connection, organisation: str, document: Document) -> Iterator[Limit]:
    if document.organisation is not None:
        yield from document.organisation.held(Level.ORGANISATION, organisation)
    for upstream in document.upstreams:
        yield from upstream.held(Level.UPSTREAM, upstream.name)
    for route in document.routes:
        yield from route.held(Level.ROUTE, route.model)
    for model in document.models:
        yield from model.held(Level.MODEL, model.name)
    for member in document.members:
        yield from member.held(Level.MEMBER, member.email)
    for project in document.projects:
        yield from project.held(Level.PROJECT, project.name)
        for key in project.keys:
            if not (key.limits or key.quotas or key.budgets):
                continue
            row = keys.live(connection, organisation, project.name, key.name)
            if row is not None:  # else somebody revoked it, and it stays so
                yield from key.held(Level.KEY, row.id)


def _write(
    connection: Connection,
    control: Control,
    wanted: tuple[str, Limit],
    origin: Origin,
    by: Actor,
    before: LimitRow | None,
) -> Outcome:
    organisation, limit = wanted
    after = LimitRow(
        organisation=organisation,
        id=limit.id,
        level=limit.level.value,
        holder=limit.holder,
        measure=limit.measure.value,
        amount=limit.amount,
        per=None if limit.per is None else Per(limit.per).value,
        zone=limit.zone,
        at_cap=limit.at_cap.value,
        thresholds=tuple(limit.thresholds),
        wait=limit.wait,
        origin=origin.value,
        created_at=before.created_at if before is not None else control.clock(),
    )
    if after == before:
        return Outcome.UNCHANGED
    limits.write(connection, after)
    audit.changed(connection, control, organisation, by, Item("limit", after.id, _look(before), _look(after)))
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if msgspec.structs.replace(after, origin=before.origin) == before else Outcome.UPDATED


def _remove(connection: Connection, control: Control, row: LimitRow, by: Actor) -> None:
    limits.delete(connection, row.organisation, row.id)
    audit.changed(connection, control, row.organisation, by, Item("limit", row.id, _look(row), None))


def _look(row: LimitRow | None) -> dict[str, object] | None:
    if row is None:
        return None
    left_out = {"organisation", "id", "created_at"}
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name not in left_out}


def _holder(connection: Connection, organisation: str, level: Level, named: str) -> str:
    """Whom the data plane knows by that name. Routes and models may be named before they are there."""
    if level is Level.PROJECT:
        known = [row.name for row in projects.live(connection, organisation)]
        if named not in known:
            raise _nobody("project", named, known)
    elif level is Level.MEMBER:
        named, known = named.lower(), [row.email for row in members.live(connection, organisation)]
        if named not in known:
            raise _nobody("member", named, known)
    elif level is Level.UPSTREAM:
        known = list(upstreams.ids(connection, organisation))
        if named not in known:
            raise _nobody("upstream or node", named, known)
    elif level is Level.KEY:
        rows = keys.listed(connection, organisation, None, revoked=False)
        found = [row.id for row in rows if named in (row.id, f"{row.project}/{row.name}")]
        if not found:
            raise _nobody("key", named, [f"{row.project}/{row.name}" for row in rows])
        return found[0]
    return named


def _nobody(kind: str, named: str, known: list[str]) -> Unknown:
    hint = nearest(named, known) or (f"there is {', '.join(sorted(known)[:5])}" if known else "there is none yet")
    return Unknown(f"no {kind} is named {named}: {hint}", param="holder")


def _view(row: LimitRow, name: str) -> LimitView:
    return LimitView(
        id=row.id,
        level=row.level,
        holder=row.holder,
        name=name,
        measure=row.measure,
        amount=row.amount,
        per=row.per,
        zone=row.zone,
        at_cap=row.at_cap,
        alert=row.thresholds,
        wait=row.wait,
        origin=row.origin,
    )
