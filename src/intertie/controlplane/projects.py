"""Projects: what keys belong to. A project is its name."""

from __future__ import annotations

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.control import Control
from intertie.controlplane.outcome import Origin, Outcome
from intertie.store import projects, revision
from intertie.store.database import Connection
from intertie.store.projects import ProjectRow


def ensure(control: Control, organisation: str, name: str, by: Actor = BY_GATEWAY) -> Outcome:
    """Makes the project unless it exists."""
    with control.database.write() as connection:
        outcome = write(connection, control, organisation, name, Origin.API, by)
        if outcome is not Outcome.UNCHANGED:
            revision.bump(connection)
        return outcome


def list_(control: Control, organisation: str) -> list[ProjectRow]:
    """The organisation's projects by name."""
    with control.database.read() as connection:
        return projects.live(connection, organisation)


def write(
    connection: Connection,
    control: Control,
    organisation: str,
    name: str,
    origin: Origin,
    by: Actor = BY_GATEWAY,
    max_output: int | None = None,
) -> Outcome:
    """Makes, revives or (for a configuration file) takes over the project, inside the caller's transaction.

    `max_output` is a configuration file's to set and to remove; other doors leave it as it is.
    """
    found = projects.find(connection, organisation, name)
    if found is None:
        made = ProjectRow(organisation, name, origin, control.clock(), max_output=max_output)
        projects.insert(connection, made)
        note(connection, control, by, None, made)
        return Outcome.CREATED
    kept = found.max_output if origin is Origin.API else max_output
    if found.removed_at is None and (origin is Origin.API or found.origin == origin) and kept == found.max_output:
        return Outcome.UNCHANGED
    after = msgspec.structs.replace(found, origin=origin, removed_at=None, max_output=kept)
    projects.update(connection, after)
    note(connection, control, by, found, after)
    if found.removed_at is not None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if kept == found.max_output else Outcome.UPDATED


def note(connection: Connection, control: Control, by: Actor, before: ProjectRow | None, after: ProjectRow) -> None:
    """Records what became of a project, inside the caller's transaction."""
    item = Item("project", after.name, None if before is None else _look(before), _look(after))
    audit.changed(connection, control, after.organisation, by, item)


def _look(row: ProjectRow) -> dict[str, object] | None:
    if row.removed_at is not None:
        return None
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name not in {"organisation", "name"}}
