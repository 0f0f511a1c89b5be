"""Nodes and their public keys. Never a secret of a node: there is none to store."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from intertie.core.terms import NODE
from intertie.store.schema import node_keys, nodes, upstream_models, upstreams

ACTIVE: Final = "active"
"""The state in which a node may connect and serve."""

_UPSTREAM: Final = MappingProxyType(
    {"provider": NODE, "base_url": "", "headers": None, "origin": "node"}
    | {"connect_timeout": 3.0, "first_output_timeout": 120.0, "between_output_timeout": 60.0}
)
"""What the upstream of every node is. The first output may wait for a model to be loaded."""


_STANDING: Final = [column for column in nodes.c if column.name != "inventory"]


class NodeRow(msgspec.Struct, frozen=True):
    """An enrolled machine. Its upstream has the same id, name, trust and region, and is enabled while it is active."""

    organisation: str
    id: str
    name: str
    state: str
    """pending, active, revoked, duplicate or left."""
    trust: str
    labels: tuple[str, ...]
    drained: bool
    slots: int | None
    epoch: int
    instance: str
    fingerprint: str
    ephemeral: bool
    inventory: dict[str, Any]
    version: str
    platform: str
    enrolled_at: float
    enrolled_by: str
    last_seen_at: float | None = None
    last_address: str = ""
    revoked_at: float | None = None
    region: str | None = None
    """Where it stands, as an operator says."""


class NodeKeyRow(msgspec.Struct, frozen=True):
    """A public key by which a node proves itself until `retires_at`."""

    organisation: str
    id: str
    node: str
    public_key: bytes
    created_at: float
    retires_at: float | None = None


def listed(connection: sa.Connection, organisation: str | None = None, *, reports: bool = True) -> list[NodeRow]:
    """Nodes in any state by name, of one organisation or (for the snapshot) of all.

    Without `reports` their inventories are left empty, which saves reading megabytes of JSON where they do not matter.
    """
    query = sa.select(nodes) if reports else sa.select(*_STANDING)
    if organisation is not None:
        query = query.where(nodes.c.organisation == organisation)
    return _rows(connection, query.order_by(nodes.c.name))


def one(connection: sa.Connection, organisation: str, name: str) -> NodeRow | None:
    """The node of that name."""
    query = sa.select(nodes).where(nodes.c.organisation == organisation, nodes.c.name == name)
    return next(iter(_rows(connection, query)), None)


def by_id(connection: sa.Connection, node: str, organisation: str | None = None) -> NodeRow | None:
    """The node of that id, in any organisation unless one is given."""
    query = sa.select(nodes).where(nodes.c.id == node)
    if organisation is not None:
        query = query.where(nodes.c.organisation == organisation)
    return next(iter(_rows(connection, query)), None)


def names(connection: sa.Connection, organisation: str) -> set[str]:
    """Names that nodes of the organisation have."""
    return set(connection.execute(sa.select(nodes.c.name).where(nodes.c.organisation == organisation)).scalars())


def write(connection: sa.Connection, row: NodeRow) -> None:
    """Adds the node and its upstream, or replaces the one with its id and keeps the upstream in step."""
    values = msgspec.structs.asdict(row) | {"labels": list(row.labels)}
    shared = {"name": row.name, "trust": row.trust, "region": row.region, "enabled": row.state == ACTIVE}
    ours = sa.and_(upstreams.c.organisation == row.organisation, upstreams.c.id == row.id)
    if connection.execute(sa.update(upstreams).where(ours).values(**shared)).rowcount == 0:
        fixed = {"organisation": row.organisation, "id": row.id, "created_at": row.enrolled_at, **_UPSTREAM}
        connection.execute(sa.insert(upstreams).values(**fixed, **shared))
    chosen = sa.and_(nodes.c.organisation == row.organisation, nodes.c.id == row.id)
    if connection.execute(sa.update(nodes).where(chosen).values(**values)).rowcount == 0:
        connection.execute(sa.insert(nodes).values(**values))


def write_models(connection: sa.Connection, organisation: str, node: str, models: Sequence[str]) -> None:
    """Makes these the models of the node's upstream. They cost nothing, unless they were there with a price."""
    ours = sa.and_(upstream_models.c.organisation == organisation, upstream_models.c.upstream == node)
    before = {row["name"]: dict(row) for row in connection.execute(sa.select(upstream_models).where(ours)).mappings()}
    connection.execute(sa.delete(upstream_models).where(ours))
    if models:
        place, absent = {"organisation": organisation, "upstream": node}, {"cached_input": None, "cache_write": None}
        free = {**place, "input": 0, "output": 0, **absent}
        rows = [{**before.get(name, free), "name": name, "position": at} for at, name in enumerate(models)]
        connection.execute(sa.insert(upstream_models), rows)


def seen(connection: sa.Connection, organisation: str, node: str, at: float) -> None:
    """Notes when the node (id) was last there."""
    chosen = sa.and_(nodes.c.organisation == organisation, nodes.c.id == node)
    connection.execute(sa.update(nodes).where(chosen).values(last_seen_at=at))


def delete(connection: sa.Connection, organisation: str, node: str) -> None:
    """Removes the node (id) with its keys and its upstream, which no target may name."""
    for table in (nodes, upstreams):
        connection.execute(sa.delete(table).where(table.c.organisation == organisation, table.c.id == node))


def keys(connection: sa.Connection, organisation: str, node: str) -> list[NodeKeyRow]:
    """All keys of the node (id), the newest first; those with a past `retires_at` are of no use any more."""
    query = sa.select(node_keys).where(node_keys.c.organisation == organisation, node_keys.c.node == node)
    ordered = query.order_by(node_keys.c.created_at.desc(), node_keys.c.id)
    return [NodeKeyRow(**row) for row in connection.execute(ordered).mappings()]


def add_key(connection: sa.Connection, row: NodeKeyRow) -> None:
    """Adds a public key."""
    connection.execute(sa.insert(node_keys).values(**msgspec.structs.asdict(row)))


def retire_keys(connection: sa.Connection, organisation: str, node: str, at: float, *, but: str = "") -> None:
    """Lets every key that the node (id) has now, `but` one (id), end at `at`, unless it ends earlier."""
    chosen = sa.and_(
        node_keys.c.organisation == organisation,
        node_keys.c.node == node,
        node_keys.c.id != but,
        sa.or_(node_keys.c.retires_at.is_(None), node_keys.c.retires_at > at),
    )
    connection.execute(sa.update(node_keys).where(chosen).values(retires_at=at))


def with_older_keys(connection: sa.Connection, before: float) -> list[str]:
    """Active nodes (ids) of every organisation whose newest key was made before then."""
    newest = sa.func.max(node_keys.c.created_at)
    query = (
        sa.select(node_keys.c.node)
        .join(nodes, sa.and_(nodes.c.organisation == node_keys.c.organisation, nodes.c.id == node_keys.c.node))
        .where(nodes.c.state == ACTIVE)
        .group_by(node_keys.c.organisation, node_keys.c.node)
        .having(newest < before)
    )
    return list(connection.execute(query).scalars())


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[NodeRow]:
    found = connection.execute(query).mappings()
    return [NodeRow(**{"inventory": {}, **row, "labels": tuple(row["labels"])}) for row in found]
