"""One fsync for many records: a thread that makes what was appended survive power loss."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from intertie.core.errors import LedgerUnavailable

INTERVAL: Final = 0.005
"""Seconds between two fsyncs under load when nobody waits for them."""

SYNC: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


class GroupSync:
    """Follows the file that one writer appends to.

    The writer counts its records in `appended` and calls `wake` when it finds `idle` set; it calls `follow` with a new
    file. The thread holds the interpreter only for some microseconds around each fsync. After a failed fsync nothing
    can be promised any more (the kernel may have dropped the pages): `failure` stays set until the process restarts.
    """

    def __init__(self, folder: str, *, pause: float, sync: Callable[[int], None] = SYNC) -> None:
        self.appended = 0
        self.synced = 0
        self.idle = False
        self.failure = ""
        self._pause = pause
        self._sync = sync
        self._folder = folder
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._file = -1
        self._retired: list[int] = []
        self._folder_changed = False
        self._waiters: deque[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)

    def start(self) -> None:
        """Starts the thread. Call `follow` before."""
        self._thread.start()

    def stop(self) -> None:
        """Syncs what is left, closes the file and ends the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        with self._lock:
            for file in (*self._retired, self._file):
                os.close(file)
            self._retired, self._file = [], -1

    def follow(self, file: int) -> None:
        """From now on `file` is the one appended to; the one before it is synced and closed. Takes ownership."""
        with self._lock:
            if self._file >= 0:
                self._retired.append(self._file)
            self._file = file
            self._folder_changed = True

    def wake(self) -> None:
        """Tells an idle thread that there is something to sync."""
        self.idle = False
        self._wake.set()

    async def wait(self) -> None:
        """Returns once all records counted so far are synced. Raises `LedgerUnavailable` if that failed."""
        if self._failed():
            raise _unavailable(self.failure)
        if self.synced >= self.appended:
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiters.append((self.appended, loop, future))
        if self.idle:
            self.wake()
        if self._failed():  # the thread may have ended before it could see this waiter
            self._answer()
        await future

    def _failed(self) -> bool:
        return bool(self.failure)

    def _run(self) -> None:
        while not self.failure:
            if self.synced == self.appended and not self._folder_changed:
                if self._stopping:
                    break
                self.idle = True
                if self.synced == self.appended:  # else the writer appended before it could see `idle`
                    self._wake.wait()
                self._wake.clear()
                self.idle = False
            if self._pause and not self._stopping:
                time.sleep(self._pause)
            self._commit()
        self._answer()

    def _commit(self) -> None:
        with self._lock:  # a rotation between these lines would hide records in a file we do not sync
            target, retired, file = self.appended, self._retired, self._file
            self._retired, changed, self._folder_changed = [], self._folder_changed, False
        try:
            for old in retired:
                self._sync(old)
            self._sync(file)
            if changed:
                self._sync_folder()
        except OSError as error:
            self.failure = f"fsync of the spool failed: {error.strerror or error}"
        else:
            self.synced = target
        finally:
            for old in retired:
                os.close(old)
        self._answer()

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _answer(self) -> None:
        """Lets those go on whose records are synced; after a failure, all, with the error."""
        while self._waiters and (self.failure or self._waiters[0][0] <= self.synced):
            _, loop, future = self._waiters.popleft()
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_finish, future, self.failure)


def _finish(future: asyncio.Future[None], failure: str) -> None:
    if future.done():  # its owner was cancelled
        return
    if failure:
        future.set_exception(_unavailable(failure))
    else:
        future.set_result(None)


def _unavailable(failure: str) -> LedgerUnavailable:
    return LedgerUnavailable("the books cannot be made durable", detail=failure, retry_after=5)
