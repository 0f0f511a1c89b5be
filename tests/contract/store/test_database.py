"""S14.9: the embedded database is what the books rely on, or it does not open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from intertie.core.errors import Misconfigured, Overloaded
from intertie.store import sqlite
from intertie.store.database import Database
from intertie.store.schema import metadata, revision


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An open one with all tables."""
    opened = Database.open(tmp_path / "home")
    with opened.write() as connection:
        metadata.create_all(connection)
        connection.execute(sa.insert(revision).values(id=1, number=0))
    yield opened
    opened.close()


def _number(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(revision.c.number)).scalar_one())


def _set(connection: sa.Connection, number: int) -> None:
    connection.execute(sa.update(revision).values(number=number))


def _change_and_fail(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)
    raise KeyError


@pytest.mark.parametrize("kind", ["read", "write"])
def test_s14_every_connection_has_the_durable_settings(database: Database, kind: str) -> None:
    """Read back from SQLite itself, not from our own words."""
    with getattr(database, kind)() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "mmap_size")
        }
        version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000, "mmap_size": 0}
    assert tuple(map(int, version.split("."))) >= (3, 51, 3)


def test_s14_an_old_engine_is_refused() -> None:
    """The distribution's engine can corrupt a WAL database."""
    with pytest.raises(Misconfigured, match=r"3\.40\.1 is too old.*3\.51\.3"):
        sqlite.check_engine((3, 40, 1))


def test_s14_a_setting_that_does_not_take_is_noticed() -> None:
    """A file system without shared memory leaves WAL off; that must not pass silently."""

    class Stubborn:
        def execute(self, statement: str) -> Stubborn:
            return self

        def fetchone(self) -> tuple[Any, ...]:
            return ("delete",)

    with pytest.raises(Misconfigured, match="did not accept journal_mode = WAL"):
        sqlite.apply_settings(Stubborn(), read_only=False)


@pytest.mark.parametrize("content", [b"this is no database " * 1000, None])
def test_s14_a_damaged_file_does_not_open(tmp_path: Path, content: bytes | None) -> None:
    """Neither a foreign file nor one with pages overwritten; and the folder is free again afterwards."""
    home = tmp_path / "home"
    first = Database.open(home)
    with first.write() as connection:
        metadata.create_all(connection)
    first.close()
    file = home / "intertie.db"
    raw = bytearray(file.read_bytes())
    raw[4096:12288] = b"\xa5" * 8192
    file.write_bytes(content if content is not None else bytes(raw))

    for _ in range(2):
        with pytest.raises(Misconfigured, match=r"damaged|cannot open"):
            Database.open(home)


def test_two_gateways_cannot_share_a_folder(tmp_path: Path) -> None:
    """The second is told what to do; after the first has closed it may come in."""
    first = Database.open(tmp_path / "home")
    with pytest.raises(Misconfigured, match=r"another gateway already uses.*--data"):
        Database.open(tmp_path / "home")
    first.close()

    Database.open(tmp_path / "home").close()


def test_files_are_private(database: Database) -> None:
    """The database, its log and its folder are for their owner only."""
    folder = database.path.parent

    assert folder.stat().st_mode & 0o077 == 0
    assert {path.name for path in folder.iterdir()} >= {"intertie.db", "intertie.db-wal", "intertie.db-shm"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("intertie.db*"))


def test_a_reader_sees_one_state_and_cannot_write(database: Database) -> None:
    """A transaction that began before a change does not see it."""
    with database.read() as reader:
        before = _number(reader)
        with database.write() as writer:
            _set(writer, 7)
        assert _number(reader) == before == 0
        with pytest.raises(sa.exc.OperationalError, match="readonly"):
            _set(reader, 8)
    with database.read() as reader:
        assert _number(reader) == 7


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    """All or nothing, and the next writer gets its turn."""
    with pytest.raises(KeyError), database.write() as connection:
        _change_and_fail(connection, "UPDATE revision SET number = 9")
    with database.write() as connection:
        assert _number(connection) == 0


def test_schema_changes_are_part_of_the_transaction(database: Database) -> None:
    """A migration that fails half-way leaves the schema as it was."""
    with pytest.raises(KeyError), database.write() as connection:
        _change_and_fail(connection, "CREATE TABLE half (id INTEGER)")
    with database.read() as connection:
        assert not sa.inspect(connection).has_table("half")


def test_writers_take_turns(database: Database) -> None:
    """Concurrent read-modify-write loses no update and never finds the database locked."""

    def add() -> None:
        for _ in range(20):
            with database.write() as connection:
                _set(connection, _number(connection) + 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.read() as connection:
        assert _number(connection) == 80


def test_a_writer_that_waits_too_long_is_told_so(database: Database) -> None:
    """Behind a stuck writer, callers get an answer instead of hanging."""
    with database.write(), pytest.raises(Overloaded, match="busy"), database.write(wait=0.01):
        pytest.fail("two writers at once")


def test_a_full_disk_is_an_overload_and_not_a_bug(database: Database) -> None:
    """F58: SQLite's own error is renamed at this border, and the transaction is undone."""
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # never below what is in use
    with pytest.raises(Overloaded, match="cannot be written"), database.write() as connection:
        connection.exec_driver_sql(f"CREATE TABLE big AS SELECT zeroblob({100 * 4096}) AS content")
    with database.read() as connection:
        assert _number(connection) == 0


def test_errors_do_not_show_values(database: Database) -> None:
    """A failing statement may hold a secret, and errors are logged."""
    with pytest.raises(sa.exc.IntegrityError) as caught, database.write() as connection:
        connection.execute(sa.insert(metadata.tables["organisations"]).values(id="canary", name=None, created_at=0))
    assert "canary" not in str(caught.value)


def test_closing_leaves_one_complete_file(database: Database) -> None:
    """The log is folded in, so the file alone can be copied."""
    with database.write() as connection:
        _set(connection, 5)
    database.close()

    assert {path.name for path in database.path.parent.iterdir()} == {"intertie.db", "gateway.lock"}
    again = Database.open(database.path.parent)
    with again.read() as connection:
        assert _number(connection) == 5
    again.close()


MOUNTS = r"""21 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:25 / /home rw shared:2 - nfs4 server:/home rw
31 30 0:26 / /home/local\040disk rw - ext4 /dev/vdb rw
32 21 0:27 / /mnt/share rw - cifs //server/share rw
33 21 0:28 / /mnt/ssh rw - fuse.sshfs host:/ rw
broken line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/intertie", None),
        ("/home/me/.intertie", "nfs4"),
        ("/home/local disk/x", None),
        ("/homely", None),
        ("/mnt/share", "cifs"),
        ("/mnt/ssh/a/b", "fuse.sshfs"),
    ],
)
def test_s14_a_network_mount_is_recognised(folder: str, kind: str | None) -> None:
    """The innermost mount that holds the folder decides."""
    assert sqlite.remote_mount(Path(folder), MOUNTS) == kind
