"""The audit trail: what was done, by whom, from where. Added to, never changed; each record is chained to the last.

A record's hash is made in the write transaction, of which there is one at a time, so the chain cannot fork.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from intertie.core.wire import audit as form
from intertie.core.wire.audit import START, Link
from intertie.store.schema import audit, audit_checkpoints

PAGE: Final = 500


class AuditRow(msgspec.Struct, frozen=True):
    """One record. `seq` grows with each."""

    seq: int
    organisation: str
    at: float
    actor: str
    action: str
    subject: str
    address: str
    detail: dict[str, Any]
    hash: bytes | None = None


class Wanted(NamedTuple):
    """Which records a list shows: all that fit each word that is not empty. A `*` in a word stands for anything."""

    action: str = ""
    actor: str = ""
    subject: str = ""
    since: float | None = None
    """UTC seconds."""


ALL: Final = Wanted()


class CheckpointRow(msgspec.Struct, frozen=True):
    """The gateway's signature over the hash of the record `seq`."""

    organisation: str
    seq: int
    hash: bytes
    at: float
    signature: bytes


class Appended(NamedTuple):
    """Where a new record stands."""

    seq: int
    hash: bytes


def append(connection: sa.Connection, values: dict[str, Any]) -> Appended:
    """Adds a record, given by its members without `seq` and `hash`, behind the last one of its organisation."""
    organisation = values["organisation"]
    newest = _last(connection, None)
    number = newest.seq if newest else 0
    last = newest if newest is None or newest.organisation == organisation else _last(connection, organisation)
    previous = form.NOTHING
    if last is not None:
        if last.hash is None:
            last = _begin(connection, values, number)
            number = last.seq
        previous = last.hash
    row = {**values, "seq": number + 1, "detail": form.plain(values["detail"])}
    digest = form.link(previous, row)
    connection.execute(_INSERT, {**row, "hash": digest})
    return Appended(number + 1, digest)


def begin(connection: sa.Connection, now: float) -> None:
    """Begins the chain of every organisation whose records are older than chains."""
    for organisation in organisations(connection):
        last = _last(connection, organisation)
        if last is not None and last.hash is None:
            newest = _last(connection, None)
            _begin(connection, {"organisation": organisation, "at": now}, newest.seq if newest else 0)


def _begin(connection: sa.Connection, values: dict[str, Any], number: int) -> Appended:
    """A first record that commits to those without a hash: to their number, and to the chain that they would make."""
    digest, count, after = form.NOTHING, 0, 0
    while older := page(connection, values["organisation"], after, number):
        for row in older:
            digest, count, after = form.link(digest, msgspec.structs.asdict(row)), count + 1, row.seq
    words = {"actor": "gateway", "action": form.BEGIN, "subject": "", "address": ""}
    detail = {"records": count, "digest": digest.hex()}
    made = {"organisation": values["organisation"], "at": values["at"], **words, "detail": detail, "seq": number + 1}
    first = form.link(form.NOTHING, made)
    connection.execute(_INSERT, {**made, "hash": first})
    return Appended(number + 1, first)


def listed(
    connection: sa.Connection, organisation: str, limit: int, before: int | None = None, wanted: Wanted = ALL
) -> list[AuditRow]:
    """The organisation's newest `limit` records that are wanted, or of those older than the one numbered `before`."""
    query = sa.select(audit).where(audit.c.organisation == organisation)
    if before is not None:
        query = query.where(audit.c.seq < before)
    if wanted.since is not None:
        query = query.where(audit.c.at >= wanted.since)
    for column in (audit.c.action, audit.c.actor, audit.c.subject):
        if word := getattr(wanted, column.name):
            query = query.where(column.like(_pattern(word), escape="\\") if "*" in word else column == word)
    return [AuditRow(**row) for row in connection.execute(query.order_by(audit.c.seq.desc()).limit(limit)).mappings()]


def _pattern(word: str) -> str:
    for special in ("\\", "%", "_"):
        word = word.replace(special, "\\" + special)
    return word.replace("*", "%")


def page(connection: sa.Connection, organisation: str, after: int, last: int) -> list[AuditRow]:
    """The next records of the organisation behind `after`, up to the one numbered `last`, in order."""
    chosen = audit.c.organisation == organisation, audit.c.seq > after, audit.c.seq <= last
    query = sa.select(audit).where(*chosen).order_by(audit.c.seq).limit(PAGE)
    return [AuditRow(**row) for row in connection.execute(query).mappings()]


def start_of(connection: sa.Connection, organisation: str, since: float | None) -> Link:
    """Where the records since a moment (UTC seconds) begin: the link in front of the first of them."""
    if since is None:
        return START
    mine = audit.c.organisation == organisation
    first = connection.execute(sa.select(sa.func.min(audit.c.seq)).where(mine, audit.c.at >= since)).scalar()
    if first is None:
        return head(connection, organisation)
    query = sa.select(audit.c.seq, audit.c.hash).where(mine, audit.c.seq < first).order_by(audit.c.seq.desc()).limit(1)
    found = connection.execute(query).first()
    return START if found is None or found.hash is None else Link(found.seq, found.hash)


def head(connection: sa.Connection, organisation: str) -> Link:
    """Where the organisation's chain stands."""
    last = _last(connection, organisation)
    return START if last is None or last.hash is None else Link(last.seq, last.hash)


def hash_of(connection: sa.Connection, organisation: str, seq: int) -> bytes | None:
    """The hash of a record; None if there is no such record, or it is older than chains."""
    query = sa.select(audit.c.hash).where(audit.c.organisation == organisation, audit.c.seq == seq)
    found: bytes | None = connection.execute(query).scalar()
    return found


def organisations(connection: sa.Connection) -> list[str]:
    """Those that have records."""
    return list(connection.execute(sa.select(audit.c.organisation).distinct()).scalars())


def sign(connection: sa.Connection, row: CheckpointRow) -> None:
    """Adds a checkpoint."""
    connection.execute(sa.insert(audit_checkpoints).values(**msgspec.structs.asdict(row)))


def checkpoints(connection: sa.Connection, organisation: str, after: int = 0) -> list[CheckpointRow]:
    """The checkpoints of the organisation behind the record `after`, in order."""
    table = audit_checkpoints.c
    chosen = sa.select(audit_checkpoints).where(table.organisation == organisation, table.seq > after)
    return [CheckpointRow(**row) for row in connection.execute(chosen.order_by(table.seq)).mappings()]


def checkpoint(connection: sa.Connection, organisation: str, seq: int) -> CheckpointRow | None:
    """The checkpoint of the record `seq`."""
    table = audit_checkpoints.c
    chosen = sa.select(audit_checkpoints).where(table.organisation == organisation, table.seq == seq)
    row = connection.execute(chosen).mappings().first()
    return CheckpointRow(**row) if row else None


# Built once: a record is made in every change, and building a statement costs more than running it.
_INSERT: Final = sa.insert(audit)
_NEWEST: Final = sa.select(audit.c.seq, audit.c.organisation, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
_NEWEST_OF: Final = (
    sa.select(audit.c.seq, audit.c.organisation, audit.c.hash)
    .where(audit.c.organisation == sa.bindparam("of"))
    .order_by(audit.c.seq.desc())
    .limit(1)
)


def _last(connection: sa.Connection, organisation: str | None) -> Any:
    if organisation is None:
        return connection.execute(_NEWEST).first()
    return connection.execute(_NEWEST_OF, {"of": organisation}).first()
