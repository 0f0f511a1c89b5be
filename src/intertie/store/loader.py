"""The thread that brings settlements from the spool into the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
import sqlalchemy as sa

from intertie.core.errors import LedgerUnavailable, Overloaded
from intertie.store import ledger, recovery, segment
from intertie.store.database import Database
from intertie.store.recovery import Recovery
from intertie.store.segment import SETTLED, Damage
from intertie.store.spool import Chunk, Spool

PAUSE: Final = 0.2
"""Seconds between two looks at the spool, unless a reader waits."""

CHUNK: Final = 1024 * 1024
"""Bytes of spool per transaction: about a thousand requests."""

SHARE: Final = 0.1
"""Part of a core this thread takes while requests are busy: a peak waits in the spool, not in the event loop's way."""

PATIENCE: Final = 32 * 1024 * 1024
"""Bytes of spool from which on it takes what it needs, so that a restart never has more to read."""

BREATHER: Final = 0.001
"""Seconds between two transactions even then, so that other writers get their turn."""


class LoaderStatistics(msgspec.Struct, frozen=True):
    """Numbers to read at 3 a.m."""

    loaded: int
    """Settlements brought into the database by this run."""
    behind_bytes: int
    behind_seconds: float
    """Since the loader was last at the end of the spool; 0 if it is there."""
    damaged: int
    """Records that could not be loaded; their segments are kept in `damaged/`."""
    failure: str
    """Why the last transaction failed; empty if it did not."""


class Loader:
    """Call `recover`, then `start`; `close` loads what is left. Everything it does may be repeated without harm.

    The engine takes the records apart inside one statement per table, so this thread leaves the interpreter to the
    event loop nearly all the time. `report` is called with a line of text when loading begins to fail or finds damage.
    """

    def __init__(
        self, spool: Spool, database: Database, *, report: Callable[[str], None] | None = None, pause: float = PAUSE
    ) -> None:
        self._spool = spool
        self._database = database
        self._report = report or (lambda _: None)
        self._pause = pause
        self._position = 0
        self._rescued: list[bytes] = []
        self._loaded = 0
        self._failure = ""
        self._damage: dict[str, list[Damage]] = {}
        self._damaged = 0
        self._at_end = time.monotonic()
        self._turn = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ledger-loader", daemon=True)

    def recover(self) -> Recovery:
        """Loads what earlier runs left in the spool and settles by estimate what was in flight. Before serving.

        Raises `Overloaded` if the database cannot be written: nothing is lost, but the gateway must not start.
        """
        return recovery.recover(self._spool.left_over(), self._database)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Loads what can be loaded and ends the thread. Call it before `Spool.close`."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def flush(self, timeout: float = 10.0) -> None:
        """Returns once everything settled before the call is in the database. Blocks: not for an event loop.

        Raises `LedgerUnavailable` if that takes longer than `timeout` seconds.
        """
        with self._turn:
            self._asked += 1
            mine = self._asked
            self._turn.notify_all()
            if not self._turn.wait_for(lambda: self._answered >= mine, timeout):
                raise LedgerUnavailable("the books are behind", detail=self._failure, retry_after=5)

    def statistics(self) -> LoaderStatistics:
        """A snapshot of the loader's state."""
        behind = self._spool.total - self._position
        return LoaderStatistics(
            loaded=self._loaded,
            behind_bytes=behind,
            behind_seconds=time.monotonic() - self._at_end if behind else 0.0,
            damaged=self._damaged,
            failure=self._failure,
        )

    def _run(self) -> None:
        while True:
            asked, stopping = self._asked, self._stopping  # before the pass, so that it covers who asked
            complete = self._pass()
            with self._turn:
                if complete:
                    self._answered = asked
                    self._turn.notify_all()
                if stopping:
                    return
                if not self._stopping and (self._asked == asked or not complete):
                    self._turn.wait(self._pause)

    def _pass(self) -> bool:
        """Loads all that is in the spool now; true if it could."""
        failure = ""
        try:
            end = self._spool.total
            while self._position < end and (chunk := self._spool.read(self._position, CHUNK)) is not None:
                began = time.thread_time()
                self._load(chunk)
                self._rest(time.thread_time() - began)
            self._rescue()
            self._at_end = time.monotonic()
        except (Overloaded, OSError, sa.exc.SQLAlchemyError) as error:
            failure = str(error)
        if failure and not self._failure:
            self._report(f"the ledger cannot be loaded, the spool keeps it: {failure}")
        self._failure = failure
        return not failure

    def _rest(self, worked: float) -> None:
        """Keeps to `SHARE` after `worked` seconds of work, unless somebody waits or the spool fills."""
        hurry = self._spool.total - self._position > min(PATIENCE, self._spool.max_bytes // 4)
        time.sleep(BREATHER)
        if not hurry:
            with self._turn:
                self._turn.wait_for(lambda: self._asked != self._answered or self._stopping, worked / SHARE - worked)

    def _load(self, chunk: Chunk) -> None:
        bodies, damage = segment.read(chunk.body, segment=chunk.segment, offset=chunk.offset)
        new, refused = ledger.load(self._database, [body for body in bodies if body.startswith(SETTLED)])
        damage += (segment.refused(chunk.body, body, chunk.segment, chunk.offset) for body in refused)
        if damage:
            self._damage.setdefault(chunk.segment, []).extend(damage)
            self._damaged += len(damage)
            self._report(f"records of the spool are damaged: {'; '.join(map(str, damage))}")
        self._loaded += new
        self._position = chunk.end
        self._spool.release(chunk.end, self._damage)

    def _rescue(self) -> None:
        """Loads settlements that the disk of the spool refuses, so that they outlive the process all the same."""
        lines = self._spool.unwritten()
        if lines != self._rescued:
            new, _ = ledger.load(self._database, segment.read(b"".join(lines), segment="memory").bodies)
            self._loaded += new
            self._rescued = lines
