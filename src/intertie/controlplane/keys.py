"""API keys: made, listed, revoked. The key itself leaves only in the answer to its making."""

from __future__ import annotations

import os
from typing import TypedDict, Unpack

import msgspec

from intertie.controlplane import audit, projects
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.consistency import nearest
from intertie.controlplane.control import Conflict, Control, Unknown, make_id, nobody
from intertie.controlplane.outcome import Origin, Outcome
from intertie.core import keys as form
from intertie.core.errors import BadCall
from intertie.core.terms import Trust
from intertie.store import keys, members, revision
from intertie.store.database import Connection
from intertie.store.keys import KeyRow


class Access(TypedDict, total=False):
    """What a key may reach."""

    models: tuple[str, ...] | None
    """Route names; None means all of the organisation."""
    trust: Trust
    """Ceiling: the most exposed class a call may reach."""
    expires_at: float | None
    """UTC seconds; None means never."""
    member: str | None
    """Address of the member it belongs to."""


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key, with the secret that is never shown again."""

    key: KeyRow
    secret: str

    def __repr__(self) -> str:
        return f"CreatedKey(key={self.key!r}, secret=***)"


def create(
    control: Control,
    organisation: str,
    project: str,
    name: str,
    by: Actor = BY_GATEWAY,
    *,
    value: str | None = None,
    **access: Unpack[Access],
) -> CreatedKey:
    """A new key of the project, which is made if need be. Without `value` it is generated.

    Raises `Conflict` if the project has a live key of that name or the value is in use, `BadCall` if the value is weak,
    `Unknown` if it is to belong to nobody known.
    """
    if value is not None and (flaw := form.flaw(value)):
        raise BadCall(f"the value cannot be an API key: {flaw}", param="value")
    secret = value if value is not None else form.make_key(os.urandom(form.ENTROPY))
    with control.database.write() as connection:
        _known(connection, organisation, access.get("member"))
        projects.write(connection, control, organisation, project, Origin.API, by)
        row = _row(control, organisation, project, name, secret, access)
        _insert(connection, control, row, secret)
        _record(connection, control, by, None, row)
        revision.bump(connection)
    return CreatedKey(row, secret)


def list_(control: Control, organisation: str, project: str | None = None, *, revoked: bool = False) -> list[KeyRow]:
    """Keys by project and name: live ones, or with `revoked` all."""
    with control.database.read() as connection:
        return keys.listed(connection, organisation, project, revoked=revoked)


def revoke(
    control: Control, organisation: str, key: str, by: Actor = BY_GATEWAY, *, project: str | None = None
) -> KeyRow:
    """Ends a key, named by id or (within `project`, if given) by name. Revoking again changes nothing.

    Raises `Unknown` if there is none, `Conflict` if several projects have a key of that name.
    """
    with control.database.write() as connection:
        found = _named(connection, organisation, key, project)
        if found.revoked_at is not None:
            return found
        ended = end(connection, control, found, Origin.API, by)
        revision.bump(connection)
        return ended


def assign(
    control: Control,
    organisation: str,
    key: str,
    member: str | None,
    by: Actor = BY_GATEWAY,
    *,
    project: str | None = None,
) -> KeyRow:
    """Gives a key, named as for `revoke`, to a member, or to nobody. What it was used for stays whose it was.

    Raises `Unknown` and `Conflict` like `revoke`, and for a member who is not there or a key that is revoked.
    """
    with control.database.write() as connection:
        before = _named(connection, organisation, key, project)
        if before.revoked_at is not None:
            raise Conflict(f"the key {before.project}/{before.name} is revoked: nobody can have it any more")
        _known(connection, organisation, member)
        after = msgspec.structs.replace(before, member=member)
        if after != before:
            keys.update(connection, after)
            _record(connection, control, by, before, after)
            revision.bump(connection)
        return after


def end(connection: Connection, control: Control, row: KeyRow, origin: Origin, by: Actor = BY_GATEWAY) -> KeyRow:
    """Revokes the key inside the caller's transaction."""
    ended = msgspec.structs.replace(row, revoked_at=control.clock(), revoked_by=origin)
    keys.update(connection, ended)
    _record(connection, control, by, row, ended)
    return ended


class Written(msgspec.Struct, frozen=True):
    """What writing a key from a configuration file did."""

    outcome: Outcome
    created: CreatedKey | None = None
    """Set when the key was generated."""
    warning: str = ""


def write(
    connection: Connection,
    control: Control,
    organisation: str,
    place: tuple[str, str],
    value: str | None,
    by: Actor = BY_GATEWAY,
    **access: Unpack[Access],
) -> Written:
    """Makes the key at `place` (project, name) so, inside the caller's transaction, owned by the configuration file.

    Without `value` an existing key is kept, and a missing one generated. A value that somebody revoked stays revoked.
    Raises `Conflict` if another live key has the value.
    """
    project, name = place
    before = keys.live(connection, organisation, project, name)
    digest = None if value is None else form.hash_key(control.vault.pepper, value)
    same = keys.by_hash(connection, organisation, digest) if digest is not None else None
    if same is not None and same.revoked_at is not None and same.revoked_by == Origin.API:
        return Written(Outcome.UNCHANGED, warning=f"key {project}/{name} was revoked and stays so: give it a new value")
    if before is None:
        secret = value if value is not None else form.make_key(os.urandom(form.ENTROPY))
        row = msgspec.structs.replace(
            _row(control, organisation, project, name, secret, access), origin=Origin.CONFIG.value
        )
        _insert(connection, control, row, secret)
        _record(connection, control, by, None, row)
        return Written(Outcome.CREATED, created=CreatedKey(row, secret) if value is None else None)
    after = msgspec.structs.replace(
        _row(control, organisation, project, name, value or "", access),
        id=before.id,
        created_at=before.created_at,
        origin=Origin.CONFIG.value,
        hint=before.hint if value is None else form.hint(value),
    )
    changed_secret = digest is not None and (same is None or same.id != before.id)
    if after == before and not changed_secret:
        return Written(Outcome.UNCHANGED)
    if not keys.update(connection, after, digest if changed_secret else None):
        raise Conflict(f"the value of key {project}/{name} is already in use by another key")
    _record(connection, control, by, before, after, secret=changed_secret)
    unchanged = msgspec.structs.replace(after, origin=before.origin) == before and not changed_secret
    return Written(Outcome.UNCHANGED if unchanged else Outcome.UPDATED)


def _row(control: Control, organisation: str, project: str, name: str, secret: str, access: Access) -> KeyRow:
    return KeyRow(
        organisation=organisation,
        id=make_id("key"),
        project=project,
        name=name,
        hint=form.hint(secret),
        trust=access.get("trust", Trust.VENDOR).value,
        origin=Origin.API.value,
        created_at=control.clock(),
        models=access.get("models"),
        expires_at=access.get("expires_at"),
        member=access.get("member"),
    )


def _named(connection: Connection, organisation: str, key: str, project: str | None) -> KeyRow:
    """The key of that id, revoked or not, or the live one of that name."""
    found = keys.by_id(connection, organisation, key)
    if found is not None:
        return found
    rows = keys.listed(connection, organisation, project, revoked=False)
    named = [row for row in rows if row.name == key]
    if len(named) > 1:
        places = ", ".join(row.project for row in named)
        raise Conflict(f"several projects have a key named {key} ({places}): name the project or use the id")
    if not named:
        raise nobody("key", key, [row.name for row in rows], "intertie keys list")
    return named[0]


def _known(connection: Connection, organisation: str, member: str | None) -> None:
    """Raises `Unknown` unless a key may be this member's, or nobody's."""
    if member is None:
        return
    there = [row.email for row in members.live(connection, organisation)]
    if member not in there:
        near = nearest(member, there) or f"add them with: intertie members add {member}"
        raise Unknown(f"no member has the address {member}: {near}", param="member")


def _insert(connection: Connection, control: Control, row: KeyRow, secret: str) -> None:
    if not keys.insert(connection, row, form.hash_key(control.vault.pepper, secret)):
        raise Conflict(f"the project {row.project} already has a key named {row.name}, or the value is in use")


def _record(
    connection: Connection,
    control: Control,
    by: Actor,
    before: KeyRow | None,
    after: KeyRow,
    *,
    secret: bool = False,
) -> None:
    """`secret`: the key itself was replaced, which the hint may not show."""
    old, new = None if before is None else _look(before), _look(after)
    if secret and old is not None:
        old["key"], new["key"] = "another", "new"
    verb = "revoke" if after.revoked_at is not None else ""
    item = Item("key", after.id, old, new, name=f"{after.project}/{after.name}")
    audit.changed(connection, control, after.organisation, by, item, verb=verb)


def _look(row: KeyRow) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name not in {"organisation", "id"}}
