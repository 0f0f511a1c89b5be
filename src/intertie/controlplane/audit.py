"""The audit trail: each change is recorded in the transaction that makes it; refusals are counted and told in sum.

A change that cannot be recorded does not happen: the record is written in the same transaction, before its end.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from intertie.controlplane import trail
from intertie.controlplane.control import Control
from intertie.store import audit
from intertie.store.audit import ALL, AuditRow, Wanted
from intertie.store.database import Connection

__all__ = [
    "ALL",
    "BY_GATEWAY",
    "GATEWAY",
    "Actor",
    "Item",
    "Wanted",
    "changed",
    "flush",
    "list_",
    "record",
    "refuse",
]

GATEWAY: Final = "gateway"
_LOG: Final = logging.getLogger("intertie.audit")


class Actor(NamedTuple):
    """Who does something, and from which address."""

    name: str
    """`admin`, `file <name>`, `node <id>`, `token <id>` or `gateway`."""
    address: str = ""


BY_GATEWAY: Final = Actor(GATEWAY)


class Item(NamedTuple):
    """What a change is made to: its kind, its id, and what it looks like before and after; None where it is not there.

    Neither look holds a secret: only ids, names, hints and where secrets come from.
    """

    kind: str
    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    name: str = ""
    """For people, where the id is not what they call it."""


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
    made = audit.append(
        connection,
        {
            "organisation": organisation,
            "at": float(control.clock()),
            "actor": _words(by.name, 200),
            "action": action,
            "subject": _words(subject, 200),
            "address": _words(by.address, 64),
            "detail": detail,
        },
    )
    if made.seq % trail.EVERY == 0:
        trail.sign(connection, control)


def changed(
    connection: Connection, control: Control, organisation: str, by: Actor, item: Item, *, verb: str = ""
) -> None:
    """Records that an item was made, updated or removed: `route.create` and so on, or with another `verb`.

    Of an update only what differs is told, as `before` and `after`. No difference, no record.
    """
    before, after = _plain(item.before), _plain(item.after)
    if before == after:
        return
    if before is not None and after is not None:
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        before, after = ({name: look.get(name) for name in names} for look in (before, after))
    else:
        before, after = _telling(before), _telling(after)
    deed = verb or ("create" if before is None else "remove" if after is None else "update")
    looks = {name: look for name, look in (("before", before), ("after", after)) if look is not None}
    called = {"name": item.name} if item.name else {}
    record(connection, control, organisation, by, f"{item.kind}.{deed}", item.id, **called, **looks)


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


def list_(
    control: Control, organisation: str, limit: int = 100, after: int | None = None, wanted: Wanted = ALL
) -> list[AuditRow]:
    """The newest wanted records first; `after` goes on behind the record of that number."""
    with control.database.read() as connection:
        return audit.listed(connection, organisation, limit, after, wanted)


def _words(text: str, most: int) -> str:
    """Text that every encoding can hold, cut to size."""
    return text[:most].encode("utf-8", "replace").decode()


def _plain(look: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """With enumerations as their words."""
    if look is None:
        return None
    return {name: value.value if isinstance(value, Enum) else value for name, value in look.items()}


def _telling(look: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without what says nothing."""
    return look and {name: value for name, value in look.items() if value not in (None, "", (), [], {})}
