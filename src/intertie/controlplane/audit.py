"""The audit trail: each change is recorded in the transaction that makes it; refusals are counted and told in sum."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from intertie.controlplane.control import Control
from intertie.store import audit
from intertie.store.audit import AuditRow
from intertie.store.database import Connection

GATEWAY: Final = "gateway"
_LOG: Final = logging.getLogger("intertie.audit")


class Actor(NamedTuple):
    """Who does something, and from which address."""

    name: str
    """`admin`, `node <id>`, `token <id>` or `gateway`."""
    address: str = ""


def record(
    connection: Connection,
    control: Control,
    organisation: str,
    by: Actor,
    action: str,
    subject: str,
    **detail: object,
) -> None:
    """Adds a record inside the caller's transaction. `subject` is the id of what it was done to; no secret anywhere."""
    audit.insert(
        connection,
        {
            "organisation": organisation,
            "at": control.clock(),
            "actor": by.name[:200],
            "action": action,
            "subject": subject[:200],
            "address": by.address[:64],
            "detail": detail,
        },
    )


def refuse(control: Control, organisation: str, address: str, action: str, subject: str = "", **detail: object) -> None:
    """Counts a refusal, in memory only: strangers must not be able to fill the disk. `flush` records it."""
    control.guard.refusals.note(organisation, action, subject, address, detail, control.clock())


def flush(control: Control) -> None:
    """Records the refusals that are due: the first of a kind from an address at once, the rest as a sum each hour."""
    due = control.guard.refusals.due(control.clock())
    if not due:
        return
    with control.database.write() as connection:
        for one in due:
            by, counted = Actor(GATEWAY, one.address), {**one.detail, "count": one.times, "since": one.first_at}
            record(connection, control, one.organisation, by, one.action, one.subject, **counted)
    for one in due:
        if one.detail.get("alert"):
            _LOG.warning("%s from %s: %s %s", one.action, one.address, one.detail.get("reason"), one.subject)


def list_(control: Control, organisation: str, limit: int = 100, after: int | None = None) -> list[AuditRow]:
    """The newest records first; `after` goes on behind the record of that number."""
    with control.database.read() as connection:
        return audit.listed(connection, organisation, limit, after)
