"""Kept answers: memory in front, a file behind it that one thread reads and writes; the event loop never waits."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from intertie.core.policy.answers import CacheStatistics, Kept, Selection, Space
from intertie.store.answer_file import AnswerFile

WAITING: Final = 64
"""Operations that may wait for the disk; past it, in the cache, a read is a miss and a write is dropped."""

SHARE: Final = 4
"""No entry takes more than this part (a quarter) of the memory."""

FILE: Final = "answers.db"


class Bounds(NamedTuple):
    """Bytes; 0 does without."""

    memory: int
    disk: int


class StoredAnswers:
    """The port `dataplane.ports.ResponseCache`. `secret` (32 bytes) encrypts what is on disk.

    Call from the event loop only.
    """

    def __init__(
        self,
        folder: Path,
        bounds: Bounds,
        secret: bytes,
        *,
        report: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limit = bounds.memory
        self._memory: OrderedDict[bytes, Kept] = OrderedDict()
        self._bytes = 0
        self._disk_limit = bounds.disk
        self._file = AnswerFile(folder / FILE, bounds.disk, secret, report) if bounds.disk else None
        self._thread = ThreadPoolExecutor(1, "kept-answers")
        self._clock = clock
        self._waiting = 0
        self._dropped = 0
        self._writing: dict[bytes, Kept] = {}
        self._clearings = 0

    def __repr__(self) -> str:
        return f"<StoredAnswers {len(self._memory)} in memory, {self._file!r}>"

    @property
    def clearings(self) -> int:
        """How often answers were cleared."""
        return self._clearings

    def remembered(self, key: bytes) -> Kept | None:
        """What memory has, or is on its way to the disk."""
        kept = self._memory.get(key)
        if kept is None:
            return self._writing.get(key)
        self._memory.move_to_end(key)
        return kept

    async def get(self, key: bytes, space: Space = Space.CACHE) -> Kept | None:
        """What memory or the disk has. Nothing if the disk fails, is damaged or, for the cache, too busy."""
        kept = self.remembered(key)
        file = self._file
        if kept is not None or file is None or not self._queue(space):
            return kept
        clearings = self._clearings
        try:
            kept = await asyncio.get_running_loop().run_in_executor(self._thread, file.get, key, self._clock())
        finally:
            self._waiting -= 1
        if kept is None or clearings != self._clearings:
            return self.remembered(key)  # it may have come meanwhile
        self._remember(key, kept)
        return kept

    async def put(self, key: bytes, kept: Kept) -> None:
        """Keep it; returns when it survives the death of the process, or cannot be made to."""
        self._remember(key, kept)
        file = self._file
        if file is None or not self._queue(kept.space):
            return
        self._writing[key] = kept
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, file.put, key, kept, self._clock())
        finally:
            self._waiting -= 1
            if self._writing.get(key) is kept:
                del self._writing[key]

    async def clear(self, which: Selection) -> int:
        """Forget the answers chosen, and those on their way; how many there were."""
        self._clearings += 1
        gone = [key for key, kept in self._memory.items() if which.has(key, kept)]
        for key in gone:
            self._bytes -= self._memory.pop(key).size
        for key in [key for key, kept in self._writing.items() if which.has(key, kept)]:
            del self._writing[key]
        if self._file is None:
            return len(gone)
        # Behind every write that was begun before.
        cleared = await asyncio.get_running_loop().run_in_executor(self._thread, self._file.clear, which)
        return max(cleared, len(gone))

    def statistics(self) -> CacheStatistics:
        """Numbers of this moment."""
        file = self._file
        return CacheStatistics(
            memory_entries=len(self._memory),
            memory_bytes=self._bytes,
            memory_limit=self._limit,
            disk_entries=file.entries if file is not None else 0,
            disk_bytes=file.bytes if file is not None else 0,
            disk_limit=self._disk_limit,
            dropped=self._dropped,
            resets=file.resets if file is not None else 0,
            failure=file.failure if file is not None else "",
        )

    def close(self) -> None:
        """Write what waits, and close the file. Blocks: not for an event loop."""
        self._thread.shutdown()
        if self._file is not None:
            self._file.close()

    def _remember(self, key: bytes, kept: Kept) -> None:
        old = self._memory.pop(key, None)
        if old is not None:
            self._bytes -= old.size
        if kept.size * SHARE > self._limit:
            return
        self._memory[key] = kept
        self._bytes += kept.size
        while self._bytes > self._limit:
            _, oldest = self._memory.popitem(last=False)
            self._bytes -= oldest.size

    def _queue(self, space: Space) -> bool:
        """May it wait for the disk? What an idempotency key has paid for always does, or it would be paid for again."""
        if self._waiting >= WAITING and space is Space.CACHE:
            self._dropped += 1
            return False
        self._waiting += 1
        return True
