"""The spool as the data plane uses it: what is appended is there, and nothing is half accepted (S14, F57, F58)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from intertie.core.errors import LedgerUnavailable
from intertie.core.ledger import Opening, Progress, Settlement
from intertie.dataplane.ports import Ledger
from intertie.store import segment
from intertie.store.segment import Record
from intertie.store.spool import Spool
from tests.support.accounts import STARTED, opening, progress, settlement

Make = Callable[..., Spool]


def _on_disk(spool: Spool) -> list[Record]:
    """Every record in the files, in order; asserts that nothing else is there."""
    found: list[Record] = []
    for _, path in segment.listed(spool.folder):
        bodies, damage = segment.read(path.read_bytes(), segment=path.name)
        assert damage == []
        found += map(segment.decoded, bodies)
    return found


def _files(spool: Spool) -> list[int]:
    return [number for number, _ in segment.listed(spool.folder)]


def _fill(spool: Spool, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        spool.open(opening(f"req_{number}"))
        spool.settle(settlement(f"req_{number}"))


class Disk:
    """Stands between a spool and `os.write`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.stuck = False
        self._write, self._truncate = os.write, os.ftruncate
        monkeypatch.setattr("intertie.store.spool.os.write", self.write)
        monkeypatch.setattr("intertie.store.spool.os.ftruncate", self.truncate)

    def write(self, file: int, content: bytes) -> int:
        """Writes what there is room for; nothing if there is none."""
        if self.room is None:
            return self._write(file, content)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(file, content[: self.room])
        self.room -= written
        return written

    def truncate(self, file: int, length: int) -> None:
        """Gives room back, unless the disk is stuck."""
        if self.stuck:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._truncate(file, length)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_the_spool_is_a_ledger(make_spool: Make) -> None:
    ledger: Ledger = make_spool()

    assert isinstance(ledger, Spool)


def test_a_record_is_on_disk_when_the_method_returns(make_spool: Make) -> None:
    spool = make_spool()
    spool.open(opening())
    assert _on_disk(spool) == [opening()]

    spool.progress(progress())
    assert _on_disk(spool) == [opening(), progress()]

    spool.settle(settlement())
    assert _on_disk(spool) == [opening(), progress(), settlement()]


def test_the_files_are_readable_by_their_owner_only(make_spool: Make) -> None:
    spool = make_spool()

    modes = {path.stat().st_mode & 0o777 for path in (spool.folder, *spool.folder.iterdir())}
    assert modes == {0o700, 0o600}


def test_a_restart_writes_behind_what_is_there(make_spool: Make) -> None:
    first = make_spool()
    first.open(opening("req_1"))
    second = make_spool()
    second.open(opening("req_2"))

    assert [path.name for path in second.left_over()] == [path.name for _, path in segment.listed(first.folder)[:1]]
    assert [record.request_id for record in _on_disk(second)] == ["req_1", "req_2"]


def test_segments_rotate_and_carry_what_is_unsettled_with_its_last_checkpoint(make_spool: Make) -> None:
    spool = make_spool(segment_bytes=20_000)
    long = opening("req_long")
    spool.open(long)
    spool.progress(progress("req_long", output=10))
    spool.progress(progress("req_long", output=20))
    _fill(spool, 60)

    newest = segment.listed(spool.folder)[-1][1]
    records = [segment.decoded(body) for body in segment.read(newest.read_bytes(), segment="").bodies]
    assert len(_files(spool)) >= 3
    assert records[0] == long
    assert [record for record in records if isinstance(record, Progress)] == [progress("req_long", output=20)]


def test_a_segment_begins_with_exactly_what_is_unsettled_whichever_record_was_its_predecessors_last(
    make_spool: Make,
) -> None:
    """The record that fills a segment counts: an opening is carried over, the opening of a settlement is not."""
    spool = make_spool(segment_bytes=1)  # every record fills one
    spool.open(opening("req_1"))
    spool.open(opening("req_2"))
    spool.progress(progress("req_1"))
    spool.settle(settlement("req_1"))
    spool.open(opening("req_3"))

    found = [segment.read(path.read_bytes(), segment="").bodies for _, path in segment.listed(spool.folder)]
    one, two, three = opening("req_1"), opening("req_2"), opening("req_3")
    assert [[*map(segment.decoded, bodies)] for bodies in found] == [
        [one],
        [one, two],
        [one, two, progress("req_1")],
        [one, two, progress("req_1"), settlement("req_1")],
        [two, three],
        [two, three],
    ]


def test_loaded_segments_go_although_a_stream_that_began_in_them_still_runs(make_spool: Make) -> None:
    spool = make_spool(segment_bytes=20_000)
    spool.open(opening("req_long"))
    _fill(spool, 60)
    _until(lambda: spool.statistics().unsynced == 0)
    spool.release(spool.total)

    assert _files(spool) == [max(_files(spool))]
    assert opening("req_long") in _on_disk(spool)


def test_no_segment_goes_before_what_it_carried_over_is_synced(make_spool: Make) -> None:
    held: list[int] = []

    def refuse(file: int) -> None:
        held.append(file)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = make_spool(segment_bytes=20_000, sync=refuse)
    _until(lambda: bool(held))
    _settle_only(spool, 60)
    before = _files(spool)
    spool.release(spool.total)

    assert len(before) > 1
    assert _files(spool) == before


def test_reading_gives_every_line_once_whatever_the_limit(make_spool: Make) -> None:
    spool = make_spool(segment_bytes=20_000)
    _fill(spool, 60)
    for limit in (1, 700, 15_000, 10**9):
        position, found = 0, b""
        while (chunk := spool.read(position, limit)) is not None:
            assert chunk.body.endswith(b"\n")
            found += chunk.body
            position = chunk.end
        assert position == spool.total
        assert found == b"".join(path.read_bytes() for _, path in segment.listed(spool.folder))


def test_a_full_spool_refuses_new_work_and_still_settles_what_runs(make_spool: Make) -> None:
    spool = make_spool(max_bytes=3000)
    spool.open(opening("req_running"))
    _settle_only(spool, 6)

    with pytest.raises(LedgerUnavailable) as refused:
        spool.open(opening("req_new"))
    spool.settle(settlement("req_running"))

    assert refused.value.retry_after
    assert spool.failure == "the spool is full"
    assert settlement("req_running") in _on_disk(spool)

    spool.release(spool.total)
    spool.open(opening("req_new"))
    assert spool.failure == ""


def test_F58_an_opening_that_does_not_fit_is_refused_and_leaves_nothing_behind(make_spool: Make, disk: Disk) -> None:
    spool = make_spool()
    spool.open(opening("req_1"))
    disk.room = 100

    with pytest.raises(LedgerUnavailable) as refused:
        spool.open(opening("req_2"))

    assert refused.value.retry_after
    assert "No space left" in refused.value.detail
    assert _on_disk(spool) == [opening("req_1")]

    disk.room = None
    spool.open(opening("req_3"))
    assert _on_disk(spool) == [opening("req_1"), opening("req_3")]


def test_F58_a_settlement_is_kept_until_the_disk_takes_it_and_new_work_waits(make_spool: Make, disk: Disk) -> None:
    spool = make_spool()
    spool.open(opening("req_1"))
    spool.open(opening("req_2"))
    disk.room = 100
    spool.settle(settlement("req_1"))
    spool.settle(settlement("req_2"))

    assert spool.statistics().unwritten == 2
    assert [segment.decoded(line[9:-1]) for line in spool.unwritten()] == [settlement("req_1"), settlement("req_2")]
    with pytest.raises(LedgerUnavailable):
        spool.open(opening("req_3"))

    disk.room = None
    spool.open(opening("req_3"))

    assert [type(record) for record in _on_disk(spool)] == [Opening, Opening, Settlement, Settlement, Opening]
    assert spool.statistics().unsettled == 1


async def test_F58_nobody_is_told_that_a_settlement_in_memory_is_durable(make_spool: Make, disk: Disk) -> None:
    spool = make_spool(durability="fsync")
    spool.open(opening())
    disk.room = 0
    spool.settle(settlement())

    with pytest.raises(LedgerUnavailable):
        await spool.durable()


def test_F58_a_checkpoint_that_does_not_fit_is_left_out(make_spool: Make, disk: Disk) -> None:
    spool = make_spool()
    spool.open(opening())
    disk.room = 10
    spool.progress(progress())

    assert _on_disk(spool) == [opening()]


def test_F58_a_line_that_cannot_be_cut_back_ends_its_segment(make_spool: Make, disk: Disk) -> None:
    """Nothing may be appended behind half a line; the next segment takes over as soon as it can be opened."""
    spool = make_spool()
    spool.open(opening("req_1"))
    disk.room, disk.stuck = 100, True
    with pytest.raises(LedgerUnavailable):
        spool.open(opening("req_2"))
    spool.progress(progress("req_1"))
    disk.room, disk.stuck = None, False
    spool.settle(settlement("req_1"))
    spool.open(opening("req_3"))

    (_, broken), (_, whole) = segment.listed(spool.folder)
    first, second = (segment.read(path.read_bytes(), segment=path.name) for path in (broken, whole))
    assert [each.reason for each in first.damage] == ["torn"]
    assert [segment.decoded(body) for body in first.bodies] == [opening("req_1")]
    assert [segment.decoded(body) for body in second.bodies] == [
        *(opening("req_1"), settlement("req_1"), opening("req_3"))
    ]
    assert second.damage == []
    position = 0
    while (chunk := spool.read(position, 10**6)) is not None:
        position = chunk.end
        assert segment.read(chunk.body, segment="").damage == []


def test_F58_accounts_of_requests_that_sent_nothing_are_bounded(
    make_spool: Make, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only they can pile up: everything that reaches an upstream needs an opening, and none is accepted."""
    monkeypatch.setattr("intertie.store.spool.UNSENT_LIMIT", 3)
    spool = make_spool()
    spool.open(opening("req_sent"))
    disk.room = 0
    for number in range(5):
        spool.settle(settlement(f"req_{number}", attempts=()))
    spool.settle(settlement("req_sent"))

    assert spool.statistics().shed == 2
    assert spool.statistics().unwritten == 4


async def test_F57_a_failed_fsync_stops_new_work_for_good_but_not_settlements(make_spool: Make) -> None:
    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = make_spool(durability="fsync", sync=fail)
    _until(lambda: bool(spool.failure))

    with pytest.raises(LedgerUnavailable, match="books"):
        spool.open(opening())
    spool.settle(settlement())
    with pytest.raises(LedgerUnavailable):
        await spool.durable()
    assert "Input/output error" in spool.failure
    assert _on_disk(spool) == [settlement()]


async def test_durable_waits_for_the_disk_only_if_the_operator_asked_for_it(make_spool: Make) -> None:
    synced: list[int] = []
    eager = make_spool(durability="fsync", sync=synced.append)
    eager.open(opening())
    await eager.durable()

    assert eager.statistics().unsynced == 0

    relaxed = make_spool(durability="write", sync=lambda _: time.sleep(0.2))
    relaxed.open(opening())
    began = time.monotonic()
    await relaxed.durable()

    assert time.monotonic() - began < 0.1


def test_a_clean_end_leaves_no_segment(make_spool: Make) -> None:
    spool = make_spool()
    _fill(spool, 3)
    spool.release(spool.total)
    spool.close()

    assert _files(spool) == []


def test_an_end_with_a_request_in_flight_leaves_its_opening(make_spool: Make) -> None:
    spool = make_spool()
    spool.open(opening())
    spool.release(spool.total)
    spool.close()

    assert _on_disk(spool) == [opening()]


def test_after_the_end_nothing_is_accepted_and_no_foreign_file_is_written(make_spool: Make, tmp_path: Path) -> None:
    spool = make_spool()
    spool.close()
    with ExitStack() as strangers:
        for number in range(4):  # one of them gets the number of the spool's last file
            strangers.enter_context((tmp_path / str(number)).open("wb"))
        with pytest.raises(LedgerUnavailable):
            spool.open(opening())
        spool.settle(settlement())

    assert all(not (tmp_path / str(number)).stat().st_size for number in range(4))
    assert spool.statistics().unwritten == 1


def test_requests_forgotten_in_flight_can_be_found(make_spool: Make) -> None:
    spool = make_spool()
    spool.open(opening("req_old"))
    spool.progress(progress("req_old"))
    spool.open(opening("req_new", started_at=STARTED + 100))
    spool.open(opening("req_done"))
    spool.settle(settlement("req_done"))

    assert spool.unsettled(older_than=STARTED + 50) == [opening("req_old")]


def _settle_only(spool: Spool, count: int) -> None:
    for number in range(count):
        spool.settle(settlement(f"req_{number}"))


def _until(true: Callable[[], bool]) -> None:
    """Waits for another thread, at most 5 s."""
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)
