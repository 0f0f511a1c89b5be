"""Projects: what keys belong to. A project is its name."""

from __future__ import annotations

import msgspec

from intertie.controlplane.control import Control
from intertie.controlplane.outcome import Origin, Outcome
from intertie.store import projects, revision
from intertie.store.database import Connection
from intertie.store.projects import ProjectRow


def ensure(control: Control, organisation: str, name: str) -> Outcome:
    """Makes the project unless it exists."""
    with control.database.write() as connection:
        outcome = write(connection, control, organisation, name, Origin.API)
        if outcome is not Outcome.UNCHANGED:
            revision.bump(connection)
        return outcome


def list_(control: Control, organisation: str) -> list[ProjectRow]:
    """The organisation's projects by name."""
    with control.database.read() as connection:
        return projects.live(connection, organisation)


def write(connection: Connection, control: Control, organisation: str, name: str, origin: Origin) -> Outcome:
    """Makes, revives or (for a configuration file) takes over the project, inside the caller's transaction."""
    found = projects.find(connection, organisation, name)
    if found is None:
        projects.insert(connection, ProjectRow(organisation, name, origin, control.clock()))
        return Outcome.CREATED
    if found.removed_at is None and (origin is Origin.API or found.origin == origin):
        return Outcome.UNCHANGED
    projects.update(connection, msgspec.structs.replace(found, origin=origin, removed_at=None))
    return Outcome.UNCHANGED if found.removed_at is None else Outcome.CREATED
