"""Everything particular to SQLite: the bundled engine, its settings (read back, never assumed), its folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from intertie.core.errors import Misconfigured

try:
    from pysqlite3 import dbapi2
except ImportError:  # there is no such wheel for this system; its own engine will do if it is new enough
    from sqlite3 import dbapi2

ENGINE: Final[Any] = dbapi2
"""The driver of the engine, for a file that is no database of records."""

OLDEST: Final = (3, 51, 3)
"""Older engines can corrupt a database in WAL mode when two connections write and checkpoint at once."""

BUSY_MS: Final = 5000

_SETTINGS: Final[tuple[tuple[str, str | int, object], ...]] = (
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("foreign_keys", "ON", 1),
    ("busy_timeout", BUSY_MS, BUSY_MS),
    ("mmap_size", 0, 0),
)

_REMOTE: Final = frozenset(
    {
        *(
            "9p",
            "afpfs",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "davfs",
            "glusterfs",
            "gpfs",
            "lustre",
            "ncpfs",
            "nfs",
            "nfs4",
        ),
        *("smb2", "smb3", "smbfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    }
)


def check_engine(version: tuple[int, ...]) -> None:
    """Raises `Misconfigured` if the SQLite engine is older than `OLDEST`."""
    if version < OLDEST:
        found, wanted = (".".join(map(str, v)) for v in (version, OLDEST))
        raise Misconfigured(
            f"SQLite {found} is too old, {wanted} is needed: install the pysqlite3 wheel, which bundles a newer one, "
            "or where there is none, run on a Python that was built with one"
        )


def engine(path: Path, *, size: int, write: bool) -> sa.Engine:
    """An engine with at most `size` pooled connections. A writing one takes the write lock at each BEGIN."""
    check_engine(dbapi2.sqlite_version_info)
    made = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        module=dbapi2,
        poolclass=sa.QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,  # they may be secrets, and errors are logged
    )
    begin = "BEGIN IMMEDIATE" if write else "BEGIN"

    @sa.event.listens_for(made, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver would begin late and never for DDL
        apply_settings(connection, read_only=not write)

    @sa.event.listens_for(made, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return made


def apply_settings(connection: Any, *, read_only: bool) -> None:
    """Sets the durability settings and reads each one back. Raises `Misconfigured` if one did not take."""
    for name, value, expected in _SETTINGS:
        connection.execute(f"PRAGMA {name} = {value}")
        found = connection.execute(f"PRAGMA {name}").fetchone()
        if found is None or found[0] != expected:
            got = found[0] if found else "nothing"
            raise Misconfigured(
                f"SQLite did not accept {name} = {value} (it says {got}): the file system may not support it"
            )
    if read_only:
        connection.execute("PRAGMA query_only = ON")


def check_health(connection: sa.Connection, *, thorough: bool = False) -> None:
    """Raises `Misconfigured` if the file is damaged; `thorough` also compares indexes and references with the rows."""
    found = [
        str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA {'integrity' if thorough else 'quick'}_check(5)")
    ]
    if thorough:
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        found += [f"{row[0]} refers to a row of {row[2]} that is missing" for row in lost[:5]]
    if found != ["ok"]:
        raise Misconfigured(f"the database is damaged ({'; '.join(found)}): restore a backup")


def checkpoint(connection: sa.Connection) -> None:
    """Moves the write-ahead log into the file, so that the file alone is complete. Outside any transaction."""
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy(source: sa.Connection, path: Path) -> None:
    """Online backup of the whole database into a new file at `path`, readable by its owner only."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(dbapi2.connect(str(path))) as copied:
        opened: Any = source.connection.driver_connection
        opened.backup(copied)


def private_file(path: Path) -> None:
    """Makes sure `path` exists with mode 0600 before SQLite opens it; its log files inherit the mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def remote_mount(path: Path, mounts: str) -> str | None:
    """The network file system that holds `path`, or None. `mounts` is the text of `/proc/self/mountinfo`."""
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 5 or not tail:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, tail[0]
    return kind if kind in _REMOTE else None


def refuse_remote(folder: Path) -> None:
    """Raises `Misconfigured` if `folder` is on a network file system, whose locks do not protect a database."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return  # only Linux tells cheaply
    if kind := remote_mount(folder.resolve(), mounts):
        raise Misconfigured(f"the data folder {folder} is on a network file system ({kind}): choose a local disk")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Holds the folder for this process. Raises `Misconfigured` if another gateway has it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "gateway.lock").open("a+") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            raise Misconfigured(
                f"another gateway already uses the data folder {folder}: stop it, or choose another folder with --data"
            ) from error
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
