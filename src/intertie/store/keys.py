"""API keys: keyed hashes and what they may reach. Never a key itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from intertie.core.terms import Caller, Trust
from intertie.store.schema import api_keys


class KeyRow(msgspec.Struct, frozen=True):
    """An API key as lists show it."""

    organisation: str
    id: str
    project: str
    name: str
    hint: str
    """A few characters of the key, to tell keys apart."""
    trust: str
    origin: str
    created_at: float
    models: tuple[str, ...] | None = None
    """Routes the key may use; None means all."""
    expires_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str | None = None
    member: str | None = None
    """Address of the member it belongs to."""


_SHOWN = [api_keys.c[field.name] for field in msgspec.structs.fields(KeyRow)]


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[KeyRow]:
    found = []
    for row in connection.execute(query).mappings():
        models = row["models"]
        found.append(KeyRow(**{**row, "models": None if models is None else tuple(models)}))
    return found


def listed(connection: sa.Connection, organisation: str, project: str | None, *, revoked: bool) -> list[KeyRow]:
    """Keys of the organisation (of one project, if given) by project and name; `revoked` includes revoked ones."""
    query = sa.select(*_SHOWN).where(api_keys.c.organisation == organisation)
    if project is not None:
        query = query.where(api_keys.c.project == project)
    if not revoked:
        query = query.where(api_keys.c.revoked_at.is_(None))
    return _rows(connection, query.order_by(api_keys.c.project, api_keys.c.name, api_keys.c.id))


def owned(connection: sa.Connection, organisation: str, member: str | None = None) -> list[KeyRow]:
    """Keys that belong to this member (to any, if none is given) and are not revoked, by project and name."""
    theirs = api_keys.c.member.is_not(None) if member is None else api_keys.c.member == member
    query = sa.select(*_SHOWN).where(api_keys.c.organisation == organisation, theirs, api_keys.c.revoked_at.is_(None))
    return _rows(connection, query.order_by(api_keys.c.project, api_keys.c.name))


def live(connection: sa.Connection, organisation: str, project: str, name: str) -> KeyRow | None:
    """The key of that name in the project, unless it is revoked."""
    query = sa.select(*_SHOWN).where(
        api_keys.c.organisation == organisation,
        api_keys.c.project == project,
        api_keys.c.name == name,
        api_keys.c.revoked_at.is_(None),
    )
    return next(iter(_rows(connection, query)), None)


def by_id(connection: sa.Connection, organisation: str, key_id: str) -> KeyRow | None:
    """The key of that id, revoked or not."""
    query = sa.select(*_SHOWN).where(api_keys.c.organisation == organisation, api_keys.c.id == key_id)
    return next(iter(_rows(connection, query)), None)


def by_hash(connection: sa.Connection, organisation: str, digest: bytes) -> KeyRow | None:
    """The organisation's live key with that hash, or the one revoked last."""
    query = (
        sa.select(*_SHOWN)
        .where(api_keys.c.organisation == organisation, api_keys.c.hash == digest)
        .order_by(api_keys.c.revoked_at.is_(None).desc(), api_keys.c.revoked_at.desc())
    )
    return next(iter(_rows(connection, query)), None)


def insert(connection: sa.Connection, row: KeyRow, digest: bytes) -> bool:
    """Adds a key; False if a live key has that name in its project, or that hash anywhere."""
    values = {**msgspec.structs.asdict(row), "hash": digest}
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(api_keys).values(**values))
    except sa.exc.IntegrityError:
        return False
    return True


def update(connection: sa.Connection, row: KeyRow, digest: bytes | None = None) -> bool:
    """Writes the key of the row's id, with a new hash if given; False if another live key has that hash."""
    values = msgspec.structs.asdict(row) | ({} if digest is None else {"hash": digest})
    chosen = sa.and_(api_keys.c.organisation == row.organisation, api_keys.c.id == row.id)
    try:
        with connection.begin_nested():
            connection.execute(sa.update(api_keys).where(chosen).values(**values))
    except sa.exc.IntegrityError:
        return False
    return True


def callers(connection: sa.Connection) -> Iterator[tuple[bytes, Caller]]:
    """Every live key of every organisation, as the data plane needs it: (hash, caller). Expiry is for the request."""
    names = ("hash", "organisation", "project", "id", "name", "models", "trust", "expires_at", "member")
    query = sa.select(*(api_keys.c[name] for name in names)).where(api_keys.c.revoked_at.is_(None))
    trusts = {trust.value: trust for trust in Trust}
    for digest, organisation, project, key_id, name, models, trust, expires_at, member in connection.execute(query):
        yield (
            digest,
            Caller(
                organisation=organisation,
                project=project,
                key_id=key_id,
                key_name=name,
                models=None if models is None else frozenset(models),
                trust=trusts[trust],
                expires_at=expires_at,
                member=member or "",
            ),
        )
