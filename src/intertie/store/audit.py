"""The audit trail: what was done, by whom, from where. Added to, never changed."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from intertie.store.schema import audit


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


def insert(connection: sa.Connection, values: dict[str, Any]) -> None:
    """Adds a record, given by its members without `seq`."""
    connection.execute(sa.insert(audit).values(**values))


def listed(connection: sa.Connection, organisation: str, limit: int, before: int | None = None) -> list[AuditRow]:
    """The newest `limit` records of the organisation, or of those older than the one numbered `before`."""
    query = sa.select(audit).where(audit.c.organisation == organisation)
    if before is not None:
        query = query.where(audit.c.seq < before)
    return [AuditRow(**row) for row in connection.execute(query.order_by(audit.c.seq.desc()).limit(limit)).mappings()]
