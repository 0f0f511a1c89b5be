"""Kept answers on disk: one SQLite file of its own, compressed and encrypted, that may be lost at any time.

Used from one thread. Nothing in it is precious, so whatever is wrong with it, it is dropped and begun again; the
gateway neither stops nor waits for it.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from intertie.core.policy.answers import Kept, Selection, Space
from intertie.store.sqlite import ENGINE, private_file

T = TypeVar("T")

FILL: Final = 0.85
"""Part of the bound that entries may take; the rest is for the engine's own pages and its log."""

AFTER_EVICTION: Final = 0.95
"""Part of what may be filled that is left after an eviction, so that not every entry evicts one."""

ROOM: Final = 512
"""Bytes an entry takes in the file besides its sealed body, about."""

_LAYOUT: Final = 1
"""Changed whenever tables or the form of entries change; a file of another layout is begun again."""

_PAGE: Final = 4096
_NONCE: Final = 12
_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 256",
    "PRAGMA journal_size_limit = 1048576",
    "PRAGMA mmap_size = 0",
    "PRAGMA busy_timeout = 1000",
)
_TABLE: Final = (
    """CREATE TABLE IF NOT EXISTS entries (
        key BLOB PRIMARY KEY, space TEXT NOT NULL, organisation TEXT NOT NULL, route TEXT NOT NULL,
        size INTEGER NOT NULL, expires REAL NOT NULL, used REAL NOT NULL, sealed BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ix_entries_used ON entries (space, used, size)",
    "CREATE INDEX IF NOT EXISTS ix_entries_expires ON entries (expires)",
)


class AnswerFile:
    """The file. `report` is called with a line of text when it had to be dropped or cannot be used.

    No method raises; one that fails does nothing and notes why in `failure`.
    """

    def __init__(self, path: Path, limit: int, secret: bytes, report: Callable[[str], None]) -> None:
        self._path = path
        self._limit = limit
        self._cipher = AESGCM(secret)
        self._report = report
        self._connection: Any = None
        self.entries = 0
        self.bytes = 0
        """Of all entries, as they count against the bound."""
        self.resets = 0
        """How often it was damaged and begun again."""
        self.failure = ""
        """Why the last operation failed; empty if it did not."""

    def __repr__(self) -> str:
        return f"<AnswerFile {self._path} {self.entries} entries>"

    def get(self, key: bytes, now: float) -> Kept | None:
        """The entry, used now. One that was altered is dropped."""

        def look(connection: Any) -> Kept | None:
            row = connection.execute("SELECT sealed FROM entries WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            try:
                kept = self._opened(key, row[0])
            except (InvalidTag, ValueError, zlib.error, msgspec.DecodeError):
                self._delete(connection, "key = ?", (key,))
                return None
            connection.execute("UPDATE entries SET used = ? WHERE key = ?", (now, key))
            return kept

        return self._tried(look)

    def put(self, key: bytes, kept: Kept, now: float) -> None:
        """Add or replace the entry; the least used ones make room for it."""
        sealed = self._sealed(key, kept)
        size = len(sealed) + ROOM
        if size > self._limit * FILL / 4:
            return

        def write(connection: Any) -> None:
            self._make_room(connection, size, now)
            connection.execute("BEGIN IMMEDIATE")
            self._delete(connection, "key = ?", (key,))
            row = (key, kept.space.value, kept.organisation, kept.route, size, kept.expires_at, now, sealed)
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
            self.entries += 1
            self.bytes += size

        self._tried(write)

    def clear(self, which: Selection) -> int:
        """Forget the entries chosen; how many there were."""
        words, values = ["organisation = ?", "space = ?"], [which.organisation, which.space.value]
        if which.route is not None:
            words.append("route = ?")
            values.append(which.route)
        if which.prefix is not None:
            words.append("substr(route, 1, length(?)) = ?")
            values += [which.prefix, which.prefix]
        parameters: tuple[str | bytes, ...] = tuple(values)
        if which.key is not None:
            words.append("key = ?")
            parameters += (which.key,)

        def forget(connection: Any) -> int:
            return self._delete(connection, " AND ".join(words), parameters)

        return self._tried(forget) or 0

    def close(self) -> None:
        """Put the log into the file and let go of it."""
        if self._connection is not None:
            with contextlib.suppress(ENGINE.Error):
                self._connection.close()
            self._connection = None

    # -- inside ------------------------------------------------------------------------------------------------------

    def _tried(self, work: Callable[[Any], T]) -> T | None:
        """The result of `work`; `None` if the file cannot do it. A damaged file is begun again."""
        try:
            if self._connection is None:
                self._open()
            result = work(self._connection)
        except ENGINE.OperationalError as error:
            # Locked, full, or the disk itself fails: nothing that beginning again would mend.
            self._failed(str(error))
            self.close()  # which rolls back
            return None
        except ENGINE.Error as error:
            self._begin_again(str(error))
            return None
        except OSError as error:
            self._failed(str(error))
            return None
        self.failure = ""
        return result

    def _open(self) -> None:
        private_file(self._path)
        connection = ENGINE.connect(str(self._path), isolation_level=None, check_same_thread=False)
        self._connection = connection
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        for line in _SETTINGS:
            connection.execute(line).fetchall()
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and found != _LAYOUT:
            raise ENGINE.DatabaseError(f"layout {found}")
        for line in _TABLE:
            connection.execute(line)
        connection.execute(f"PRAGMA user_version = {_LAYOUT}")
        connection.execute(f"PRAGMA max_page_count = {max(64, self._limit // _PAGE)}").fetchall()
        count, size = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM entries").fetchone()
        self.entries, self.bytes = count, size

    def _begin_again(self, reason: str) -> None:
        self.close()
        self.resets += 1
        self.entries = self.bytes = 0
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()
        self._failed(reason)
        self._report(f"the kept answers in {self._path.name} were damaged and are dropped: {reason}")

    def _failed(self, reason: str) -> None:
        if not self.failure:
            self._report(f"kept answers cannot use the disk, memory goes on: {reason}")
        self.failure = reason

    def _make_room(self, connection: Any, size: int, now: float) -> None:
        """Expired entries go first, then the least used; what idempotency keys keep goes last."""
        bound = self._limit * FILL
        if self.bytes + size <= bound:
            return
        self._delete(connection, "expires <= ?", (now,))
        excess = self.bytes + size - int(bound * AFTER_EVICTION)
        for space in (Space.CACHE, Space.IDEMPOTENCY):
            doomed: list[tuple[int]] = []
            rows = connection.execute("SELECT rowid, size FROM entries WHERE space = ? ORDER BY used", (space.value,))
            for rowid, entry in rows:
                if excess <= 0:
                    break
                doomed.append((rowid,))
                excess -= entry
            rows.close()
            connection.execute("BEGIN IMMEDIATE")
            for (rowid,) in doomed:
                self._delete(connection, "rowid = ?", (rowid,))
            connection.execute("COMMIT")

    def _delete(self, connection: Any, where: str, values: tuple[Any, ...]) -> int:
        """Delete and count; `where` is text of this module."""
        query = f"DELETE FROM entries WHERE {where} RETURNING size"  # noqa: S608
        sizes = [row[0] for row in connection.execute(query, values).fetchall()]
        self.entries -= len(sizes)
        self.bytes -= sum(sizes)
        return len(sizes)

    def _sealed(self, key: bytes, kept: Kept) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, zlib.compress(msgspec.msgpack.encode(kept), 1), key)

    def _opened(self, key: bytes, sealed: bytes) -> Kept:
        packed = zlib.decompress(self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], key))
        return msgspec.msgpack.decode(packed, type=Kept)
