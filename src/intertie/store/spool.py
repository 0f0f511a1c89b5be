"""The spool: where a request's account is written while the request runs, before it is loaded into the database.

Append-only segments in one folder. A record is one line, written by one `write`, so it outlives the process the moment
a record method returns. docs/explain/books.md tells the whole story.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from intertie.core.errors import LedgerUnavailable
from intertie.core.ledger import Opening, Progress, Settlement
from intertie.store import segment
from intertie.store.group_sync import INTERVAL, SYNC, GroupSync
from intertie.store.segment import Damage

Durability = Literal["write", "fsync"]

SEGMENT_BYTES: Final = 16 * 1024 * 1024
MAX_BYTES: Final = 256 * 1024 * 1024
UNSENT_LIMIT: Final = 10_000
"""Settlements kept in memory before those of requests that never reached an upstream are shed."""
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Chunk(msgspec.Struct, frozen=True):
    """Whole lines of one segment, ready to be loaded."""

    body: bytes
    segment: str
    """File name."""
    offset: int
    """Of `body` in the file."""
    end: int
    """Position after it, counted over all segments since the start."""


class SpoolStatistics(msgspec.Struct, frozen=True):
    """Numbers to read at 3 a.m."""

    segments: int
    unloaded_bytes: int
    unsettled: int
    """Requests in flight."""
    unwritten: int
    """Settlements that wait in memory because the disk refuses them."""
    shed: int
    """Accounts of requests without any attempt, lost because the disk refused too many of them."""
    unsynced: int
    """Records written but not yet synced."""
    failure: str
    """Why no new work is accepted; empty if it is."""


class _Segment:
    """One file of the current run. `start` and `end` count bytes over all segments since the start of the process."""

    __slots__ = ("end", "number", "path", "start")

    def __init__(self, number: int, path: Path, start: int) -> None:
        self.number = number
        self.path = path
        self.start = start
        self.end: int | None = None


class Spool:
    """Satisfies `dataplane.ports.Ledger`. The record methods belong to one thread, the event loop's; `read`,
    `release`, `unwritten`, `unsettled` and `statistics` may be called from another.

    `durability="write"` outlives the process, `"fsync"` makes `durable` wait for the disk as well. `max_bytes` bounds
    what lies here unloaded. `sync` and `segment_bytes` are for tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: Durability = "write",
        max_bytes: int = MAX_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        sync: Callable[[int], None] = SYNC,
    ) -> None:
        self.folder = folder
        self.durability = durability
        self.total = 0
        """Bytes appended since the start: a position in the spool."""
        self.max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._sync = GroupSync(str(folder), pause=INTERVAL if durability == "write" else 0.0, sync=sync)
        self._lock = threading.Lock()  # over `_segments` and `total` while the last segment changes
        self._segments: deque[_Segment] = deque()
        self._file = -1
        self._rotate_at = segment_bytes
        self._carried = 0
        self._released = 0
        self._broken = False
        self._closed = False
        self._shed = 0
        self._unwritten: deque[tuple[str, bytes]] = deque()
        self._unsettled: dict[str, bytes] = {}
        self._progress: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<Spool {self.folder} {self.statistics()}>"

    def start(self) -> None:
        """Opens a new segment after those left by earlier runs. Raises `OSError` if the folder cannot be written."""
        for folder in (self.folder, self.folder / segment.DAMAGED):
            folder.mkdir(mode=0o700, exist_ok=True)
        found = segment.listed(self.folder)
        self._open_segment(found[-1][0] + 1 if found else 1)
        self._sync.start()

    def close(self) -> None:
        """Syncs and ends. The last segment is removed if everything in it is loaded and settled."""
        self._retry()
        self._closed = True
        self._sync.stop()
        self._file = -1  # its number may soon be another file's
        spent = self._released >= self.total and not self._unsettled and not self._unwritten
        if spent and not self._sync.failure:
            for each in self._segments:
                each.path.unlink()
            self._segments.clear()

    # -- the ledger port ---------------------------------------------------------------------------------------------

    def open(self, record: Opening) -> None:
        """Appends before an attempt's first upstream byte. Raises `LedgerUnavailable` if it cannot be recorded."""
        if self._unwritten or self._broken or self._closed or self._sync.failure:
            self._mend()
        if self.total - self._released > self.max_bytes:
            raise LedgerUnavailable("the books are behind", detail="the spool is full", retry_after=5)
        line = segment.frame(record)
        try:
            self._append(line)
        except OSError as error:
            raise _unavailable(error) from error
        self._unsettled[record.request_id] = self._unsettled.get(record.request_id, b"") + line
        if self.total >= self._rotate_at:
            self._rotate()

    def progress(self, record: Progress) -> None:
        """Appends a checkpoint. One that cannot be written is left out: the next one says more."""
        if self._unwritten or self._broken or self._closed:
            return
        line = segment.frame(record)
        try:
            self._append(line)
        except OSError:
            return
        self._progress[record.request_id] = line
        if self.total >= self._rotate_at:
            self._rotate()

    def settle(self, record: Settlement) -> None:
        """Appends the final account. Never loses it: what the disk refuses is kept in memory, written as soon as the
        disk accepts, loaded into the database directly meanwhile; and no new work is accepted until then.
        """
        line = segment.frame(record)
        if self._unwritten or self._broken or self._closed:
            self._keep(record.request_id, line)
            self._retry()
            return
        try:
            self._append(line)
        except OSError:
            self._keep(record.request_id, line)
            return
        self._forget(record.request_id)
        if self.total >= self._rotate_at:
            self._rotate()

    async def durable(self) -> None:
        """Returns once all records appended so far are as durable as the operator asked for.

        Raises `LedgerUnavailable` if `durability` is `fsync` and that cannot be had.
        """
        if self.durability == "write":
            return
        if self._unwritten:
            raise LedgerUnavailable("the books cannot be written", detail="settlements wait in memory", retry_after=1)
        await self._sync.wait()

    # -- for the loader ----------------------------------------------------------------------------------------------

    def read(self, position: int, limit: int) -> Chunk | None:
        """Whole lines from `position` on, about `limit` bytes of one segment, or `None` at the end of the spool."""
        with self._lock:
            ends = [(each, self.total if each.end is None else each.end) for each in self._segments]
        for each, end in ends:
            if position < end:
                with each.path.open("rb") as file:
                    file.seek(position - each.start)
                    body = file.read(min(limit, end - position))
                    if not body.endswith(b"\n"):
                        body += file.readline()
                return Chunk(body, each.path.name, position - each.start, position + len(body))
        return None

    def release(self, position: int, damage: Mapping[str, Sequence[Damage]] = MappingProxyType({})) -> None:
        """Everything before `position` is committed in the database: puts away the segments not needed any more.

        `damage` is what was found in them, by file name.
        """
        self._released = position
        while len(self._segments) > 1 and self._sync.synced >= self._carried:
            oldest = self._segments[0]
            if oldest.end is None or oldest.end > position:
                return
            segment.put_away(oldest.path, damage.get(oldest.path.name, ()))
            with self._lock:
                self._segments.popleft()

    def unwritten(self) -> list[bytes]:
        """The lines that wait in memory because the disk refuses them."""
        return [line for _, line in tuple(self._unwritten)]

    def left_over(self) -> list[Path]:
        """Segments of earlier runs, oldest first."""
        mine = {each.path for each in self._segments}
        return [path for _, path in segment.listed(self.folder) if path not in mine]

    def unsettled(self, *, older_than: float) -> list[Opening]:
        """First openings of requests in flight that began before `older_than` (UTC seconds)."""
        found = []
        for lines in tuple(self._unsettled.values()):
            bodies = segment.read(lines, segment="memory").bodies
            first = segment.decoded(bodies[0])
            if isinstance(first, Opening) and first.started_at < older_than:
                found.append(first)
        return found

    @property
    def failure(self) -> str:
        """Why no new work is accepted; empty if it is."""
        if self._sync.failure:
            return self._sync.failure
        if self._unwritten or self._broken:
            return "the disk refuses the spool"
        return "the spool is full" if self.total - self._released > self.max_bytes else ""

    def statistics(self) -> SpoolStatistics:
        """A snapshot of the spool's state."""
        return SpoolStatistics(
            segments=len(self._segments),
            unloaded_bytes=self.total - self._released,
            unsettled=len(self._unsettled),
            unwritten=len(self._unwritten),
            shed=self._shed,
            unsynced=self._sync.appended - self._sync.synced,
            failure=self.failure,
        )

    # -- writing -----------------------------------------------------------------------------------------------------

    def _append(self, line: bytes) -> None:
        """One write of one line. Raises `OSError`, and then nothing of the line stays in the file.

        The caller rotates, but only after noting what the line means: a new segment carries what is unsettled.
        """
        try:
            written = os.write(self._file, line)
        except OSError:
            self._cut_back()
            raise
        if written != len(line):
            self._cut_back()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.total += written
        sync = self._sync
        sync.appended += 1
        if sync.idle:
            sync.wake()

    def _cut_back(self) -> None:
        """Removes a line written in part. If even that fails, the segment ends here and only a new one helps."""
        try:
            os.ftruncate(self._file, self.total - self._segments[-1].start)
        except OSError:
            self._broken = True

    def _mend(self) -> None:
        """Tries to leave the state in which new work is refused. Raises `LedgerUnavailable` if that fails."""
        if self._sync.failure:
            raise LedgerUnavailable("the books cannot be written", detail=self._sync.failure, retry_after=5)
        if self._closed:
            raise LedgerUnavailable("the gateway is stopping", retry_after=5)
        self._retry()
        if self._unwritten or self._broken:
            raise LedgerUnavailable("the books cannot be written", detail="the disk refuses the spool", retry_after=1)

    def _retry(self) -> None:
        """Writes what waits in memory, as far as the disk accepts it."""
        if self._closed:
            return
        if self._broken:
            self._rotate()
        while self._unwritten and not self._broken:
            request_id, line = self._unwritten[0]
            try:
                self._append(line)
            except OSError:
                return
            self._unwritten.popleft()
            self._forget(request_id)
            if self.total >= self._rotate_at:
                self._rotate()

    def _keep(self, request_id: str, line: bytes) -> None:
        """Holds a settlement in memory. Requests that sent nothing upstream cost nothing and are not limited by
        `open`, so those have a bound here.
        """
        if request_id in self._unsettled or len(self._unwritten) < UNSENT_LIMIT:
            self._unwritten.append((request_id, line))
        else:
            self._shed += 1

    def _forget(self, request_id: str) -> None:
        self._unsettled.pop(request_id, None)
        if self._progress:
            self._progress.pop(request_id, None)

    def _rotate(self) -> None:
        """Begins a new segment. If the disk refuses, stays with this one and tries again a little later."""
        try:
            self._open_segment(self._segments[-1].number + 1)
        except OSError:
            self._rotate_at = self.total + self._segment_bytes // 16
        else:
            self._broken = False

    def _open_segment(self, number: int) -> None:
        """Opens segment `number` and carries the openings that are still unsettled into it, so that older segments are
        needed for nothing but their settlements, however long a stream lasts.
        """
        path = segment.path_of(self.folder, number)
        carried = b"".join([*self._unsettled.values(), *self._progress.values()])
        file = os.open(path, _APPEND, 0o600)
        try:
            if carried and os.write(file, carried) != len(carried):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(file)
            path.unlink()
            raise
        with self._lock:
            if self._segments:
                self._segments[-1].end = self.total
            self._segments.append(_Segment(number, path, self.total))
            self.total += len(carried)
        self._file = file
        self._rotate_at = self.total + self._segment_bytes
        self._sync.follow(file)  # before counting: the thread must not take the old file for synced
        self._sync.appended += 1
        self._carried = self._sync.appended
        if self._sync.idle:
            self._sync.wake()


def _unavailable(error: OSError) -> LedgerUnavailable:
    return LedgerUnavailable("the books cannot be written", detail=error.strerror or str(error), retry_after=1)
