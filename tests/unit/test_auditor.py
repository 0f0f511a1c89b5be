"""The independent verifier against exports that the writer made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from intertie import auditor
from intertie.auditor import Anchor, Verdict
from intertie.core.wire import audit
from intertie.core.wire.audit import End, Link

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def records(count: int, *, old: int = 0) -> list[dict[str, Any]]:
    """Rows of a trail, of which the first `old` are from before there were hashes."""
    rows: list[dict[str, Any]] = []
    digest, seq = audit.NOTHING, 0

    def add(action: str, detail: dict[str, Any], *, chained: bool = True) -> None:
        nonlocal digest, seq
        seq += 1
        row = {"organisation": "default", "seq": seq, "at": 1000.5 + seq, "actor": "admin", "action": action}
        row |= {"subject": f"key_{seq}", "address": "127.0.0.1", "detail": detail}
        digest = audit.link(digest, row)
        rows.append({**row, "hash": digest if chained else None})

    for n in range(old):
        add("node.drain", {"n": n}, chained=False)
    if old:
        detail = {"records": old, "digest": digest.hex()}
        digest = audit.NOTHING
        add(audit.BEGIN, detail)
    for n in range(count):
        add("key.create", {"after": {"name": f"ké{n}", "n": n}})
    return rows


def lines(rows: list[dict[str, Any]], *, signed: tuple[int, ...] = (), key: Ed25519PrivateKey = KEY) -> list[bytes]:
    """A whole export, with checkpoints behind some of its records."""
    made = [audit.begin_line("default", audit.START, key.public_key().public_bytes_raw())]
    for row in rows:
        made.append(audit.record_line(row))
        if row["seq"] in signed:
            link = Link(row["seq"], row["hash"])
            made.append(audit.checkpoint_line(link, 9.5, key.sign(audit.checkpoint_message("default", link, 9.5))))
    last = Link(rows[-1]["seq"], rows[-1]["hash"]) if rows else audit.START
    end = End("default", audit.START, last, len(rows), len(signed), 10.5)
    return [line.encode() for line in [*made, audit.end_line(end, key.sign(audit.end_message(end)))]]


def check(export: list[bytes], **more: Any) -> Verdict:
    """What the verifier says, knowing the right key."""
    return auditor.verify(export, **{"public_key": PUBLIC, **more})


def kinds(verdict: Verdict) -> set[str]:
    """Kinds of its problems."""
    return {problem.kind for problem in verdict.problems}


def altered(line: bytes, **members: Any) -> bytes:
    """The line with other members, written as the writer would."""
    return (audit.canonical(json.loads(line) | members) + "\n").encode()


def test_a_whole_export_is_clean() -> None:
    """Whatever it has: nothing, records, checkpoints, records from before there were hashes."""
    for export in (lines([]), lines(records(1)), lines(records(9), signed=(3, 9))):
        assert check(export).clean
    verdict = check(lines(records(3, old=4), signed=(6,)))

    assert verdict.problems == ()
    assert (verdict.records, verdict.checkpoints, verdict.first, verdict.last) == (8, 1, 1, 8)


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (lambda e: [*e[:3], altered(e[3], actor="nobody"), *e[4:]], "altered"),
        (lambda e: [*e[:3], altered(e[3], at=1.0), *e[4:]], "altered"),
        (lambda e: [*e[:3], altered(e[3], hash=None), *e[4:]], "altered"),
        (lambda e: [*e[:3], *e[4:]], "missing"),
        (lambda e: [e[0], *e[2:]], "missing"),
        (lambda e: [*e[:2], e[3], e[2], *e[4:]], "order"),
        (lambda e: [*e[:3], e[2], *e[3:]], "order"),
        (lambda e: e[:4], "truncated"),
        (lambda e: [*e[:4], e[-1]], "missing"),
        (lambda e: [], "truncated"),
        (lambda e: [*e, e[1]], "order"),
        (lambda e: [*e[:4], *e[5:]], "missing"),
        (lambda e: [*e[:4], altered(e[4], at=9.0), *e[5:]], "checkpoint"),
        (lambda e: [altered(e[0], organisation="other"), *e[1:]], "altered"),
        (lambda e: [altered(e[0], format=2), *e[1:]], "unreadable"),
        (lambda e: [*e[:3], e[3].replace(b'":"', b'": "', 1), *e[4:]], "unreadable"),
        (lambda e: [*e[:3], e[3][:-1], *e[4:]], "unreadable"),
        (lambda e: [*e[:3], b"[" * 100_000 + b"\n", *e[4:]], "unreadable"),
        (lambda e: [*e[:3], altered(e[3], kind=[]), *e[4:]], "unreadable"),
        (lambda e: [*e[:3], altered(e[3], kind={"record": 1}), *e[4:]], "unreadable"),
        (lambda e: [*e[:3], altered(e[3], more=1), *e[4:]], "unreadable"),
        (lambda e: [*e[:3], altered(e[3], seq=True), *e[4:]], "unreadable"),
        (lambda e: [*e[:3], altered(e[3], seq=-1), *e[4:]], "unreadable"),
        (lambda e: [*e[:3], altered(e[3], hash="AB"), *e[4:]], "unreadable"),
        (lambda e: [*e[:-1], altered(e[-1], at=1.0)], "altered"),
    ],
)
def test_what_was_done_to_an_export_is_told(break_it: Callable[[list[bytes]], list[bytes]], kind: str) -> None:
    """Each kind of damage has its name."""
    verdict = check(break_it(lines(records(5), signed=(3,))))

    assert not verdict.clean
    assert kind in kinds(verdict), verdict.problems


def test_one_altered_record_is_one_problem() -> None:
    """The rest is checked on its own hashes."""
    export = lines(records(50))
    verdict = check([*export[:20], altered(export[20], subject="key_x"), *export[21:]])

    assert [(problem.line, problem.seq, problem.kind) for problem in verdict.problems] == [(21, 20, "altered")]


def test_records_from_before_there_were_hashes_are_held_to_their_number_and_digest() -> None:
    """The first record with a hash vouches for them."""
    export = lines(records(2, old=3))

    assert kinds(check([export[0], altered(export[1], actor="x"), *export[2:]])) == {"altered"}
    assert not check([export[0], *export[2:]]).clean
    assert not check([*export[:4], *export[5:]]).clean  # without the record that vouches


def test_a_history_rewritten_with_another_key_is_found_by_whoever_knows_the_right_one() -> None:
    """And whoever does not know it is told that the key came from the file."""
    forged = lines(records(4), signed=(2,), key=Ed25519PrivateKey.generate())

    assert "key" in kinds(check(forged))
    verdict = auditor.verify(forged)
    assert verdict.clean
    assert not verdict.key_is_known


def test_a_rewritten_history_fails_at_the_first_checkpoint() -> None:
    """Records can be made up and chained anew, signatures cannot."""
    genuine = lines(records(6), signed=(4,))
    other = records(6)
    other[0]["actor"] = "somebody"
    digest = audit.NOTHING
    for row in other:
        row["hash"] = digest = audit.link(digest, row)
    forged = lines(other, signed=(4,))
    checkpoint, end = genuine[5], genuine[-1]

    assert {"checkpoint", "missing"} <= kinds(check([*forged[:5], checkpoint, *forged[6:-1], end]))


def test_an_old_copy_is_found_by_what_is_known_from_elsewhere() -> None:
    """It is whole in itself; only a later record, kept somewhere else, gives it away."""
    rows = records(9)
    old, new = lines(rows[:5]), lines(rows)
    known = auditor.anchors_in(new, public_key=PUBLIC, organisation="default")

    assert known == [Anchor(9, rows[-1]["hash"].hex())]
    assert check(old).clean
    assert kinds(check(old, anchors=known)) == {"old"}
    assert check(new, anchors=auditor.anchors_in(old, public_key=PUBLIC, organisation="default")).clean
    assert kinds(check(new, anchors=[Anchor(5, "00" * 32)])) == {"altered"}


def test_problems_are_bounded() -> None:
    """A file that is something else does not give a million lines."""
    assert len(check([b"nonsense\n"] * 1000).problems) == auditor.MOST_PROBLEMS


def test_it_is_a_program_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 or 1, and what is wrong in words."""
    export, older = lines(records(5)), lines(records(2))
    for name, content in (("good", export), ("bad", export[:-1]), ("older", older)):
        (tmp_path / name).write_bytes(b"".join(content))
    key = ["--public-key", PUBLIC.hex()]

    assert auditor.main([str(tmp_path / "good"), *key, "--anchor", str(tmp_path / "older")]) == 0
    assert auditor.main([str(tmp_path / "good")]) == 0
    assert "give --public-key" in capsys.readouterr().out
    assert auditor.main([str(tmp_path / "bad"), *key]) == 1
    assert "cut off" in capsys.readouterr().out
    assert auditor.main([str(tmp_path / "missing"), *key]) == 1
    assert auditor.main([str(tmp_path / "older"), *key, "--anchor", str(tmp_path / "good")]) == 1
    assert auditor.main([str(tmp_path / "good"), "--public-key", "xyz"]) == 1


def test_no_depth_of_nesting_stops_the_verifier() -> None:
    """Also where a line can just be read, and its detail no longer be written."""
    export = lines(records(2))
    line = altered(export[2], detail={"a": 0})
    for depth in range(900, 1000):
        nested = line.replace(b'"a":0', b'"a":' + b"[" * depth + b"]" * depth)
        assert not check([*export[:2], nested, *export[3:]]).clean


def test_an_export_that_begins_behind_what_is_known_proves_nothing_of_it() -> None:
    """Whole in itself, and what lies between is not shown."""
    rows = records(9)
    before, last = (Link(rows[at]["seq"], rows[at]["hash"]) for at in (5, 8))
    end = End("default", before, last, 3, 0, 10.5)
    later = [audit.begin_line("default", before, PUBLIC), *map(audit.record_line, rows[6:])]
    export = [line.encode() for line in [*later, audit.end_line(end, KEY.sign(audit.end_message(end)))]]

    assert check(export).clean
    assert check(export, anchors=[Anchor(6, rows[5]["hash"].hex())]).clean
    verdict = check(export, anchors=[Anchor(4, rows[3]["hash"].hex())])
    assert [problem.kind for problem in verdict.problems] == ["missing"]


@pytest.mark.parametrize(
    "note",
    [
        {},
        [],
        "x",
        {"organisation": "default"},
        {"organisation": "default", "seq": -1, "hash": "00", "at": 1.0, "signature": ""},
        {"organisation": "default", "seq": 10**40, "hash": "00", "at": 1.0, "signature": ""},
        {"organisation": "default", "seq": 1, "hash": 5, "at": None, "signature": ""},
    ],
    ids=str,
)
def test_a_note_that_is_none_is_told_so(note: Any) -> None:
    """Whatever is in the file."""
    with pytest.raises(auditor.Unreadable):
        auditor.anchors_in([json.dumps(note).encode()], public_key=PUBLIC, organisation="default")
    with pytest.raises(auditor.Unreadable):
        auditor.anchors_in([b"[" * 100_000], public_key=PUBLIC, organisation="default")
