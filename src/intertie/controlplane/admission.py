"""A node proves itself on each connection: by its key over this connection's challenge, whatever clock it has."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import DEFAULT_ORGANISATION, Control, make_id
from intertie.controlplane.vault import signed_by
from intertie.core.wire.enrolment import rotate_message
from intertie.core.wire.link import PROTOCOL, CloseCode
from intertie.store import nodes, revision
from intertie.store.database import Connection
from intertie.store.nodes import NodeKeyRow, NodeRow

OVERLAP: Final = 86_400.0
"""Seconds for which a replaced key still opens the door, should the node have lost the answer."""
_LONGEST: Final = 200
_STATES: Final = {
    "pending": (CloseCode.PENDING, "an operator has not approved this node yet"),
    "revoked": (CloseCode.REVOKED, "this node was revoked"),
    "duplicate": (CloseCode.DUPLICATE, "two machines use this node's key"),
    "left": (CloseCode.REVOKED, "this node has left"),
}
_UNPROVEN: Final = "this key does not open this node"


class LinkRefused(Exception):
    """A connection is not accepted: close it with `code`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Admission(msgspec.Struct, frozen=True):
    """A node that proved itself, and what it is told in its welcome."""

    node: str
    organisation: str
    name: str
    key: str
    """Id of the key that signed."""
    epoch: int
    """Grows with each new instance of the agent; the highest is the node."""
    slots: int | None
    drained: bool


class _Claim(msgspec.Struct, frozen=True):
    node: str
    instance: str
    origin: str
    signature: bytes
    version: str
    fingerprint: str


def admit(
    control: Control, auth: Mapping[str, Any], *, signed: Callable[[str, str, str], bytes], address: str
) -> Admission:
    """Checks the answer to a challenge and gives the node its epoch. Raises `LinkRefused`.

    `signed(origin, node, instance)` builds the message that must be signed on this connection, or raises `LinkRefused`
    for an origin that is not ours. A new instance takes the place of the one before; the same one keeps its epoch.
    When two machines turn out to share the key, the node's state becomes `duplicate` and both are refused.
    """
    if auth.get("protocol") != PROTOCOL:
        raise LinkRefused(CloseCode.UPGRADE_REQUIRED, f"this gateway speaks protocol {PROTOCOL}")
    claim = _read(auth)
    organisation = DEFAULT_ORGANISATION
    try:
        message = signed(claim.origin, claim.node, claim.instance)
        with control.database.read() as connection:
            row = nodes.by_id(connection, claim.node)
            organisation = row.organisation if row else DEFAULT_ORGANISATION
            key = _signer(connection, control, row, message, claim.signature) if row else None
        if row is None or key is None:
            raise LinkRefused(CloseCode.AUTH_FAILED, _UNPROVEN)
        with control.database.write() as connection:
            found = _enter(connection, control, row, key, claim, address)
        if isinstance(found, LinkRefused):
            raise found
    except LinkRefused as refusal:
        if refusal.code is not CloseCode.PENDING:
            why = {"reason": refusal.code.name.lower()}
            audit.refuse(control, organisation, address, "link.refused", _shown(claim.node), **why)
            audit.flush(control)
        raise
    return found


def left(control: Control, organisation: str, node: str, at: float, for_good: str | None = None) -> None:
    """The node (id) disconnected at `at`.

    `for_good` is the instance of its agent that said it will not come back, having removed its key: unless the node
    was enrolled again meanwhile, its state is `left` until that happens.
    """
    with control.database.write() as connection:
        nodes.seen(connection, organisation, node, at)
        row = nodes.by_id(connection, node, organisation) if for_good else None
        if row is None or row.state != nodes.ACTIVE or row.instance != for_good:
            return
        nodes.write(connection, msgspec.structs.replace(row, state="left"))
        by = Actor(f"node {node}", row.last_address)
        audit.record(connection, control, organisation, by, "node.leave", node, name=row.name)
        revision.bump(connection)


def rotate(control: Control, organisation: str, node: str, connection: str, message: Mapping[str, Any]) -> str:
    """Replaces the node's key by a new one, signed for with both; returns the id of the new key.

    The old key works for a day more, or until the new one is used. Asking again with the same new key gives the same
    answer. Raises `LinkRefused`.
    """
    public_key, old, new = (unpacked(message.get(name)) for name in ("public_key", "old", "new"))
    signed = rotate_message(node=node, connection=connection, public_key=public_key)
    now = control.clock()
    with control.database.write() as transaction:
        row = nodes.by_id(transaction, node, organisation)
        if row is None or row.state != nodes.ACTIVE:
            raise LinkRefused(CloseCode.REVOKED, "this node was revoked")
        signer = _signer(transaction, control, row, signed, old)
        if signer is None or not signed_by(public_key, signed, new):
            raise LinkRefused(CloseCode.AUTH_FAILED, _UNPROVEN)
        live = _live(nodes.keys(transaction, organisation, node), now)
        if same := next((key for key in live if key.public_key == public_key), None):
            return same.id
        nodes.retire_keys(transaction, organisation, node, now, but=signer.id)
        nodes.retire_keys(transaction, organisation, node, now + OVERLAP)
        made = NodeKeyRow(organisation, make_id("nkey"), node, public_key, now)
        nodes.add_key(transaction, made)
        by = Actor(f"node {node}", row.last_address)
        audit.record(transaction, control, organisation, by, "node.rotate", node, key=made.id, replaces=signer.id)
    return made.id


def unpacked(text: object) -> bytes:
    """Base64url without padding, as bytes. Raises `LinkRefused` for anything else."""
    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise ValueError
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise LinkRefused(CloseCode.PROTOCOL_ERROR, "a key or signature is not base64url") from None


def _read(auth: Mapping[str, Any]) -> _Claim:
    texts = {name: auth.get(name, "") for name in ("node", "instance", "origin", "version", "fingerprint")}
    if not all(map(_is_text, texts.values())):
        raise LinkRefused(CloseCode.PROTOCOL_ERROR, "the answer to the challenge cannot be read")
    if not texts["node"] or not texts["instance"] or len(texts["instance"]) > 64:
        raise LinkRefused(CloseCode.PROTOCOL_ERROR, "the answer to the challenge names no node or instance")
    return _Claim(signature=unpacked(auth.get("signature")), **texts)


def _is_text(value: object) -> bool:
    """Of some length, and Unicode: JSON can also spell halves of characters, which nothing can store or sign."""
    return isinstance(value, str) and len(value) <= _LONGEST and not any("\ud800" <= one <= "\udfff" for one in value)


def _signer(
    connection: Connection, control: Control, row: NodeRow, message: bytes, signature: bytes
) -> NodeKeyRow | None:
    """The node's live key that made the signature."""
    live = _live(nodes.keys(connection, row.organisation, row.id), control.clock())
    return next((key for key in live if signed_by(key.public_key, message, signature)), None)


def _live(keys: list[NodeKeyRow], now: float) -> list[NodeKeyRow]:
    return [key for key in keys if key.retires_at is None or key.retires_at > now]


def _enter(
    connection: Connection, control: Control, row: NodeRow, key: NodeKeyRow, claim: _Claim, address: str
) -> Admission | LinkRefused:
    """Writes that the node is here. Returns a refusal instead of raising it, because it may have been written too."""
    now = control.clock()
    fresh = nodes.by_id(connection, row.id, row.organisation)  # somebody may have revoked it since
    live = _live(nodes.keys(connection, row.organisation, row.id), now)
    if fresh is None or key.id not in {one.id for one in live}:
        return LinkRefused(CloseCode.AUTH_FAILED, _UNPROVEN)
    row = msgspec.structs.replace(fresh, last_seen_at=now, last_address=address[:64])
    if row.state in _STATES:
        nodes.write(connection, row)
        return LinkRefused(*_STATES[row.state])
    another = claim.instance != row.instance
    after = msgspec.structs.replace(
        row,
        epoch=row.epoch + another,
        instance=claim.instance,
        fingerprint=claim.fingerprint[:64],
        version=_shown(claim.version)[:64],
    )
    if another and row.instance:
        before_after = ((row.instance, row.fingerprint), (after.instance, after.fingerprint))
        if control.guard.copies.superseded(row.id, *before_after, now):
            return _copied(connection, control, after)
    nodes.write(connection, after)
    if key.retires_at is None and len(live) > 1:  # the new key is in use, so the old one is not needed any more
        nodes.retire_keys(connection, row.organisation, row.id, now, but=key.id)
    return Admission(row.id, row.organisation, row.name, key.id, after.epoch, row.slots, row.drained)


def _copied(connection: Connection, control: Control, row: NodeRow) -> LinkRefused:
    nodes.write(connection, msgspec.structs.replace(row, state="duplicate"))
    by = Actor(audit.GATEWAY, row.last_address)
    audit.record(connection, control, row.organisation, by, "node.duplicate", row.id, name=row.name)
    revision.bump(connection)
    return LinkRefused(*_STATES["duplicate"])


def _shown(text: str) -> str:
    return "".join(filter(str.isprintable, text))
