"""One embedded database: one writer at a time, several readers, one process.

The data folder is locked while the database is open. Writers queue on a lock in this process instead of on SQLite's, so
they are served in turn and never see "database is locked".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import sqlalchemy as sa

from intertie.core.errors import Misconfigured, Overloaded
from intertie.store import sqlite

FILE: Final = "intertie.db"

Connection: TypeAlias = sa.Connection
"""An open transaction, handed by operations to the functions of `store`."""


class Database:
    """Open with `Database.open`. Thread-safe; calls block, so an event loop must call it on a thread."""

    def __init__(self, path: Path, *, readers: int) -> None:
        self.path = path
        self._held = ExitStack()
        self._writer = sqlite.engine(path, size=1, write=True)
        self._readers = sqlite.engine(path, size=readers, write=False)
        self._turn = threading.Lock()

    @classmethod
    def open(cls, folder: Path, *, readers: int = 4) -> Database:
        """Opens (or creates) the database in `folder`.

        Raises `Misconfigured` if another gateway holds the folder, it is on a network mount, the engine is too old, a
        durability setting did not take, or the file is damaged.
        """
        sqlite.refuse_remote(folder)
        path = folder / FILE
        with ExitStack() as stack:
            stack.enter_context(sqlite.claimed(folder))
            sqlite.private_file(path)
            database = cls(path, readers=readers)
            stack.callback(database._dispose)
            try:
                with database._writer.connect() as connection:
                    sqlite.check_health(connection)
            except sa.exc.DBAPIError as error:
                raise Misconfigured(f"cannot open the database {path}: {error.orig}") from error
            database._held = stack.pop_all()
        return database

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read-only transaction over one consistent state."""
        with self._readers.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, wait: float = 10.0) -> Iterator[sa.Connection]:
        """The write transaction: committed (and on disk) when the block ends, rolled back if it raises.

        Raises `Overloaded` if the turn does not come within `wait` seconds, or the disk refuses. Do not nest.
        """
        if not self._turn.acquire(timeout=wait):
            raise Overloaded("the database is busy", retry_after=1)
        try:
            with self._writer.connect() as connection, connection.begin():
                yield connection
        except sa.exc.OperationalError as error:
            raise Overloaded("the database cannot be written", detail=str(error.orig), retry_after=5) from error
        finally:
            self._turn.release()

    def copy(self, path: Path) -> None:
        """Online backup into a new file at `path`; writers and readers continue."""
        with self._readers.connect() as connection:
            sqlite.copy(connection, path)

    def close(self) -> None:
        """Moves the log into the file, closes every connection and releases the folder."""
        with self._turn, self._writer.connect() as connection:
            sqlite.checkpoint(connection)
        self._held.close()

    def _dispose(self) -> None:
        self._readers.dispose()
        self._writer.dispose()
