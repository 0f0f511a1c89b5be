"""The audit trail as evidence: signed now and then, watched while the gateway runs, exported for others to check.

What vouches for the newest records, beside the signatures in the database, is a note in the data folder (`NOTE`): so a
database whose end was cut off, or an old copy put in its place, is noticed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from intertie import auditor
from intertie.auditor import Verdict
from intertie.controlplane.control import Control, Unknown
from intertie.controlplane.vault import signed_by
from intertie.core.errors import GatewayError
from intertie.core.wire import audit as form
from intertie.core.wire.audit import End, Link
from intertie.store import audit
from intertie.store.audit import AuditRow, CheckpointRow
from intertie.store.database import Connection

MINUTE: Final = 60.0
EVERY: Final = 1000
"""Records after which all chains are signed."""
HOUR: Final = 3600.0
"""Seconds after which what is new is signed."""
NOTE: Final = "audit.anchor"
"""File in the data folder with the last signature of each organisation, one JSON object per line."""

_LOG: Final = logging.getLogger("intertie.audit")


class Head(msgspec.Struct, frozen=True):
    """A record's hash, signed like a checkpoint; hashes, key and signature in hexadecimal."""

    organisation: str
    seq: int
    hash: str
    at: float
    signature: str
    public_key: str


def sign(connection: Connection, control: Control) -> list[CheckpointRow]:
    """Signs every chain that has grown, inside the caller's transaction; the signatures of all heads."""
    found = []
    for organisation in audit.organisations(connection):
        head = audit.head(connection, organisation)
        if head.seq == 0:
            continue
        row = audit.checkpoint(connection, organisation, head.seq)
        if row is None:
            row = _signature(control, organisation, head)
            audit.sign(connection, row)
        found.append(row)
    return found


def _signature(control: Control, organisation: str, head: Link) -> CheckpointRow:
    at = float(control.clock())
    signature = control.vault.signer.sign(form.checkpoint_message(organisation, head, at))
    return CheckpointRow(organisation, head.seq, head.hash, at, signature)


class Watch:
    """Signs when it is time, and notices that records are gone or different. Blocking; one call at a time."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._note = _note(control)
        self._seen: dict[str, Link] = {}
        self._signed_at = self._looked_at = control.clock()

    def begin(self) -> None:
        """The gateway starts: compares with what was noted last, begins chains over older records, signs."""
        for known in noted(self._control):
            self._compare(known.organisation, Link(known.seq, known.hash))
        with self._control.database.write() as connection:
            audit.begin(connection, float(self._control.clock()))
        self.sign()

    def look(self) -> None:
        """At any time, does its work once a minute: what was there must still be there; each hour, signs what is new.

        A database that cannot be read or written now is looked at again later.
        """
        now = self._control.clock()
        if 0 <= now - self._looked_at < MINUTE:
            return
        self._looked_at = now
        with self._tolerant():
            self._look(now)

    def end(self) -> None:
        """The gateway stops: signs what is new."""
        with self._tolerant():
            self.sign()

    def _look(self, now: float) -> None:
        for organisation, link in list(self._seen.items()):
            self._compare(organisation, link)
        self._remember()
        if not 0 <= now - self._signed_at < HOUR:
            self.sign()

    def sign(self) -> None:
        """Signs what is new, and notes it beside the database."""
        with self._control.database.write() as connection:
            rows = sign(connection, self._control)
        self._signed_at = self._control.clock()
        self._seen = {row.organisation: Link(row.seq, row.hash) for row in rows}
        draft = self._note.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
            file.writelines(_shown(row) for row in rows)
        draft.replace(self._note)

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (GatewayError, OSError) as error:
            _LOG.warning("the audit trail cannot be signed now: %s", error)

    def _remember(self) -> None:
        with self._control.database.read() as connection:
            self._seen = {one: audit.head(connection, one) for one in audit.organisations(connection)}

    def _compare(self, organisation: str, known: Link) -> None:
        """Records (and logs) that the trail is not the one that was here before."""
        with self._control.database.read() as connection:
            found = audit.hash_of(connection, organisation, known.seq) if known.seq else known.hash
        if found == known.hash:
            return
        with self._control.database.write() as connection:
            newest = audit.head(connection, organisation).seq
            detail = {"record": known.seq, "was": known.hash.hex(), "is": found.hex() if found else None}
            audit.append(
                connection,
                {
                    "organisation": organisation,
                    "at": float(self._control.clock()),
                    "actor": "gateway",
                    "action": "audit.broken",
                    "subject": "",
                    "address": "",
                    "detail": {**detail, "newest": newest},
                },
            )
        self._seen.pop(organisation, None)
        _LOG.error(
            "the audit trail is not the one that was here before: record %d of %s is %s; an old copy of the database, "
            "or somebody has altered it: compare with an export",
            known.seq,
            organisation,
            "different" if found else "gone",
        )


def noted(control: Control) -> list[CheckpointRow]:
    """The signatures noted beside the database that are this gateway's own; none if there is no such file."""
    found = []
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        for line in _note(control).read_text("ascii").splitlines():
            read = json.loads(line)
            row = CheckpointRow(
                str(read["organisation"]),
                int(read["seq"]),
                bytes.fromhex(read["hash"]),
                float(read["at"]),
                bytes.fromhex(read["signature"]),
            )
            message = form.checkpoint_message(row.organisation, Link(row.seq, row.hash), row.at)
            if signed_by(control.vault.signer.public, message, row.signature):
                found.append(row)
    return found


def head(control: Control, organisation: str, seq: int | None = None) -> Head:
    """The hash of a record, or of the newest, signed. Raises `Unknown` if there is no such record."""
    with control.database.read() as connection:
        found = audit.head(connection, organisation)
        if seq is not None and seq != found.seq:
            digest = audit.hash_of(connection, organisation, seq)
            if digest is None:
                raise Unknown(f"the audit trail has no record {seq}")
            found = Link(seq, digest)
    row = _signature(control, organisation, found)
    key = control.vault.signer.public.hex()
    return Head(organisation, found.seq, found.hash.hex(), row.at, row.signature.hex(), key)


def export(control: Control, organisation: str, since: float | None = None) -> Iterator[str]:
    """The lines of an export: all records (since a moment in UTC seconds), checkpoints among them, and a signed end.

    Reads a page at a time, so a slow reader holds neither memory nor a transaction.
    """
    noted_before = noted(control)
    with control.database.read() as connection:
        before = audit.start_of(connection, organisation, since)
        last = audit.head(connection, organisation)
        signatures = {row.seq: row for row in audit.checkpoints(connection, organisation, before.seq)}
    for row in noted_before:  # one that the database should have, and perhaps has no longer
        if row.organisation == organisation and row.seq > before.seq:
            signatures.setdefault(row.seq, row)
    yield form.begin_line(organisation, before, control.vault.signer.public)
    records, after = 0, before.seq
    waiting = deque(signatures[seq] for seq in sorted(signatures))
    while rows := _page(control, organisation, after, last.seq):
        for record in rows:
            yield form.record_line(msgspec.structs.asdict(record))
            records, after = records + 1, record.seq
            while waiting and waiting[0].seq <= after:
                yield _checkpoint_line(waiting.popleft())
    yield from map(_checkpoint_line, waiting)
    end = End(organisation, before, last, records, len(signatures), float(control.clock()))
    yield form.end_line(end, control.vault.signer.sign(form.end_message(end)))


def verify(control: Control, organisation: str) -> Verdict:
    """The whole trail under the eyes of the independent verifier, with this gateway's own key."""
    lines = (line.encode("ascii") for line in export(control, organisation))
    return auditor.verify(lines, public_key=control.vault.signer.public)


def _page(control: Control, organisation: str, after: int, last: int) -> list[AuditRow]:
    with control.database.read() as connection:
        return audit.page(connection, organisation, after, last)


def _checkpoint_line(row: CheckpointRow) -> str:
    return form.checkpoint_line(Link(row.seq, row.hash), row.at, row.signature)


def _shown(row: CheckpointRow) -> str:
    words = {"seq": row.seq, "hash": row.hash.hex(), "at": row.at, "signature": row.signature.hex()}
    return form.canonical({"organisation": row.organisation, **words}) + "\n"


def _note(control: Control) -> Path:
    return control.database.path.parent / NOTE
