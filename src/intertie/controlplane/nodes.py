"""Nodes as operators see them: listed, named, drained, approved, revoked, removed. Links ask for the rest of it.

Each change is in force with the next snapshot, which closes the links of nodes that are no longer active.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from intertie.controlplane import audit, inventory
from intertie.controlplane.admission import Admission, LinkRefused, admit, left, rotate
from intertie.controlplane.audit import GATEWAY, Actor
from intertie.controlplane.control import Conflict, Control, nobody
from intertie.controlplane.inventory import facts
from intertie.core.errors import BadCall
from intertie.core.terms import ModelFacts, Trust
from intertie.core.wire.link import CloseCode
from intertie.store import enrolment as stored_enrolment
from intertie.store import nodes, revision, rules, upstreams
from intertie.store.database import Connection
from intertie.store.nodes import NodeRow

__all__ = [
    "Admission",
    "LinkRefused",
    "NodeChange",
    "NodeView",
    "Reported",
    "Swept",
    "admit",
    "approve",
    "change",
    "drain",
    "facts",
    "left",
    "list_",
    "remove",
    "report",
    "revoke",
    "rotate",
    "show",
    "sweep",
]

RESERVED: Final = frozenset({"tokens", "devices"})
"""Names that are paths of the admin API already."""
OFFLINE: Final = 3600.0
"""Seconds after which an ephemeral node that went away is removed."""
DEVICES_KEPT: Final = 3600.0
"""Seconds for which an expired device code stays, so that its machine hears why."""
KEY_AGE: Final = 365 * 86_400.0
"""Seconds after which a node is asked for a new key."""


class NodeView(msgspec.Struct, frozen=True):
    """A node as the database has it; whether it is there right now is known to its link. Times are UTC seconds."""

    id: str
    name: str
    state: str
    """pending, active, revoked, duplicate or left."""
    trust: str
    region: str
    """Where it stands, as an operator says; empty: nobody did."""
    labels: tuple[str, ...]
    drained: bool
    slots: int | None
    """Exchanges at a time: what it reported, at most the operator's cap; None before the first report."""
    slots_cap: int | None
    ephemeral: bool
    models: tuple[ModelFacts, ...]
    runtimes: tuple[dict[str, Any], ...]
    hardware: dict[str, Any]
    version: str
    platform: str
    address: str
    """Where it connected from last."""
    enrolled_at: float
    enrolled_by: str
    last_seen_at: float | None
    revoked_at: float | None


class NodeChange(msgspec.Struct, frozen=True):
    """What an operator sets; the rest stays."""

    name: str | UnsetType = UNSET
    labels: tuple[str, ...] | UnsetType = UNSET
    slots: int | UnsetType | None = UNSET
    """Cap on its exchanges at a time; None takes the cap away."""
    trust: Trust | UnsetType = UNSET
    region: str | UnsetType | None = UNSET
    """None takes it away."""


class Reported(msgspec.Struct, frozen=True):
    """What became of a node's report."""

    models: dict[str, ModelFacts]
    """What it has, as it is believed."""
    routes: bool
    """It serves other models than before, so there is something else to route to."""


class Swept(msgspec.Struct, frozen=True):
    """What a sweep found."""

    removed: int
    """Ephemeral nodes."""
    aged: tuple[str, ...]
    """Connected nodes (ids) whose key is due to be replaced: ask them."""


def list_(control: Control, organisation: str) -> list[NodeView]:
    """The organisation's nodes in any state, by name."""
    with control.database.read() as connection:
        return [_view(row) for row in nodes.listed(connection, organisation)]


def show(control: Control, organisation: str, name: str) -> NodeView:
    """The node of that name. Raises `Unknown`."""
    with control.database.read() as connection:
        return _view(_named(connection, organisation, name))


def change(control: Control, organisation: str, name: str, wanted: NodeChange, by: Actor) -> NodeView:
    """Sets what is given. Routes keep a renamed node.

    Raises `Unknown`, or `Conflict` for a name that is taken, and for renaming a node that rules name: these would be
    about nobody from then on, and what one forbids would be allowed.
    """
    given = {field: value for field, value in msgspec.structs.asdict(wanted).items() if value is not UNSET}
    if given.get("trust") is Trust.VENDOR:
        raise BadCall("a node is own, company or community; vendor is for providers", param="trust")
    if given.get("name") in RESERVED:
        raise Conflict(f"{given['name']} cannot be a node's name: the admin API uses it")

    def act(connection: Connection, row: NodeRow) -> NodeRow:
        new = given.get("name", row.name)
        if new != row.name and new in upstreams.ids(connection, organisation):
            raise Conflict(f"an upstream or another node is named {new}")
        if new != row.name and (naming := _naming(connection, organisation, row.name)):
            raise Conflict(f"the rules {', '.join(naming)} name the node {row.name}: change these first")
        return msgspec.structs.replace(row, **given)

    return _write(control, organisation, name, act, ("node.change", by))


def drain(control: Control, organisation: str, name: str, by: Actor, *, drained: bool) -> NodeView:
    """Gives the node no new work, or gives it work again; what runs on it finishes. Raises `Unknown`."""

    def act(_: Connection, row: NodeRow) -> NodeRow:
        return msgspec.structs.replace(row, drained=drained)

    return _write(control, organisation, name, act, ("node.drain" if drained else "node.resume", by))


def approve(control: Control, organisation: str, name: str, by: Actor) -> NodeView:
    """Lets a pending node in. Raises `Unknown`, or `Conflict` for a node that must be enrolled again."""

    def act(_: Connection, row: NodeRow) -> NodeRow:
        if row.state not in {"pending", nodes.ACTIVE}:
            raise Conflict(
                f"{name} is {row.state}: approving does not bring it back. "
                f"Enrol it again with: intertie nodes token {name} --for {name}"
            )
        return msgspec.structs.replace(row, state=nodes.ACTIVE)

    return _write(control, organisation, name, act, ("node.approve", by))


def revoke(control: Control, organisation: str, name: str, by: Actor) -> NodeView:
    """Shuts the node out until it is enrolled again; its name, labels and history stay. Raises `Unknown`."""

    def act(_: Connection, row: NodeRow) -> NodeRow:
        if row.state == "revoked":
            return row
        return msgspec.structs.replace(row, state="revoked", revoked_at=control.clock())

    return _write(control, organisation, name, act, ("node.revoke", by))


def remove(control: Control, organisation: str, name: str, by: Actor) -> None:
    """Forgets the node; the books keep its name. Raises `Unknown`, or `Conflict` while a route has it as a target."""
    with control.database.write() as connection:
        row = _named(connection, organisation, name)
        if users := upstreams.users(connection, organisation, row.id):
            raise Conflict(f"the node {name} is a target of {', '.join(users)}: change or remove these routes first")
        _forget(connection, control, row, by)
        revision.bump(connection)


def report(control: Control, organisation: str, node: str, message: Mapping[str, Any]) -> Reported:
    """Keeps what the node (id) says it has, cut to size.

    Its models become those of its upstream. Raises `LinkRefused` for a report that cannot be read, and for a node that
    is no longer active.
    """
    with control.database.write() as connection:
        row = nodes.by_id(connection, node, organisation)
        if row is None or row.state != nodes.ACTIVE:
            raise LinkRefused(CloseCode.REVOKED, "this node is no longer active")
        try:
            told = inventory.clean(message, row.inventory)
        except inventory.Unreadable as error:
            raise LinkRefused(CloseCode.PROTOCOL_ERROR, str(error)) from None
        models = facts(told)
        if {**told, "revision": 0} == {**row.inventory, "revision": 0}:
            return Reported(models, routes=False)
        platform = told["platform"] or row.platform
        nodes.write(connection, msgspec.structs.replace(row, inventory=told, platform=platform))
        changed = models.keys() != facts(row.inventory).keys()
        if changed:
            nodes.write_models(connection, organisation, node, list(models))
            revision.bump(connection)
        return Reported(models, changed)


def sweep(control: Control, now: float, connected: Collection[str] = ()) -> Swept:
    """Housekeeping for all organisations, to be called now and then with the ids of the nodes whose link is up.

    Notes that these are there, removes ephemeral nodes that have been away for an hour (of which this process must have
    seen all, so that a restart of the gateway removes nobody) and expired device codes, and records refusals.
    """
    audit.flush(control)
    since = control.guard.begun(now)
    removed = 0
    with control.database.write() as connection:
        stored_enrolment.forget_devices(connection, now - DEVICES_KEPT)
        for row in nodes.listed(connection):
            if row.id in connected:
                nodes.seen(connection, row.organisation, row.id, now)
            elif row.ephemeral and now - max(row.last_seen_at or row.enrolled_at, since) >= OFFLINE:
                if upstreams.users(connection, row.organisation, row.id):
                    continue  # a route names it: its removal is for an operator to decide
                _forget(connection, control, row, Actor(GATEWAY))
                removed += 1
        if removed:
            revision.bump(connection)
        aged = nodes.with_older_keys(connection, now - KEY_AGE)
    return Swept(removed, tuple(node for node in aged if node in connected))


def _write(
    control: Control,
    organisation: str,
    name: str,
    act: Callable[[Connection, NodeRow], NodeRow],
    deed: tuple[str, Actor],
) -> NodeView:
    """Replaces the node by what `act` makes of it; the same again is no change and leaves no record."""
    action, by = deed
    with control.database.write() as connection:
        before = _named(connection, organisation, name)
        after = act(connection, before)
        if after != before:
            nodes.write(connection, after)
            audit.record(connection, control, organisation, by, action, after.id, **_difference(before, after))
            revision.bump(connection)
        return _view(after)


def _difference(before: NodeRow, after: NodeRow) -> dict[str, Any]:
    """The new values of what changed, and the node's name, for people."""
    names = ("state", "trust", "region", "labels", "drained", "slots")
    changed = {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}
    return {"name": after.name, **({"was": before.name} if before.name != after.name else {}), **changed}


def _forget(connection: Connection, control: Control, row: NodeRow, by: Actor) -> None:
    nodes.delete(connection, row.organisation, row.id)
    control.guard.copies.forget(row.id)
    audit.record(connection, control, row.organisation, by, "node.remove", row.id, name=row.name)


def _named(connection: Connection, organisation: str, name: str) -> NodeRow:
    found = nodes.one(connection, organisation, name)
    if found is None:
        raise nobody("node", name, nodes.names(connection, organisation), "intertie nodes list")
    return found


def _naming(connection: Connection, organisation: str, name: str) -> list[str]:
    """Rules that name this node."""
    found = []
    for rule in (row.rule() for row in rules.listed(connection, organisation)):
        wishes = (rule.require, rule.prefer, rule.forbid)
        if any(wish is not None and name in wish.upstream for wish in wishes):
            found.append(rule.name)
    return found


def _view(row: NodeRow) -> NodeView:
    reported = row.inventory.get("slots")
    counts = [count for count in (row.slots, reported) if count is not None]
    return NodeView(
        id=row.id,
        name=row.name,
        state=row.state,
        trust=row.trust,
        region=row.region or "",
        labels=row.labels,
        drained=row.drained,
        slots=min(counts) if reported is not None else None,
        slots_cap=row.slots,
        ephemeral=row.ephemeral,
        models=tuple(facts(row.inventory).values()),
        runtimes=tuple(row.inventory.get("runtimes", ())),
        hardware=row.inventory.get("hardware", {}),
        version=row.version,
        platform=row.platform,
        address=row.last_address,
        enrolled_at=row.enrolled_at,
        enrolled_by=row.enrolled_by,
        last_seen_at=row.last_seen_at,
        revoked_at=row.revoked_at,
    )
