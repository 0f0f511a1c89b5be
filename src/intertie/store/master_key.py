"""The proof of the master key that the stored secrets were sealed with."""

from __future__ import annotations

import sqlalchemy as sa

from intertie.store.schema import master_key


def proof(connection: sa.Connection) -> bytes | None:
    """The recorded proof, None in a new database."""
    found: bytes | None = connection.execute(sa.select(master_key.c.proof)).scalar()
    return found


def record(connection: sa.Connection, value: bytes) -> None:
    """Records the proof of a new database's master key."""
    connection.execute(sa.insert(master_key).values(id=1, proof=value))
