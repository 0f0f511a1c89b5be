"""Nodes and their public keys. Never a secret of a node: there is none to store."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from intertie.store.schema import node_keys, nodes


class NodeRow(msgspec.Struct, frozen=True):
    """An enrolled machine. Its upstream has the same id and name."""

    organisation: str
    id: str
    name: str
    state: str
    """pending, active, revoked or duplicate."""
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


class NodeKeyRow(msgspec.Struct, frozen=True):
    """A public key by which a node proves itself until `retires_at`."""

    organisation: str
    id: str
    node: str
    public_key: bytes
    created_at: float
    retires_at: float | None = None


def listed(connection: sa.Connection, organisation: str | None = None) -> list[NodeRow]:
    """Nodes in any state by name, of one organisation or (for the snapshot) of all."""
    query = sa.select(nodes)
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
    """Adds the node, whose upstream must be there, or replaces the one with its id."""
    values = msgspec.structs.asdict(row) | {"labels": list(row.labels)}
    chosen = sa.and_(nodes.c.organisation == row.organisation, nodes.c.id == row.id)
    if connection.execute(sa.update(nodes).where(chosen).values(**values)).rowcount == 0:
        connection.execute(sa.insert(nodes).values(**values))


def seen(connection: sa.Connection, organisation: str, node: str, at: float) -> None:
    """Notes when the node (id) was last there."""
    chosen = sa.and_(nodes.c.organisation == organisation, nodes.c.id == node)
    connection.execute(sa.update(nodes).where(chosen).values(last_seen_at=at))


def delete(connection: sa.Connection, organisation: str, node: str) -> None:
    """Removes the node (id) with its keys; its upstream stays."""
    connection.execute(sa.delete(nodes).where(nodes.c.organisation == organisation, nodes.c.id == node))


def keys(connection: sa.Connection, organisation: str, node: str) -> list[NodeKeyRow]:
    """All keys of the node (id), the newest first; those with a past `retires_at` are of no use any more."""
    query = sa.select(node_keys).where(node_keys.c.organisation == organisation, node_keys.c.node == node)
    ordered = query.order_by(node_keys.c.created_at.desc(), node_keys.c.id)
    return [NodeKeyRow(**row) for row in connection.execute(ordered).mappings()]


def add_key(connection: sa.Connection, row: NodeKeyRow) -> None:
    """Adds a public key."""
    connection.execute(sa.insert(node_keys).values(**msgspec.structs.asdict(row)))


def retire_keys(connection: sa.Connection, organisation: str, node: str, at: float) -> None:
    """Lets every key that the node (id) has now end at `at`, unless it ends earlier."""
    chosen = sa.and_(
        node_keys.c.organisation == organisation,
        node_keys.c.node == node,
        sa.or_(node_keys.c.retires_at.is_(None), node_keys.c.retires_at > at),
    )
    connection.execute(sa.update(node_keys).where(chosen).values(retires_at=at))


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[NodeRow]:
    return [NodeRow(**{**row, "labels": tuple(row["labels"])}) for row in connection.execute(query).mappings()]
