"""The audit trail as evidence, over a real database: whatever is done to it is found (T84)."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from intertie import auditor
from intertie.auditor import Verdict
from intertie.controlplane import apply, audit, keys, trail
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Conflict, Control
from intertie.store.audit import Wanted
from intertie.store.schema import audit as table
from intertie.store.schema import audit_checkpoints
from tests.contract.controlplane.applicants import ADMIN, Clock, at_time
from tests.contract.controlplane.conftest import NOW, opened
from tests.contract.controlplane.documents import WHOLE, document

MUTATIONS = 10_000


def fill(control: Control, count: int, organisation: str = "default") -> None:
    """So many records."""
    with control.database.write() as connection:
        for number in range(count):
            audit.record(connection, control, organisation, ADMIN, "test.done", f"thing_{number}", n=number)


def export(control: Control, organisation: str = "default", since: float | None = None) -> list[bytes]:
    """The lines as a client gets them."""
    return [line.encode() for line in trail.export(control, organisation, since)]


def check(control: Control, lines: list[bytes]) -> Verdict:
    """The independent verdict, by somebody who knows the gateway's key."""
    return auditor.verify(lines, public_key=control.vault.signer.public)


def tamper(control: Control, statement: Any) -> None:
    """What somebody with access to the database does."""
    with control.database.write() as connection:
        connection.execute(statement)


def numbers(control: Control) -> list[int]:
    """The trail's numbers, in order."""
    with control.database.read() as connection:
        return list(connection.execute(sa.select(table.c.seq).order_by(table.c.seq)).scalars())


# -- exports ---------------------------------------------------------------------------------------------------------


def _mutated(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    """One change, anywhere: a byte, a deletion, an insertion, two lines swapped, the end cut off."""
    made = list(lines)
    at = rng.randrange(len(made))
    kind = rng.choice(("byte", "byte", "byte", "delete", "insert", "swap", "cut", "cut bytes"))
    if kind == "byte":
        place = rng.randrange(len(made[at]))
        old = made[at][place]
        new = rng.choice([byte for byte in range(256) if byte != old])
        made[at] = made[at][:place] + bytes((new,)) + made[at][place + 1 :]
    elif kind == "delete":
        del made[at]
    elif kind == "insert":
        made.insert(rng.randrange(len(made) + 1), made[at])
    elif kind == "swap":
        other = rng.choice([number for number in range(len(made)) if number != at])
        made[at], made[other] = made[other], made[at]
    elif kind == "cut":
        del made[at:]
    else:
        made[at:] = [made[at][: rng.randrange(len(made[at]))]]
    return made


def test_t84_each_of_10_000_random_changes_of_an_export_is_found(control: Control) -> None:
    """Changed, deleted, inserted, swapped, cut: none passes."""
    apply.apply(control, "default", document(WHOLE), Actor("file intertie.yaml"))
    trail.Watch(control).begin()
    keys.create(control, "default", "web", "zoë", ADMIN)
    lines = export(control)
    assert check(control, lines).clean
    assert check(control, lines).checkpoints == 1
    rng = random.Random(84)

    missed = []
    for number in range(MUTATIONS):
        mutated = _mutated(rng, lines)
        if check(control, mutated).clean:
            missed.append((number, mutated))

    assert not missed


def test_an_export_since_a_moment_verifies_alone(control: Control) -> None:
    """It begins with the hash of the record before it."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    fill(control, 700)
    clock.now += 3600
    fill(control, 5)
    lines = export(control, since=NOW + 1)
    verdict = check(control, lines)

    assert verdict.problems == ()
    assert (verdict.records, verdict.first, verdict.last) == (5, 701, 705)
    assert check(control, export(control, since=NOW + 7200)).clean
    assert check(control, export(control, since=NOW - 1)).records == 705
    assert not check(control, [lines[0], *lines[2:]]).clean


def test_each_organisation_has_a_chain_of_its_own(control: Control) -> None:
    """Its export says nothing of others, and needs nothing of theirs."""
    for _ in range(3):
        fill(control, 2)
        fill(control, 1, "other")
    ours, theirs = export(control), export(control, "other")

    assert (check(control, ours).records, check(control, theirs).records) == (6, 3)
    assert check(control, ours).clean
    assert check(control, theirs).clean
    assert not check(control, [ours[0], *theirs[1:]]).clean


def test_records_older_than_chains_are_vouched_for_by_the_first_that_has_a_hash(control: Control) -> None:
    """Whoever upgrades loses no evidence, and can no longer change the old records unseen."""
    fill(control, 4)
    tamper(control, sa.update(table).values(hash=None))
    trail.Watch(control).begin()
    fill(control, 2)
    trail.Watch(control).begin()
    verdict = trail.verify(control, "default")

    assert verdict.problems == ()
    assert verdict.records == 7
    first = audit.list_(control, "default", wanted=Wanted("audit.begin"))
    assert [row.detail["records"] for row in first] == [4]
    tamper(control, sa.update(table).where(table.c.seq == 2).values(actor="nobody"))
    assert not trail.verify(control, "default").clean


# -- the database ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [
        sa.update(table).where(table.c.seq == 700).values(actor="nobody"),
        sa.update(table).where(table.c.seq == 700).values(detail={"n": 0}),
        sa.update(table).where(table.c.seq == 700).values(at=NOW + 1),
        sa.update(table).where(table.c.seq == 700).values(hash=bytes(32)),
        sa.update(table).where(table.c.seq == 700).values(hash=None),
        sa.update(table).where(table.c.seq == 700).values(organisation="other"),
        sa.delete(table).where(table.c.seq == 1),
        sa.delete(table).where(table.c.seq == 700),
        sa.delete(table).where(table.c.seq > 990),
        sa.delete(table),
        sa.update(audit_checkpoints).values(at=1.0),
        sa.update(audit_checkpoints).values(hash=bytes(32)),
    ],
    ids=str,
)
def test_t84_what_is_done_to_the_database_is_found(control: Control, harm: Any) -> None:
    """Also where the end is gone: a checkpoint vouches for what is no longer there."""
    fill(control, 1005)
    assert trail.verify(control, "default").clean
    tamper(control, harm)

    assert not trail.verify(control, "default").clean


def test_every_thousandth_record_is_signed(control: Control) -> None:
    """In the transaction that makes it."""
    fill(control, 2001)
    verdict = trail.verify(control, "default")

    assert verdict.clean
    assert verdict.checkpoints == 2


def test_t84_a_rewritten_end_without_its_checkpoints_is_found_by_the_note_beside_the_database(control: Control) -> None:
    """Records and signatures gone together, as if they had never been."""
    fill(control, 10)
    trail.Watch(control).begin()
    tamper(control, sa.delete(table).where(table.c.seq > 5))
    tamper(control, sa.delete(audit_checkpoints))

    assert {problem.kind for problem in trail.verify(control, "default").problems} == {"missing"}


def test_a_note_that_somebody_else_wrote_means_nothing(control: Control) -> None:
    """Nor does one that is no note."""
    fill(control, 3)
    trail.Watch(control).begin()
    note = control.database.path.parent / trail.NOTE
    genuine = note.read_text()
    forgeries = (
        *(genuine.replace('"seq":3', f'"seq":{seq}') for seq in (9, -1, 10**30, "1e999", "null")),
        *("nonsense", "", "[]", '""', "[" * 100_000),
    )
    for forged in forgeries:
        note.write_text(forged)
        assert trail.noted(control) == []
        assert trail.verify(control, "default").clean
    note.write_text(genuine)

    assert [row.seq for row in trail.noted(control)] == [3]
    assert note.stat().st_mode & 0o077 == 0


def test_t84_an_old_copy_of_the_database_is_recorded_at_the_next_start(tmp_path: Path) -> None:
    """F62: what the note vouches for is not in the copy."""
    home, kept = tmp_path / "home", tmp_path / "kept.db"
    control = opened(home)
    fill(control, 5)
    trail.Watch(control).begin()
    control.database.copy(kept)
    fill(control, 5)
    trail.Watch(control).end()
    control.database.close()
    for stray in home.glob("intertie.db*"):
        stray.unlink()
    shutil.copy(kept, home / "intertie.db")

    control = opened(home)
    trail.Watch(control).begin()
    newest = audit.list_(control, "default", 1)[0]
    control.database.close()

    assert (newest.action, newest.detail["record"], newest.detail["newest"]) == ("audit.broken", 10, 5)


def test_while_the_gateway_runs_it_notices_that_records_are_gone(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    """Looked at once a minute; told once, in the log and in the trail itself."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    watch = trail.Watch(control)
    watch.begin()
    fill(control, 10)
    clock.now += 60
    watch.look()
    tamper(control, sa.delete(table).where(table.c.seq > 5))
    for _ in range(3):
        clock.now += 60
        watch.look()

    assert "gone" in caplog.text
    assert [row.detail["record"] for row in audit.list_(control, "default", wanted=Wanted("audit.broken"))] == [10]


def test_what_is_new_is_signed_each_hour_and_at_the_end(control: Control) -> None:
    """Nothing new, no signature."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    watch = trail.Watch(control)
    watch.begin()
    counts = []
    for minutes in (59, 2, 59, 2):
        fill(control, 1 if minutes == 59 else 0)
        clock.now += 60 * minutes
        watch.look()
        counts.append(trail.verify(control, "default").checkpoints)
    watch.end()
    fill(control, 1)
    watch.end()

    assert counts == [0, 1, 1, 2]
    assert trail.verify(control, "default").checkpoints == 3
    assert [(row.organisation, row.seq) for row in trail.noted(control)] == [("default", 3)]


# -- chains under load -----------------------------------------------------------------------------------------------


def test_fifty_changes_at_once_make_one_chain(control: Control) -> None:
    """Each takes its turn to write; nothing forks."""

    def change(number: int) -> None:
        keys.create(control, "default", f"p{number}", "k", ADMIN)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = trail.verify(control, "default")

    assert verdict.problems == ()
    assert verdict.records == 100
    assert numbers(control) == list(range(1, 101))


def test_what_is_rolled_back_leaves_no_gap(control: Control) -> None:
    """Neither in the numbers nor in the chain."""
    keys.create(control, "default", "web", "dev", ADMIN, value="canary-web-key-0123456789")
    for number in range(3):
        with pytest.raises(Conflict):  # after its project was made, and that recorded
            keys.create(control, "default", f"p{number}", "x", ADMIN, value="canary-web-key-0123456789")
        with pytest.raises(RuntimeError), control.database.write() as connection:  # noqa: PT012
            audit.record(connection, control, "default", ADMIN, "test.done", "")
            raise RuntimeError
    keys.create(control, "default", "web", "last", ADMIN)

    assert numbers(control) == [1, 2, 3]
    assert trail.verify(control, "default").clean


def test_t85_a_change_that_cannot_be_recorded_does_not_happen(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is gone with the record."""

    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("intertie.store.audit.append", full)
    with pytest.raises(OSError, match="no space"):
        keys.create(control, "default", "web", "new", ADMIN)

    assert keys.list_(control, "default") == []
