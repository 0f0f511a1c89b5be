"""The migrations add up to the schema, and never half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from intertie.core.errors import Misconfigured
from intertie.store import migrations
from intertie.store.database import Database
from intertie.store.schema import metadata


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An open, empty one."""
    opened = Database.open(tmp_path / "home")
    yield opened
    opened.close()


def _shape(connection: sa.Connection) -> dict[str, object]:
    """Everything the schema says, apart from the order of columns and constraints."""
    inspector = sa.inspect(connection)
    found: dict[str, object] = {}
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        found[table] = {
            "columns": {c["name"]: (str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)},
            "key": (
                inspector.get_pk_constraint(table)["name"],
                inspector.get_pk_constraint(table)["constrained_columns"],
            ),
            "references": sorted(
                (
                    f["name"] or "",
                    f["constrained_columns"],
                    f["referred_table"],
                    f["referred_columns"],
                    str(f["options"]),
                )
                for f in inspector.get_foreign_keys(table)
            ),
            "unique": sorted((u["name"] or "", u["column_names"]) for u in inspector.get_unique_constraints(table)),
        }
    indexes = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    found["indexes"] = {name: " ".join(sql.split()) for name, sql in indexes}
    return found


def test_migrations_make_exactly_the_schema(database: Database, tmp_path: Path) -> None:
    """Tables, columns, types, keys, references and partial indexes are the same by either way."""
    migrations.upgrade(database, replay=True)
    other = Database.open(tmp_path / "other")
    migrations.upgrade(other)

    with database.read() as migrated, other.read() as declared:
        assert _shape(migrated) == _shape(declared)
        assert _rows(migrated) == _rows(declared)
    other.close()


def _rows(connection: sa.Connection) -> dict[str, list[tuple[object, ...]]]:
    """What a new database holds from the beginning."""
    tables = [*metadata.sorted_tables, sa.table("alembic_version", sa.column("version_num"))]
    return {table.name: [tuple(row) for row in connection.execute(sa.select(table))] for table in tables}


def test_a_database_with_keys_of_the_version_before_keeps_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys belong to nobody then; a revoked key's name is still free, a live one's still taken."""
    with monkeypatch.context() as before:
        before.setattr(migrations, "HEAD", "0004")
        migrations.upgrade(database, replay=True)
    key = {
        "organisation": "o",
        "project": "p",
        "name": "n",
        "hint": "",
        "trust": "own",
        "origin": "api",
        "created_at": 1,
    }
    names = ", ".join((*key, "id", "hash", "revoked_at"))
    add = sa.text(f"INSERT INTO api_keys ({names}) VALUES (:{names.replace(', ', ', :')})")
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO organisations VALUES ('o', 'o', 1)"))
        connection.execute(sa.text("INSERT INTO projects VALUES ('o', 'p', 'api', 1, NULL, NULL)"))
        connection.execute(add, {**key, "id": "old", "hash": b"x", "revoked_at": 2})
        connection.execute(add, {**key, "id": "new", "hash": b"y", "revoked_at": None})

    assert migrations.upgrade(database) == "0004"
    with database.read() as connection:
        rows = connection.execute(sa.text("SELECT id, member, hash FROM api_keys ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [("new", None, b"y"), ("old", None, b"x")]
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(add, {**key, "id": "third", "hash": b"z", "revoked_at": None})
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.text("UPDATE api_keys SET member = 'nobody@example.com'"))


def test_upgrading_again_changes_nothing(database: Database) -> None:
    """Every start runs it."""
    assert migrations.upgrade(database) is None
    assert migrations.upgrade(database) == migrations.HEAD


def test_head_is_the_newest_file() -> None:
    """A new migration must be declared, or it would never run."""
    versions = Path(migrations.__file__).parent / "versions"

    assert max(path.name for path in versions.glob("[0-9]*.py")).startswith(f"{migrations.HEAD}_")


def test_a_database_of_a_newer_program_is_refused(database: Database) -> None:
    """Rather than written with a schema we do not know."""
    migrations.upgrade(database)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(Misconfigured, match="newer than this program"):
        migrations.upgrade(database)


def test_a_migration_that_fails_leaves_an_empty_database(database: Database) -> None:
    """One transaction for all of it: a table in the way undoes the tables before it."""
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE master_key (x INTEGER)"))

    with pytest.raises(Exception, match="already exists"):
        migrations.upgrade(database, replay=True)
    with database.read() as connection:
        assert sa.inspect(connection).get_table_names() == ["master_key"]
