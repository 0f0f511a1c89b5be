"""The spool and its loader against `kill -9`, flipped bits, truncation and full disks: the books must balance."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from intertie.core.errors import LedgerUnavailable
from intertie.core.ledger import Opening, State
from intertie.store import ledger, migrations, segment
from intertie.store.database import Database
from intertie.store.ledger import Entry
from intertie.store.loader import Loader
from intertie.store.spool import Spool
from tests.support import scribe
from tests.support.accounts import opening, settlement

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("INTERTIE_TEST_KILLS", "60"))
SEED = 20_261_122
TMPFS = bool(int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) >> 21 & 1)
"""May this process mount a file system?"""


@pytest.fixture(scope="session")
def processes() -> multiprocessing.context.ForkServerContext:
    """Children that start in some milliseconds, without anything of this process in them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.scribe"])
    return context


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with a migrated, empty database."""
    _migrate(tmp_path)
    return tmp_path


def _migrate(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    database = Database.open(folder)
    migrations.upgrade(database)
    database.close()


# -- kill -9 ---------------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What the world was told over all lives."""

    begun: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    settled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Request -> attempts and cost."""
    recoveries: int = 0

    @classmethod
    def read(cls, notes: Path) -> Told:
        """All notes; the last one may be torn."""
        told = cls()
        for line in notes.read_text().splitlines():
            match line.split():
                case ["begin", request_id]:
                    told.begun.add(request_id)
                case ["opened", request_id]:
                    told.opened.add(request_id)
                case ["settled", request_id, attempts, cost]:
                    told.settled[request_id] = int(attempts), int(cost)
                case ["recovered", _]:
                    told.recoveries += 1
        return told


def test_F55_kill_9_at_random_moments_loses_and_repeats_nothing(
    home: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    """Each life starts on what the last one left, is killed during recovery or work, and the next goes on."""
    rng = random.Random(SEED)
    for number in range(KILLS):
        child = processes.Process(target=scribe.live, args=(home, number), daemon=True)
        child.start()
        if rng.random() < 0.8:
            _until_at_work(child, home / "notes", number)
            time.sleep(rng.uniform(0, 0.15))
        else:
            time.sleep(rng.uniform(0, 0.2))
        assert child.is_alive(), "the child failed by itself"
        child.kill()
        child.join()

    told = Told.read(home / "notes")
    database = Database.open(home)
    spool = Spool(home / "spool")
    recovery = Loader(spool, database).recover()
    entries = _entries(database)
    requests = {entry.request_id: entry for entry in entries if entry.kind == "request"}
    database.close()

    assert told.recoveries > KILLS // 2  # enough of them got to work
    assert told.opened - requests.keys() == set()  # nothing that was begun is dropped
    assert requests.keys() - told.begun == set()  # nothing is invented
    assert len(requests) == sum(entry.kind == "request" for entry in entries)
    for request_id, (attempts, cost) in told.settled.items():  # nothing that the world saw finished is estimated
        entry = requests[request_id]
        assert entry.state != State.RECOVERED, request_id
        assert (entry.attempts, entry.cost_micros) == (attempts, cost), request_id
    unfinished = [entry for request_id, entry in requests.items() if request_id not in told.settled]
    told_too_late = [entry for entry in unfinished if entry.state != State.RECOVERED]
    assert len(told_too_late) <= KILLS  # settled, and killed before it could say so
    assert all(entry.estimated for entry in unfinished if entry.state == State.RECOVERED)
    assert [each for each in recovery.damage if each.reason != "torn"] == []
    assert segment.listed(home / "spool") == []


def _until_at_work(child: multiprocessing.context.ForkServerProcess, notes: Path, number: int) -> None:
    """The child has recovered and begun its first request."""
    end = time.monotonic() + 20
    while not notes.exists() or f"req_{number}_" not in notes.read_text():
        assert time.monotonic() < end
        assert child.is_alive(), "the child failed by itself"
        time.sleep(0.01)


def _entries(database: Database) -> list[Entry]:
    """All entries, after a look whether they add up."""
    with database.read() as connection:
        assert list(ledger.problems(connection)) == []
        return ledger.entries(connection, "default", limit=10**7)


# -- flipped bits and truncation -------------------------------------------------------------------------------------


def _left_behind(folder: Path, requests: int) -> list[Path]:
    """The segments of a process that died with every third request in flight."""
    spool = Spool(folder, segment_bytes=8000)
    spool.start()
    for number in range(requests):
        spool.open(opening(f"req_{number}"))
        if number % 3:
            spool.settle(settlement(f"req_{number}"))
    spool.close()
    return [path for _, path in segment.listed(folder)]


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 5)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _blank(path: Path, rng: random.Random) -> None:
    """What a file system may show for pages that were never written."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    end = min(len(content), start + 4096)
    content[start:end] = bytes(end - start)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_flip, _truncate, _blank])
def test_F61_damage_anywhere_keeps_every_valid_record_and_says_what_is_lost(
    tmp_path: Path, damage: Callable[[Path, random.Random], None]
) -> None:
    """Thirty random damages each; what the intact lines say is in the books, and no more."""
    rng = random.Random(SEED)
    whole = tmp_path / "whole"
    whole.mkdir()
    _left_behind(whole, 60)
    _migrate(tmp_path / "empty")
    for number in range(30):
        home = tmp_path / str(number)
        shutil.copytree(tmp_path / "empty", home)
        shutil.copytree(whole, home / "spool")
        hit = rng.choice([path for _, path in segment.listed(home / "spool")])
        before = _records(hit)
        damage(hit, rng)
        lost = before - _records(hit)
        kept = [record for _, path in segment.listed(home / "spool") for record in _records(path)]
        database = Database.open(home)

        recovery = Loader(Spool(home / "spool"), database).recover()

        requests = {entry.request_id: entry.state for entry in _entries(database) if entry.kind == "request"}
        settled = {request_id for kind, request_id in kept if kind != Opening.__name__}
        begun = {request_id for _, request_id in kept}
        assert requests.keys() == begun
        assert {request_id for request_id, state in requests.items() if state != State.RECOVERED} == settled
        if lost and damage is not _truncate:  # a cut between two lines leaves no trace in the file
            assert {each.segment for each in recovery.damage} == {hit.name}
            assert segment.damaged(home / "spool") == list(recovery.damage)
        database.close()


def _records(path: Path) -> set[tuple[str, str]]:
    """Kind and request of each valid record."""
    bodies = segment.read(path.read_bytes(), segment=path.name).bodies
    return {(type(record).__name__, record.request_id) for record in map(segment.decoded, bodies)}


# -- full disks ------------------------------------------------------------------------------------------------------


def _until_refused(spool: Spool, prefix: str) -> list[str]:
    """Opens requests until the spool refuses; returns those it accepted."""
    accepted: list[str] = []

    def fill() -> None:
        while len(accepted) < 10_000:
            request_id = f"{prefix}_{len(accepted)}"
            spool.open(opening(request_id))
            accepted.append(request_id)

    with pytest.raises(LedgerUnavailable) as refused:
        fill()
    assert refused.value.retry_after
    return accepted


def _check_full(spool: Spool, loader: Loader, database: Database, make_room: Callable[[], None], *, both: bool) -> None:
    """The disk of the spool is about to be full, with `both` that of the database too; `make_room` ends that."""
    running = _until_refused(spool, "req_a")
    assert len(running) > 10
    for request_id in running:
        spool.settle(settlement(request_id))
    assert _until_refused(spool, "req_b") == []  # still refused
    if both:
        with pytest.raises(LedgerUnavailable):
            loader.flush(timeout=0.5)
        _entries(database)  # reading goes on
    else:
        loader.flush()
        assert {entry.request_id for entry in _entries(database)} == set(running)

    make_room()
    spool.open(opening("req_c"))
    spool.settle(settlement("req_c"))
    loader.flush(timeout=30)

    assert {entry.request_id for entry in _entries(database)} == {*running, "req_c"}
    assert {entry.state for entry in _entries(database)} == {State.OK}
    assert spool.statistics().unwritten == spool.statistics().unsettled == 0


def _with_limit(home: Path, size: int) -> None:
    """In a child: no file of this process may grow beyond `size`, until there is room again."""
    database = Database.open(home)
    spool = Spool(home / "spool")
    loader = Loader(spool, database, pause=0.01)
    spool.start()
    loader.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        _check_full(
            spool,
            loader,
            database,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
            both=True,
        )
    finally:
        loader.close()
        spool.close()
        database.close()


def test_F58_with_spool_and_database_full_work_is_refused_and_goes_on_by_itself_when_there_is_room(
    home: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    child = processes.Process(target=_with_limit, args=(home, 60_000), daemon=True)
    child.start()
    child.join(60)

    assert child.exitcode == 0
    assert segment.listed(home / "spool") == []


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [256 * 1024] if TMPFS else [])
def test_F58_with_only_the_spool_full_settlements_go_into_the_database_and_new_work_waits(
    home: Path, size: int
) -> None:
    """Runs where this process may mount a small file system."""
    database = Database.open(home)
    with _small_disk(home / "spool", size) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(size // 4 * 3))
        spool = Spool(disk)
        loader = Loader(spool, database, pause=0.01)
        spool.start()
        loader.start()
        try:
            _check_full(spool, loader, database, ballast.unlink, both=False)
        finally:
            loader.close()
            spool.close()
    database.close()
