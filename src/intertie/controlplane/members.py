"""Members: the people of an organisation. A member is known by their address.

Whoever is removed keeps no access: removing is refused while they have keys, or revokes these in the same transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from intertie.controlplane import audit, keys
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.config import ConfigProblems, Document
from intertie.controlplane.consistency import Problem, nearest
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.member_entries import MemberChangeEntry, MemberEntry
from intertie.controlplane.outcome import Origin, Outcome
from intertie.store import keys as stored_keys
from intertie.store import members, revision
from intertie.store.database import Connection
from intertie.store.keys import KeyRow
from intertie.store.members import MemberRow

_NAMED: Final = 5
"""Keys that a refusal names, at most."""


class MemberView(msgspec.Struct, frozen=True):
    """A member as lists show it. `created_at` is UTC seconds."""

    email: str
    name: str
    role: str
    """owner, admin, member, billing or auditor."""
    origin: str
    created_at: float
    keys: tuple[str, ...]
    """Keys that are theirs and not revoked, as `project/name`."""


class RemovedMember(msgspec.Struct, frozen=True):
    """Who was removed, and which keys (`project/name`) were revoked with them."""

    removed: str
    revoked: tuple[str, ...]


def add(control: Control, organisation: str, entry: MemberEntry, by: Actor = BY_GATEWAY) -> MemberView:
    """A new member, or one who was removed and is back. Raises `Conflict` if there is one of that address."""
    with control.database.write() as connection:
        found = members.find(connection, organisation, entry.email)
        if found is not None and found.removed_at is None:
            raise Conflict(f"{entry.email} is a member already: intertie members update {entry.email} changes them")
        write(connection, control, organisation, entry, Origin.API, by)
        revision.bump(connection)
        return _view(_named(connection, organisation, entry.email), ())


def list_(control: Control, organisation: str) -> list[MemberView]:
    """The organisation's members by address."""
    with control.database.read() as connection:
        held = defaultdict(list)
        for key in stored_keys.owned(connection, organisation):
            held[key.member].append(key)
        return [_view(row, held[row.email]) for row in members.live(connection, organisation)]


def show(control: Control, organisation: str, email: str) -> MemberView:
    """The member of that address. Raises `Unknown`."""
    with control.database.read() as connection:
        row = _named(connection, organisation, email)
        return _view(row, stored_keys.owned(connection, organisation, row.email))


def change(
    control: Control, organisation: str, email: str, wanted: MemberChangeEntry, by: Actor = BY_GATEWAY
) -> MemberView:
    """Sets name, role or both. Raises `Unknown`."""
    with control.database.write() as connection:
        before = _named(connection, organisation, email)
        given = wanted.model_dump(mode="json", exclude_none=True)
        after = msgspec.structs.replace(before, **given)
        if after != before:
            after = msgspec.structs.replace(after, origin=Origin.API.value)
            members.update(connection, after)
            _record(connection, control, by, before, after)
            revision.bump(connection)
        return _view(after, stored_keys.owned(connection, organisation, after.email))


def remove(
    control: Control, organisation: str, email: str, by: Actor = BY_GATEWAY, *, revoke_keys: bool = False
) -> RemovedMember:
    """Removes a member; the books keep their address, and their limits count again if they come back.

    Raises `Unknown`, or `Conflict` while they have keys, unless these are to be revoked.
    """
    with control.database.write() as connection:
        row = _named(connection, organisation, email)
        held = stored_keys.owned(connection, organisation, row.email) if revoke_keys else []
        for key in held:
            keys.end(connection, control, key, Origin.API, by)
        discard(connection, control, row, by)
        revision.bump(connection)
    return RemovedMember(row.email, tuple(_called(key) for key in held))


def write(
    connection: Connection,
    control: Control,
    organisation: str,
    entry: MemberEntry,
    origin: Origin,
    by: Actor = BY_GATEWAY,
) -> Outcome:
    """Makes the member so, inside the caller's transaction."""
    before = members.find(connection, organisation, entry.email)
    after = MemberRow(
        organisation=organisation,
        email=entry.email,
        name=entry.name or "",
        role=entry.role.value,
        origin=origin.value,
        created_at=before.created_at if before is not None else control.clock(),
    )
    if after == before:
        return Outcome.UNCHANGED
    (members.insert if before is None else members.update)(connection, after)
    _record(connection, control, by, before, after)
    if before is None or before.removed_at is not None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if msgspec.structs.replace(after, origin=before.origin) == before else Outcome.UPDATED


def discard(connection: Connection, control: Control, row: MemberRow, by: Actor = BY_GATEWAY) -> None:
    """Removes a member inside the caller's transaction. Raises `Conflict` while they have keys."""
    if held := stored_keys.owned(connection, row.organisation, row.email):
        named = [_called(key) for key in held]
        told = ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "")
        raise Conflict(
            f"{row.email} has keys that still work: {told}. Revoke these first, or all at once with: "
            f"intertie members remove {row.email} --revoke-keys"
        )
    removed = msgspec.structs.replace(row, removed_at=control.clock())
    members.update(connection, removed)
    _record(connection, control, by, row, removed)


def check(connection: Connection, organisation: str, document: Document) -> None:
    """Raises `ConfigProblems` if a key of the document is said to be somebody's who is no member, nor will be."""
    listed = {entry.email for entry in document.members}
    listed |= {row.email for row in members.live(connection, organisation) if row.origin != Origin.CONFIG}
    if found := list(_strangers(document, sorted(listed))):
        raise ConfigProblems(found)


def _strangers(document: Document, known: Sequence[str]) -> Iterator[Problem]:
    for at, project in enumerate(document.projects):
        for number, key in enumerate(project.keys):
            if key.member is not None and key.member not in known:
                hint = nearest(key.member, list(known)) or "list them under `members`"
                yield Problem(f"projects[{at}].keys[{number}].member", f"{key.member} is no member", hint)


def _named(connection: Connection, organisation: str, email: str) -> MemberRow:
    found = members.find(connection, organisation, email.lower())
    if found is None or found.removed_at is not None:
        known = [row.email for row in members.live(connection, organisation)]
        raise Unknown(f"no member has the address {email}: {nearest(email, known) or 'intertie members list'}")
    return found


def _called(key: KeyRow) -> str:
    return f"{key.project}/{key.name}"


def _view(row: MemberRow, held: Sequence[KeyRow]) -> MemberView:
    return MemberView(row.email, row.name, row.role, row.origin, row.created_at, tuple(map(_called, held)))


def _record(connection: Connection, control: Control, by: Actor, before: MemberRow | None, after: MemberRow) -> None:
    item = Item("member", after.email, None if before is None else _look(before), _look(after))
    audit.changed(connection, control, after.organisation, by, item)


def _look(row: MemberRow) -> dict[str, object] | None:
    if row.removed_at is not None:
        return None
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name not in {"organisation", "email"}}
