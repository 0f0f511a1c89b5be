"""F61: whatever happened to a segment, valid records are kept and the rest is named."""

from __future__ import annotations

import random
from pathlib import Path

from intertie.store import segment
from intertie.store.segment import Damage
from tests.support.accounts import opening, progress, settlement

RECORDS: list[segment.Record] = [opening(), progress(), settlement(), opening("req_2"), settlement("req_2")]
LINES = [segment.frame(record) for record in RECORDS]
WHOLE = b"".join(LINES)


def _read(chunk: bytes) -> tuple[list[segment.Record], list[Damage]]:
    bodies, damage = segment.read(chunk, segment="x")
    return [segment.decoded(body) for body in bodies], damage


def test_records_come_back_as_they_were() -> None:
    assert _read(WHOLE) == (RECORDS, [])


def test_names_in_any_script_and_with_newlines_survive() -> None:
    odd = opening(project="zürich\n\r\u2028\t", key_name='"\\', route="模型")

    assert _read(segment.frame(odd)) == ([odd], [])


def test_F61_every_flipped_bit_is_noticed_and_costs_at_most_its_own_record() -> None:
    """Every bit of the third of five records, its newline included."""
    start = len(LINES[0]) + len(LINES[1])
    others = RECORDS[:2] + RECORDS[3:]
    for position in range(start, start + len(LINES[2])):
        for bit in range(8):
            flipped = bytearray(WHOLE)
            flipped[position] ^= 1 << bit

            records, damage = _read(bytes(flipped))

            assert [record for record in records if record != RECORDS[2]] == others, (position, bit)
            assert damage or records == RECORDS, (position, bit)  # a flipped newline loses nothing
            assert all(start <= each.offset < start + len(LINES[2]) for each in damage), (position, bit)


def test_F61_a_lost_newline_costs_no_record() -> None:
    joined = WHOLE.replace(b"}\n", b"}\x00", 1)

    records, _ = _read(joined)

    assert records == RECORDS


def test_F61_truncation_anywhere_keeps_every_whole_record_and_reports_the_torn_one() -> None:
    ends = [sum(map(len, LINES[:count])) for count in range(len(LINES) + 1)]
    for cut in range(len(WHOLE)):
        records, damage = _read(WHOLE[:cut])

        whole = sum(end <= cut + 1 for end in ends) - 1  # a record that lacks only its newline is whole
        assert records == RECORDS[:whole], cut
        if cut in ends or cut + 1 in ends:
            assert damage == [], cut
        else:
            assert damage == [Damage("x", ends[whole], cut - ends[whole], "torn")], cut


def test_F61_rubbish_in_between_is_reported_where_it_lies() -> None:
    rubbish = random.Random(1).randbytes(200).replace(b"\n", b"")
    start = len(LINES[0])

    records, damage = _read(LINES[0] + rubbish + b"\n" + LINES[1])

    assert records == RECORDS[:2]
    assert damage == [Damage("x", start, len(rubbish), "checksum")]


def test_a_segment_with_damage_is_moved_aside_with_a_note(tmp_path: Path) -> None:
    path = segment.path_of(tmp_path, 7)
    path.write_bytes(b"rubbish")
    lost = [Damage(path.name, 0, 7, "checksum")]

    segment.put_away(path, lost)

    assert segment.listed(tmp_path) == []
    assert segment.damaged(tmp_path) == lost
    assert [kept.read_bytes() for kept in (tmp_path / segment.DAMAGED).glob("*.spool")] == [b"rubbish"]


def test_a_loaded_segment_without_damage_is_removed(tmp_path: Path) -> None:
    path = segment.path_of(tmp_path, 7)
    path.write_bytes(WHOLE)

    segment.put_away(path)

    assert list(tmp_path.iterdir()) == []


def test_segments_are_listed_oldest_first_and_strangers_are_left_alone(tmp_path: Path) -> None:
    for number in (11, 9, 100):
        segment.path_of(tmp_path, number).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "x.spool").touch()

    assert [number for number, _ in segment.listed(tmp_path)] == [9, 11, 100]
