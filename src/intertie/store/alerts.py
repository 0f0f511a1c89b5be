"""Whom organisations have told about their limits."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from intertie.store.schema import alerts


class AlertsRow(NamedTuple):
    """One webhook per organisation; its secret is sealed."""

    organisation: str
    webhook: str
    sealed: bytes
    created_at: float


def listed(connection: sa.Connection) -> list[AlertsRow]:
    """Of every organisation."""
    return [AlertsRow(*row) for row in connection.execute(sa.select(alerts).order_by(alerts.c.organisation))]


def of(connection: sa.Connection, organisation: str) -> AlertsRow | None:
    """The organisation's, if it has one."""
    row = connection.execute(sa.select(alerts).where(alerts.c.organisation == organisation)).first()
    return AlertsRow(*row) if row is not None else None


def write(connection: sa.Connection, organisation: str, row: AlertsRow | None) -> None:
    """Sets it, or removes it."""
    connection.execute(sa.delete(alerts).where(alerts.c.organisation == organisation))
    if row is not None:
        connection.execute(sa.insert(alerts).values(**row._asdict()))
