"""One fsync for many records, and what a failing one means (S14)."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from intertie.core.errors import LedgerUnavailable
from intertie.store.group_sync import GroupSync


class Disk:
    """Counts fsyncs, holds them back, fails them."""

    def __init__(self) -> None:
        self.synced: list[int] = []
        self.fails = False
        self.free = threading.Event()
        self.free.set()

    def sync(self, file: int) -> None:
        """Takes the place of fdatasync."""
        assert self.free.wait(10)
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fstat(file)  # raises if it is closed already
        self.synced.append(file)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def file(tmp_path: Path) -> int:
    return os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)


@pytest.fixture
def sync(tmp_path: Path, disk: Disk, file: int) -> Iterator[GroupSync]:
    made = GroupSync(str(tmp_path), pause=0.0, sync=disk.sync)
    made.follow(file)
    made.start()
    yield made
    disk.free.set()
    made.stop()


async def test_S14_nobody_goes_on_before_the_record_is_synced(sync: GroupSync, disk: Disk) -> None:
    disk.free.clear()
    sync.appended += 1
    waiting = asyncio.create_task(sync.wait())
    done, _ = await asyncio.wait([waiting], timeout=0.05)

    assert not done

    disk.free.set()
    await waiting
    assert sync.synced == 1


async def test_S14_records_appended_during_an_fsync_share_the_next_one(sync: GroupSync, disk: Disk) -> None:
    await _idle(sync)
    before = len(disk.synced)
    disk.free.clear()
    waiting = []
    for _ in range(64):
        sync.appended += 1
        waiting.append(asyncio.create_task(sync.wait()))
        await asyncio.sleep(0)
    disk.free.set()
    await asyncio.gather(*waiting)

    assert len(disk.synced) - before <= 2


async def test_a_waiter_of_synced_records_does_not_wait(sync: GroupSync, disk: Disk) -> None:
    sync.appended += 1
    await sync.wait()
    disk.free.clear()

    await asyncio.wait_for(sync.wait(), 1)


async def test_F57_after_a_failed_fsync_nothing_is_promised_again(sync: GroupSync, disk: Disk) -> None:
    """The kernel may have dropped the pages, so a later fsync that succeeds would prove nothing."""
    disk.fails = True
    sync.appended += 1
    with pytest.raises(LedgerUnavailable, match="Input/output error"):
        await sync.wait()
    disk.fails = False
    sync.appended += 1

    with pytest.raises(LedgerUnavailable):
        await sync.wait()


async def test_a_cancelled_waiter_disturbs_no_other(sync: GroupSync, disk: Disk) -> None:
    disk.free.clear()
    sync.appended += 1
    leaving, staying = asyncio.create_task(sync.wait()), asyncio.create_task(sync.wait())
    await asyncio.sleep(0)
    leaving.cancel()
    disk.free.set()

    await asyncio.wait_for(staying, 5)


async def test_a_file_is_synced_before_it_is_closed_for_the_next_one(
    sync: GroupSync, disk: Disk, file: int, tmp_path: Path
) -> None:
    await _idle(sync)
    following = os.open(tmp_path / "next", os.O_CREAT | os.O_WRONLY)
    disk.synced.clear()
    sync.appended += 1
    sync.follow(following)
    sync.appended += 1
    await sync.wait()

    assert disk.synced == [file, following]


async def test_an_idle_thread_syncs_nothing_until_it_is_woken(sync: GroupSync, disk: Disk) -> None:
    await _idle(sync)
    before = len(disk.synced)
    await asyncio.sleep(0.03)

    assert len(disk.synced) == before


async def _idle(sync: GroupSync) -> None:
    """The folder is synced and the thread sleeps."""
    async with asyncio.timeout(5):
        while not sync.idle:
            await asyncio.sleep(0.001)
