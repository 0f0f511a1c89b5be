"""Brings a database to the newest schema, in one transaction. Run by the gateway at start and by `intertie migrate`.

To change the schema: edit `store/schema.py`, add `versions/NNNN_what.py` by hand, set `HEAD`. Expand first, contract
one release later: the version before must be able to run beside this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from intertie.core.errors import Misconfigured
from intertie.store.database import Database
from intertie.store.schema import metadata, revision

HEAD: Final = "0007"


def current(connection: sa.Connection) -> str | None:
    """The schema version of the database, None if it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(database: Database, *, replay: bool = False) -> str | None:
    """Upgrades to `HEAD`, all or nothing, and returns the version found before.

    `replay` goes through every migration even for an empty database. Raises `Misconfigured` if the database comes from
    a newer program.
    """
    with database.read() as connection:
        before = current(connection)
    if before == HEAD:
        return before  # the usual start; Alembic is not even imported
    if before is not None and before > HEAD:
        raise Misconfigured(
            f"the database has schema {before}, newer than this program knows ({HEAD}): upgrade Intertie"
        )
    if before is None and not replay:
        _create(database)
        return None
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
    return before


def _create(database: Database) -> None:
    """A new database gets the newest schema at once: importing Alembic costs 11 MB and a quarter second of start-up.

    A contract test proves that all migrations in a row arrive at the same schema.
    """
    with database.write() as connection:
        metadata.create_all(connection)
        connection.execute(revision.insert().values(id=1, number=1))
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
