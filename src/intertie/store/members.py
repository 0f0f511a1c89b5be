"""Members: the people of an organisation."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from intertie.store.schema import members


class MemberRow(msgspec.Struct, frozen=True):
    """A member; known by its address (lower case), which is unique in its organisation."""

    organisation: str
    email: str
    name: str
    role: str
    origin: str
    created_at: float
    removed_at: float | None = None


def find(connection: sa.Connection, organisation: str, email: str) -> MemberRow | None:
    """The member of that address, removed or not."""
    query = sa.select(members).where(members.c.organisation == organisation, members.c.email == email)
    row = connection.execute(query).mappings().first()
    return MemberRow(**row) if row else None


def live(connection: sa.Connection, organisation: str) -> list[MemberRow]:
    """The organisation's members by address, without removed ones."""
    query = sa.select(members).where(members.c.organisation == organisation, members.c.removed_at.is_(None))
    return [MemberRow(**row) for row in connection.execute(query.order_by(members.c.email)).mappings()]


def insert(connection: sa.Connection, row: MemberRow) -> None:
    """Adds a member."""
    connection.execute(sa.insert(members).values(**msgspec.structs.asdict(row)))


def update(connection: sa.Connection, row: MemberRow) -> None:
    """Writes the member of the row's organisation and address."""
    chosen = sa.and_(members.c.organisation == row.organisation, members.c.email == row.email)
    connection.execute(sa.update(members).where(chosen).values(**msgspec.structs.asdict(row)))
