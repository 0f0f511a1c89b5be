"""Copies of the database: opened like a restore would, and looked through."""

from __future__ import annotations

from pathlib import Path

import msgspec
import sqlalchemy as sa

from intertie.core.errors import Misconfigured
from intertie.store import master_key, migrations, revision, sqlite
from intertie.store.schema import metadata


class Contents(msgspec.Struct, frozen=True):
    """What a copy holds."""

    schema: str
    revision: int
    proof: bytes | None
    rows: dict[str, int]


def inspect(path: Path) -> Contents:
    """Opens the copy and reads all of it. Raises `Misconfigured` if it is damaged or not of this program's schema."""
    opened = sqlite.engine(path, size=1, write=False)
    try:
        with opened.connect() as connection:
            sqlite.check_health(connection, thorough=True)
            schema = migrations.current(connection)
            if schema != migrations.HEAD:
                raise Misconfigured(f"the copy has schema {schema}, not {migrations.HEAD}")
            rows = {
                table.name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
                for table in metadata.sorted_tables
            }
            return Contents(schema, revision.number(connection), master_key.proof(connection), rows)
    except sa.exc.DBAPIError as error:
        raise Misconfigured(f"the copy cannot be read: {error.orig}") from error
    finally:
        opened.dispose()
