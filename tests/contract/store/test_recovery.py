"""What a killed process left behind is in the books after the next start (S14, F55, F61)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from intertie.core.errors import Overloaded
from intertie.core.ledger import State
from intertie.core.terms import Price
from intertie.store import ledger, segment
from intertie.store.database import Database
from intertie.store.ledger import Entry
from intertie.store.loader import Loader
from intertie.store.recovery import ERROR, Recovery
from intertie.store.segment import Damage, Record
from intertie.store.spool import Spool
from tests.support.accounts import STARTED, opening, progress, settlement

Restart = Callable[[], Recovery]


@pytest.fixture
def restart(make_spool: Callable[..., Spool], database: Database) -> Restart:
    """Starts again on what lies in the folder."""
    return lambda: Loader(make_spool(), database).recover()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the killed process had its spool."""
    made = tmp_path / "spool"
    made.mkdir()
    return made


def _leave(folder: Path, *records: Record, number: int = 1) -> Path:
    path = segment.path_of(folder, number)
    path.write_bytes(b"".join(map(segment.frame, records)))
    return path


def _entries(database: Database) -> list[Entry]:
    with database.read() as connection:
        assert list(ledger.problems(connection)) == []
        return ledger.entries(connection, "default", limit=1000)


def _segments(folder: Path) -> list[Path]:
    """Those with something in them."""
    return [path for _, path in segment.listed(folder) if path.stat().st_size]


def test_a_settled_request_is_loaded(folder: Path, database: Database, restart: Restart) -> None:
    _leave(folder, opening(), settlement())

    found = restart()

    assert (found.settled, found.recovered, found.damage) == (1, 0, ())
    assert [entry.id for entry in _entries(database)] == ["req_1/1", "req_1"]
    assert _segments(folder) == []


def test_whose_key_it_was_survives_a_crash(folder: Path, database: Database, restart: Restart) -> None:
    """In flight or settled; a record of a version that knew no members is nobody's."""
    anna = "anna@example.com"
    _leave(
        folder, opening(member=anna), opening("req_2"), opening("req_3", member=anna), settlement("req_3", member=anna)
    )
    assert b"member" not in segment.frame(opening("req_2"))

    restart()

    assert {entry.id: entry.member for entry in _entries(database) if entry.kind == "request"} == {
        "req_1": anna,
        "req_2": None,
        "req_3": anna,
    }


def test_S14_a_request_in_flight_is_charged_its_input_and_its_last_checkpoint(
    folder: Path, database: Database, restart: Restart
) -> None:
    _leave(folder, opening(input_estimate=120), progress(output=30), progress(output=70))

    found = restart()

    attempt, request = _entries(database)
    assert (found.settled, found.recovered) == (0, 1)
    assert request.state == attempt.state == State.RECOVERED
    assert request.error == ERROR
    assert request.estimated
    assert (request.input_tokens, request.output_tokens) == (120, 70)
    assert request.cost_micros == 120 * 2.5 + 70 * 10


def test_T61_a_request_in_flight_at_an_unknown_price_has_an_unknown_cost(
    folder: Path, database: Database, restart: Restart
) -> None:
    _leave(folder, opening(price=None))
    restart()

    assert [entry.cost_micros for entry in _entries(database)] == [None, None]


def test_an_attempt_that_failed_is_charged_nothing_though_no_other_followed(
    folder: Path, database: Database, restart: Restart
) -> None:
    """The process died while the next try waited. What the attempt had reserved was others' to take by then."""
    _leave(folder, opening(n=1), progress(output=0, failed=True))
    restart()

    attempt, request = _entries(database)
    assert (attempt.input_tokens, attempt.cost_micros) == (0, 0)
    assert (request.state, request.cost_micros) == (State.RECOVERED, 0)


@pytest.mark.parametrize("failed", [1, 2])
def test_of_two_under_way_the_one_that_had_failed_is_charged_nothing(
    folder: Path, database: Database, restart: Restart, failed: int
) -> None:
    """And the other one is not beaten by it."""
    _leave(folder, opening(n=1), opening(n=2, upstream="lab", hedge=True), progress(n=failed, output=0, failed=True))
    restart()

    attempts = _entries(database)[:2]
    assert {one.state for one in attempts} == {State.RECOVERED}
    assert [one.input_tokens for one in attempts] == ([0, 120] if failed == 1 else [120, 0])


def test_a_recovered_request_began_when_it_began(folder: Path, restart: Restart, database: Database) -> None:
    """Not with its first attempt: its quotas were taken before, maybe in the window before."""
    _leave(folder, opening(started_at=STARTED + 90.0, asked_at=STARTED))
    restart()

    attempt, request = _entries(database)
    assert (attempt.started_at, request.started_at) == (STARTED + 90.0, STARTED)


def test_a_request_in_flight_on_a_node_is_recovered_with_the_nodes_name(
    folder: Path, database: Database, restart: Restart
) -> None:
    """What it would have cost elsewhere does not matter: the machine was free, and its name is known."""
    _leave(folder, opening(upstream="rig", node="rig", price=Price(0, 0)), progress(output=30))
    restart()

    attempt, request = _entries(database)
    assert (attempt.node, attempt.upstream, attempt.state) == ("rig", "rig", State.RECOVERED)
    assert (request.output_tokens, request.cost_micros, request.node) == (30, 0, None)


def test_an_attempt_that_was_followed_by_another_is_charged_nothing(
    folder: Path, database: Database, restart: Restart
) -> None:
    """It failed before any output, or the next one would not have begun."""
    _leave(folder, opening(n=1), opening(n=2, upstream="lab"), progress(n=2, output=5))
    restart()

    first, second, request = _entries(database)
    assert (first.input_tokens, first.cost_micros) == (0, 0)
    assert (second.upstream, second.input_tokens, second.output_tokens) == ("lab", 120, 5)
    assert request.attempts == 2


@pytest.mark.parametrize("output", [0, 7])
def test_s8_of_two_attempts_under_way_together_one_is_the_callers(
    folder: Path, database: Database, restart: Restart, output: int
) -> None:
    """The one that had output, else the first. The other may cost its input, and the operator bears it."""
    records = [opening(n=1), opening(n=2, upstream="lab", hedge=True)]
    _leave(folder, *records, *([progress(n=2, output=output)] if output else []))
    restart()

    first, second, request = _entries(database)
    states = [State.BEATEN, State.RECOVERED] if output else [State.RECOVERED, State.BEATEN]
    assert [first.state, second.state] == states
    assert (first.input_tokens, second.input_tokens, second.output_tokens) == (120, 120, output)
    assert (request.input_tokens, request.output_tokens, request.attempts) == (120, output, 2)


def test_a_copy_in_flight_is_recovered_as_a_copy(folder: Path, database: Database, restart: Restart) -> None:
    """And costs its caller nothing after a crash either."""
    _leave(folder, opening("req_1.s1", shadow_of="req_1"), progress("req_1.s1", output=3))
    restart()

    attempt, shadow = _entries(database)
    assert (shadow.kind, shadow.shadow_of, attempt.shadow_of) == ("shadow", "req_1", "req_1")
    assert (shadow.state, shadow.input_tokens, shadow.output_tokens) == (State.RECOVERED, 120, 3)


def test_opening_and_settlement_may_lie_in_different_segments(
    folder: Path, database: Database, restart: Restart
) -> None:
    _leave(folder, opening("req_1"), opening("req_2"), number=1)
    _leave(folder, opening("req_1"), opening("req_2"), settlement("req_1"), number=2)

    found = restart()

    assert (found.segments, found.settled, found.recovered) == (2, 1, 1)


def test_what_is_in_the_books_already_stays_as_it_is(folder: Path, database: Database, restart: Restart) -> None:
    """Loaded before the kill, but the segment was not yet removed; or settled in memory while the disk was full."""
    with database.write() as connection:
        bodies = [segment.frame(each)[9:-1] for each in (settlement("req_1"), settlement("req_2"))]
        ledger.insert(connection, bodies)
    before = _entries(database)
    _leave(folder, opening("req_1"), settlement("req_1"), opening("req_2"))

    found = restart()

    assert (found.settled, found.recovered) == (0, 0)
    assert _entries(database) == before


def test_F55_recovery_may_be_killed_anywhere_and_repeated(
    folder: Path, database: Database, restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = (opening("req_1"), settlement("req_1"), opening("req_2"), progress("req_2"))
    _leave(folder, *records)

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(segment, "put_away", killed)
        with pytest.raises(Killed):
            restart()
    before = _entries(database)
    found = restart()

    assert len(before) == 4
    assert (found.settled, found.recovered) == (0, 0)
    assert _entries(database) == before
    assert _segments(folder) == []


def test_S13_nothing_is_removed_while_the_database_cannot_be_written(
    folder: Path, database: Database, restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = _leave(folder, opening(), settlement())
    content = left.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(database, "_turn", _Taken())
        with pytest.raises(Overloaded):
            restart()

    assert left.read_bytes() == content
    assert restart().settled == 1


class _Taken:
    """A lock that somebody else never gives back."""

    def acquire(self, *, timeout: float) -> bool:
        return False


def test_F61_damage_costs_its_own_record_and_is_reported_and_kept(
    folder: Path, database: Database, restart: Restart
) -> None:
    path = _leave(folder, opening("req_1"), settlement("req_1"), opening("req_2"), settlement("req_2"))
    content = bytearray(path.read_bytes())
    start = content.index(b'{"type":"settle","request_id":"req_1"') - 9
    content[start + 300] ^= 4
    path.write_bytes(content)

    found = restart()

    length = content.index(b"\n", start) - start
    assert found.damage == (Damage(path.name, start, length, "checksum"),)
    assert f"{path.name}: {length} bytes at offset {start}" in str(found)
    assert (found.settled, found.recovered) == (1, 1)
    states = {entry.request_id: entry.state for entry in _entries(database)}
    assert states == {"req_1": State.RECOVERED, "req_2": State.OK}
    (aside,) = (folder / segment.DAMAGED).glob("*.spool")
    assert aside.read_bytes() == content
    assert segment.damaged(folder) == list(found.damage)


def test_F61_a_torn_tail_is_reported_and_kept(folder: Path, database: Database, restart: Restart) -> None:
    path = _leave(folder, opening("req_1"), settlement("req_1"))
    path.write_bytes(path.read_bytes() + segment.frame(opening("req_2"))[:100])

    found = restart()

    assert [(each.reason, each.length) for each in found.damage] == [("torn", 100)]
    assert len(_entries(database)) == 2


def test_F61_a_missing_segment_is_reported(folder: Path, database: Database, restart: Restart) -> None:
    _leave(folder, settlement("req_1"), number=4)
    _leave(folder, settlement("req_3"), number=6)

    found = restart()

    assert [each.reason for each in found.damage] == ["missing"]
    assert "0000000004.spool and 0000000006.spool" in str(found)
    assert segment.damaged(folder) == list(found.damage)


def test_F61_a_line_this_version_cannot_read_is_reported_and_kept(
    folder: Path, database: Database, restart: Restart
) -> None:
    path = _leave(folder, settlement("req_1"))
    body = b'{"type":"reservation","request_id":"req_2"}'
    start = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"%08x %b\n" % (crc32(body), body))

    found = restart()

    assert found.damage == (Damage(path.name, start, len(body) + 10, "refused"),)
    assert found.settled == 1


def test_an_empty_folder_is_nothing_to_recover(restart: Restart) -> None:
    assert restart() == Recovery()
