"""Organisations and their projects."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from intertie.store.schema import organisations, projects


class ProjectRow(msgspec.Struct, frozen=True):
    """A project; known by its name, which is unique in its organisation."""

    organisation: str
    name: str
    origin: str
    created_at: float
    removed_at: float | None = None
    max_output: int | None = None


def add_organisation(connection: sa.Connection, organisation: str, name: str, now: float) -> bool:
    """Makes the organisation if it does not exist; True if it was made."""
    if connection.execute(sa.select(organisations.c.id).where(organisations.c.id == organisation)).first():
        return False
    connection.execute(sa.insert(organisations).values(id=organisation, name=name, created_at=now))
    return True


def find(connection: sa.Connection, organisation: str, name: str) -> ProjectRow | None:
    """The project of that name, removed or not."""
    query = sa.select(projects).where(projects.c.organisation == organisation, projects.c.name == name)
    row = connection.execute(query).mappings().first()
    return ProjectRow(**row) if row else None


def live(connection: sa.Connection, organisation: str) -> list[ProjectRow]:
    """The organisation's projects by name, without removed ones."""
    query = sa.select(projects).where(projects.c.organisation == organisation, projects.c.removed_at.is_(None))
    return [ProjectRow(**row) for row in connection.execute(query.order_by(projects.c.name)).mappings()]


def max_outputs(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """(organisation, project) -> output tokens of a call that must be bounded and does not say; where it is set."""
    query = sa.select(projects.c.organisation, projects.c.name, projects.c.max_output)
    rows = connection.execute(query.where(projects.c.max_output.is_not(None)))
    return {(organisation, name): most for organisation, name, most in rows}


def insert(connection: sa.Connection, row: ProjectRow) -> None:
    """Adds a project."""
    connection.execute(sa.insert(projects).values(**msgspec.structs.asdict(row)))


def update(connection: sa.Connection, row: ProjectRow) -> None:
    """Writes the project of the row's organisation and name."""
    chosen = sa.and_(projects.c.organisation == row.organisation, projects.c.name == row.name)
    connection.execute(sa.update(projects).where(chosen).values(**msgspec.structs.asdict(row)))
