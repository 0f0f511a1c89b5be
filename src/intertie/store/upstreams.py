"""Upstreams with their credentials (ciphertext only) and models."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec
import sqlalchemy as sa

from intertie.core.terms import NODE
from intertie.store.schema import credentials, shadows, targets, upstream_models, upstreams


class CredentialRow(msgspec.Struct, frozen=True):
    """One sealed secret; `label` says where it came from."""

    id: str
    label: str
    sealed: bytes
    created_at: float


class ModelRow(msgspec.Struct, frozen=True):
    """A model and its own price in micro-units per million tokens; no `input` means the catalogue's price."""

    name: str
    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None


_PLACE: Final = (upstream_models.c.organisation, upstream_models.c.upstream)
_MODEL: Final = [upstream_models.c[field.name] for field in msgspec.structs.fields(ModelRow)]


class UpstreamRow(msgspec.Struct, frozen=True):
    """An upstream. `headers` is sealed JSON, or None where there are none."""

    organisation: str
    id: str
    name: str
    provider: str
    base_url: str
    trust: str
    headers: bytes | None
    connect_timeout: float
    first_output_timeout: float
    between_output_timeout: float
    enabled: bool
    origin: str
    created_at: float
    region: str | None = None
    paused: tuple[str, ...] = ()
    """Models that get no calls for now, sorted; `*` is all of them."""
    credentials: tuple[CredentialRow, ...] = ()
    models: tuple[ModelRow, ...] = ()


def listed(connection: sa.Connection, organisation: str | None = None) -> list[UpstreamRow]:
    """Upstreams by name, of one organisation or (for the snapshot) of all."""
    sealed: dict[tuple[str, str], list[CredentialRow]] = defaultdict(list)
    for row in connection.execute(_of(credentials, organisation).order_by(credentials.c.position)):
        sealed[row.organisation, row.upstream].append(CredentialRow(row.id, row.label, row.sealed, row.created_at))
    models: dict[tuple[str, str], list[ModelRow]] = defaultdict(list)
    priced = _of(upstream_models, organisation).with_only_columns(*_PLACE, *_MODEL).order_by(upstream_models.c.position)
    for owner, upstream, *model in connection.execute(priced):  # there may be tens of thousands
        models[owner, upstream].append(ModelRow(*model))
    return [
        UpstreamRow(
            **{**row, "paused": tuple(row["paused"] or ())},
            credentials=tuple(sealed[row["organisation"], row["id"]]),
            models=tuple(models[row["organisation"], row["id"]]),
        )
        for row in connection.execute(_of(upstreams, organisation).order_by(upstreams.c.name)).mappings()
    ]


def ids(connection: sa.Connection, organisation: str) -> dict[str, str]:
    """Name -> id of the organisation's upstreams."""
    query = sa.select(upstreams.c.name, upstreams.c.id).where(upstreams.c.organisation == organisation)
    return {row.name: row.id for row in connection.execute(query)}


def nodes(connection: sa.Connection, organisation: str) -> dict[str, str]:
    """Name -> id of those that are machines which enrolled here."""
    chosen = sa.and_(upstreams.c.organisation == organisation, upstreams.c.provider == NODE)
    return {row.name: row.id for row in connection.execute(sa.select(upstreams.c.name, upstreams.c.id).where(chosen))}


def write(connection: sa.Connection, row: UpstreamRow) -> None:
    """Adds the upstream, or replaces the one with its id, together with its credentials and models."""
    values = msgspec.structs.asdict(row)
    del values["credentials"], values["models"]
    chosen = sa.and_(upstreams.c.organisation == row.organisation, upstreams.c.id == row.id)
    if connection.execute(sa.update(upstreams).where(chosen).values(**values)).rowcount == 0:
        connection.execute(sa.insert(upstreams).values(**values))
    place = {"organisation": row.organisation, "upstream": row.id}
    for table, children in ((credentials, row.credentials), (upstream_models, row.models)):
        connection.execute(sa.delete(table).where(table.c.organisation == row.organisation, table.c.upstream == row.id))
        if children:
            connection.execute(
                sa.insert(table),
                [{**place, "position": at, **msgspec.structs.asdict(child)} for at, child in enumerate(children)],
            )


def users(connection: sa.Connection, organisation: str, upstream: str) -> list[str]:
    """Models of the routes that have a target or a shadow target on this upstream (id)."""
    named = (
        sa.select(table.c.route).where(table.c.organisation == organisation, table.c.upstream == upstream)
        for table in (targets, shadows)
    )
    return sorted(connection.execute(sa.union(*named)).scalars())


def targeted(connection: sa.Connection, organisation: str, upstream: str) -> set[str]:
    """Models of this upstream (id) that routes have as targets."""
    query = sa.select(targets.c.model).where(targets.c.organisation == organisation, targets.c.upstream == upstream)
    return set(connection.execute(query).scalars())


def delete(connection: sa.Connection, organisation: str, upstream: str) -> None:
    """Removes an upstream (id) that no target names, with its credentials and models."""
    connection.execute(sa.delete(upstreams).where(upstreams.c.organisation == organisation, upstreams.c.id == upstream))


def _of(table: sa.Table, organisation: str | None) -> sa.Select[tuple[object, ...]]:
    query = sa.select(table)
    return query if organisation is None else query.where(table.c.organisation == organisation)
