"""The loader beside a running spool: everything arrives once, whatever the database does meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from intertie.core.errors import LedgerUnavailable
from intertie.store import ledger, segment, sqlite
from intertie.store.database import Database
from intertie.store.ledger import Entry
from intertie.store.loader import Loader
from intertie.store.spool import Spool
from tests.support.accounts import opening, settlement

MakeLoader = Callable[..., Loader]


@pytest.fixture
def spool(make_spool: Callable[..., Spool]) -> Spool:
    return make_spool(segment_bytes=50_000)


@pytest.fixture
def make_loader(spool: Spool, database: Database) -> Iterator[MakeLoader]:
    """Makes started loaders that look at the spool when asked, or every 10 ms."""
    made: list[Loader] = []

    def make(**named: Any) -> Loader:
        loader = Loader(spool, database, **{"pause": 0.01, **named})
        loader.start()
        made.append(loader)
        return loader

    yield make
    for loader in made:
        loader.close()


def _entries(database: Database) -> list[Entry]:
    with database.read() as connection:
        assert list(ledger.problems(connection)) == []
        return ledger.entries(connection, "default", limit=100_000)


def _requests(database: Database) -> list[str]:
    return [entry.request_id for entry in _entries(database) if entry.kind == "request"]


@contextmanager
def _busy(database: Database) -> Iterator[None]:
    """Another program has locked the database file."""
    other = sqlite.engine(database.path, size=1, write=True)
    with other.connect() as connection, connection.begin():
        yield
    other.dispose()


def test_flush_brings_everything_settled_before_it_into_the_books(
    spool: Spool, database: Database, make_loader: MakeLoader
) -> None:
    loader = make_loader(pause=60)
    for number in range(500):
        spool.open(opening(f"req_{number}"))
        spool.settle(settlement(f"req_{number}"))
        if number % 100 == 0:
            loader.flush()
            assert len(_requests(database)) == number + 1
    loader.flush()

    assert _requests(database) == [f"req_{number}" for number in range(500)]
    assert loader.statistics().behind_bytes == 0


def test_without_anyone_asking_the_books_follow(spool: Spool, database: Database, make_loader: MakeLoader) -> None:
    make_loader()
    spool.settle(settlement())

    _until(lambda: _requests(database) == ["req_1"])


def test_loaded_segments_are_removed_while_it_runs(spool: Spool, make_loader: MakeLoader) -> None:
    loader = make_loader()
    for number in range(1000):
        spool.settle(settlement(f"req_{number}"))
    loader.flush()
    _until(lambda: spool.statistics().unsynced == 0)
    spool.settle(settlement("req_last"))
    loader.flush()

    assert len(segment.listed(spool.folder)) == 1


def test_writer_and_loader_side_by_side_lose_and_repeat_nothing(
    spool: Spool, database: Database, make_loader: MakeLoader
) -> None:
    loader = make_loader(pause=0.001)
    for number in range(3000):
        spool.open(opening(f"req_{number}"))
        if number >= 50:
            spool.settle(settlement(f"req_{number - 50}"))
    loader.flush()

    assert sorted(_requests(database)) == sorted(f"req_{number}" for number in range(2950))


def test_F59_a_locked_database_delays_the_books_and_loses_nothing(
    spool: Spool, database: Database, make_loader: MakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 20")
    loader = make_loader(report=reports.append)
    with _busy(database):
        for number in range(200):  # several segments
            spool.open(opening(f"req_{number}"))
            spool.settle(settlement(f"req_{number}"))
        with pytest.raises(LedgerUnavailable):
            loader.flush(timeout=0.3)
        assert loader.statistics().behind_bytes > 0
        assert "database is locked" in loader.statistics().failure
    loader.flush()

    assert len(_requests(database)) == 200
    assert loader.statistics().failure == ""
    assert [("the spool keeps it" in report) for report in reports] == [True]


def test_F58_settlements_that_the_disk_refuses_go_into_the_database_directly(
    spool: Spool, database: Database, make_loader: MakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = make_loader(pause=60)
    spool.open(opening("req_1"))
    spool.open(opening("req_2"))

    def full(_file: int, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("intertie.store.spool.os.write", full)
        spool.settle(settlement("req_1"))
        loader.flush()
        assert _requests(database) == ["req_1"]
    spool.open(opening("req_3"))
    with monkeypatch.context() as patch:
        patch.setattr("intertie.store.spool.os.write", full)
        spool.settle(settlement("req_2"))  # as many wait as before, but not the same
        loader.flush()
        assert _requests(database) == ["req_1", "req_2"]
    spool.open(opening("req_4"))
    loader.flush()

    assert _requests(database) == ["req_1", "req_2"]


def test_F61_damage_in_a_living_segment_is_reported_and_the_segment_kept(
    spool: Spool, database: Database, make_loader: MakeLoader
) -> None:
    reports: list[str] = []
    for number in range(200):
        spool.settle(settlement(f"req_{number}"))
    damaged = segment.listed(spool.folder)[0][1]
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    _until(lambda: spool.statistics().unsynced == 0)
    loader = make_loader(report=reports.append)
    loader.flush()

    assert len(_requests(database)) == 199
    assert loader.statistics().damaged == 1
    assert [f"{damaged.name}: " in report for report in reports] == [True]
    assert [each.segment for each in segment.damaged(spool.folder)] == [damaged.name]


def test_closing_loads_what_is_left(spool: Spool, database: Database, make_loader: MakeLoader) -> None:
    loader = make_loader(pause=60)
    time.sleep(0.02)
    spool.settle(settlement())
    loader.close()

    assert _requests(database) == ["req_1"]


def test_closing_does_not_wait_for_a_database_that_stays_locked(
    spool: Spool, database: Database, make_loader: MakeLoader
) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 20")
    loader = make_loader()
    with _busy(database):
        spool.settle(settlement())
        closing = threading.Thread(target=loader.close)
        closing.start()
        closing.join(5)
        assert not closing.is_alive()

    assert Loader(spool, database).statistics().behind_bytes == spool.total


def test_a_folder_closed_cleanly_is_empty(spool: Spool, make_loader: MakeLoader) -> None:
    loader = make_loader()
    for number in range(300):
        spool.open(opening(f"req_{number}"))
        spool.settle(settlement(f"req_{number}"))
    loader.close()
    spool.close()

    assert segment.listed(spool.folder) == []


def test_an_impossible_record_is_set_aside_and_the_rest_goes_on(
    spool: Spool, database: Database, make_loader: MakeLoader
) -> None:
    loader = make_loader(report=lambda _: None)
    spool.settle(settlement("req_1"))
    spool.settle(settlement("req_2", started_at=float("nan")))
    spool.settle(settlement("req_3"))
    loader.flush()

    assert _requests(database) == ["req_1", "req_3"]
    assert loader.statistics().damaged == 1


def test_a_reader_sees_a_request_with_all_its_attempts_or_not_at_all(
    spool: Spool, database: Database, make_loader: MakeLoader, tmp_path: Path
) -> None:
    make_loader(pause=0.0)
    for number in range(500):
        spool.settle(settlement(f"req_{number}"))
        with database.read() as connection:
            counts = connection.execute(
                sa.text("SELECT (SELECT coalesce(sum(attempts), 0) FROM requests), (SELECT count(*) FROM attempts)")
            ).one()
        assert counts[0] == counts[1]


def _until(true: Callable[[], bool]) -> None:
    """Waits for another thread, at most 5 s."""
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)
