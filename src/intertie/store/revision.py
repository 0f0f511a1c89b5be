"""The number of the last change, which the data plane polls."""

from __future__ import annotations

import sqlalchemy as sa

from intertie.store.schema import revision


def number(connection: sa.Connection) -> int:
    """The number of the last committed change; grows by one with each."""
    return int(connection.execute(sa.select(revision.c.number).where(revision.c.id == 1)).scalar_one())


def bump(connection: sa.Connection) -> int:
    """Counts a change, in the transaction that makes it."""
    connection.execute(sa.update(revision).where(revision.c.id == 1).values(number=revision.c.number + 1))
    return number(connection)
