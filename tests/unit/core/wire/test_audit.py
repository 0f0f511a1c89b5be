"""The writer's side of the audit trail's format; `tests/unit/test_auditor.py` has the verifier's."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest

from intertie.core.wire import audit
from intertie.core.wire.audit import End, Link

RECORD = {
    "organisation": "default",
    "seq": 7,
    "at": 1_800_000_000.25,
    "actor": "admin",
    "action": "key.create",
    "subject": "key_1",
    "address": "127.0.0.1",
    "detail": {"name": "wéb/dev", "after": {"trust": "own"}},
}


def _part(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def test_a_hash_is_over_every_member_behind_its_length() -> None:
    """Spelt out by hand, as the specification has it."""
    detail = b'{"after":{"trust":"own"},"name":"w\\u00e9b/dev"}'
    parts = [
        b"intertie audit 1 record",
        bytes(32),
        b"default",
        (7).to_bytes(8, "big"),
        struct.pack(">d", 1_800_000_000.25),
        b"admin",
        b"key.create",
        b"key_1",
        b"127.0.0.1",
        detail,
    ]

    assert audit.link(audit.NOTHING, RECORD) == hashlib.sha256(b"".join(map(_part, parts))).digest()


def test_no_member_can_pass_for_a_part_of_its_neighbour() -> None:
    """Moving a letter from one member to the next is another record."""
    moved = {**RECORD, "actor": "admink", "action": "ey.create"}

    assert audit.link(audit.NOTHING, moved) != audit.link(audit.NOTHING, RECORD)


def test_each_member_and_the_record_before_it_change_the_hash() -> None:
    """Nothing of a record is left out."""
    changes = {"seq": 8, "at": 1.0, "detail": {}} | dict.fromkeys(("organisation", "actor", "action", "subject"), "x")
    hashes = {audit.link(audit.NOTHING, {**RECORD, name: value}) for name, value in changes.items()}
    hashes |= {audit.link(audit.NOTHING, RECORD), audit.link(b"\x01" * 32, RECORD)}
    hashes.add(audit.link(audit.NOTHING, {**RECORD, "address": "x"}))

    assert len(hashes) == len(changes) + 3


def test_a_detail_is_what_json_reads_back() -> None:
    """So that what is hashed now is what a reader hashes later."""
    assert audit.plain({"b": (1, 2), "a": 0.1}) == {"a": 0.1, "b": [1, 2]}


def test_a_detail_that_is_too_long_is_told_by_size_and_digest() -> None:
    """A route with ten thousand targets does not fill the trail."""
    long = {"targets": ["x" * 100] * 1000}
    text = json.dumps(long, separators=(",", ":"))

    assert audit.plain(long) == {"cut": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_what_has_no_canonical_form_is_refused() -> None:
    """Not a number is not JSON."""
    with pytest.raises(ValueError, match="JSON"):
        audit.plain({"n": float("nan")})


def test_checkpoints_and_ends_cannot_be_mistaken_for_each_other() -> None:
    """Different things are signed for different purposes."""
    link = Link(3, b"\x02" * 32)
    end = End("default", audit.START, link, 3, 1, 5.0)

    assert audit.checkpoint_message("default", link, 5.0)[4:].startswith(b"intertie audit 1 checkpoint")
    assert audit.end_message(end)[4:].startswith(b"intertie audit 1 end")


def test_lines_are_canonical_json() -> None:
    """One form only, so that every changed byte is a changed meaning or no meaning."""
    link = Link(3, b"\x02" * 32)
    end = End("default", audit.START, link, 3, 1, 5.0)
    row = {**RECORD, "hash": b"\x03" * 32}
    lines = [
        audit.begin_line("default", audit.START, b"\x04" * 32),
        audit.record_line(row),
        audit.record_line({**row, "hash": None}),
        audit.checkpoint_line(link, 5.0, b"\x05" * 64),
        audit.end_line(end, b"\x06" * 64),
    ]

    for line in lines:
        assert line == json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")) + "\n"
    assert [json.loads(line)["kind"] for line in lines] == ["begin", "record", "record", "checkpoint", "end"]
