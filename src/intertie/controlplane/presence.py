"""Nodes as they are at one moment: what is stored of them, joined with who is connected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from intertie.controlplane.nodes import NodeView
from intertie.core.routing.room import OFFLINE
from intertie.core.terms import ModelFacts
from intertie.core.wire.link import Serving
from intertie.dataplane.transport.link import Presence
from intertie.store.nodes import ACTIVE

GONE: Final = frozenset({"left", "revoked"})
"""States of nodes that are there for their history only, until a new token brings them back."""
_REASON: Final = 200
"""Characters of a reason that an agent may put on a page."""
_DRAINED: Final = "drained"
_SHUT: Final[Mapping[str, str]] = {
    "pending": "waits for approval: intertie nodes approve {name}",
    "duplicate": "two machines use its key; enrol one of them again: intertie nodes token {name} --for {name}",
    "revoked": "shut out by an operator; a new token brings it back: intertie nodes token {name} --for {name}",
    "left": "its owner took it away; a new token brings it back: intertie nodes token {name} --for {name}",
    _DRAINED: "drained by an operator: intertie nodes resume {name}",
}
"""Why an operator, or the gateway, keeps it out of work."""


class NodeNow(msgspec.Struct, frozen=True):
    """A node. Times are UTC seconds; what only its link knows is null or empty while it is offline."""

    id: str
    name: str
    state: str
    """pending, active, revoked, duplicate or left."""
    standing: str
    """The one word for people: `state` unless that is active, then offline, drained, or what `serving` says."""
    online: bool
    serving: str
    """serving, idle_wait, yielding, paused or draining; offline."""
    reason: str
    """Why it takes work, or does not, for people."""
    trust: str
    region: str
    """Where it stands, as an operator says; empty: nobody did."""
    labels: tuple[str, ...]
    drained: bool
    slots: int | None
    """Exchanges at a time."""
    slots_cap: int | None
    """The operator's limit on them."""
    lanes_busy: int
    lanes_parked: int
    in_flight: int
    """Exchanges under way, as the node counts them."""
    queue: int | None
    """Exchanges that wait inside its runtimes, where they tell."""
    idle_seconds: float | None
    """Since its owner's last input, where it can tell."""
    online_since: float | None
    models: tuple[ModelFacts, ...]
    runtimes: tuple[dict[str, Any], ...]
    hardware: dict[str, Any]
    version: str
    platform: str
    address: str
    enrolled_at: float
    enrolled_by: str
    """The token's id, or `device`."""
    last_seen_at: float | None
    revoked_at: float | None
    ephemeral: bool


class NodeStatus(msgspec.Struct, frozen=True):
    """What a page shows of a node: no address, no hardware. Ages are seconds."""

    id: str
    name: str
    state: str
    """`NodeNow.standing`. Only in `serving` it takes work."""
    reason: str
    trust: str
    labels: tuple[str, ...]
    models: tuple[str, ...]
    slots: int | None
    """Exchanges at a time; `None` before its first report."""
    in_flight: int = 0
    version: str = ""
    connected_for: float | None = None
    last_seen_ago: float | None = None
    """`None` while it is connected, and for one that never was."""


def join(stored: Iterable[NodeView], connected: Iterable[Presence]) -> list[NodeNow]:
    """The nodes of `stored`, in its order, each with its link if it has one."""
    there = {one.node: one for one in connected}
    return [_joined(view, there.get(view.id)) for view in stored]


def read(stored: Iterable[NodeView], connected: Iterable[Presence], now: float) -> tuple[NodeStatus, ...]:
    """The same for a page. `now` is wall-clock time, as in both."""
    return tuple(_brief(one, now) for one in join(stored, connected))


def _joined(view: NodeView, there: Presence | None) -> NodeNow:
    kept = msgspec.structs.asdict(view)
    standing, reason = _standing(view, there)
    if there is None:
        lane: dict[str, Any] = {"lanes_busy": 0, "lanes_parked": 0, "in_flight": 0, "queue": None, "idle_seconds": None}
        lane |= {"serving": OFFLINE, "online_since": None}
    else:
        live = ("serving", "lanes_busy", "lanes_parked", "in_flight", "queue", "idle_seconds", "slots", "version")
        lane = {name: getattr(there, name) for name in (*live, "address")} | {"online_since": there.since}
    return NodeNow(online=there is not None, standing=standing, reason=reason, **{**kept, **lane})


def _standing(view: NodeView, there: Presence | None) -> tuple[str, str]:
    """An operator's decision comes first, then whether it is there, then what its agent says."""
    if view.state != ACTIVE:
        return view.state, _SHUT.get(view.state, "").format(name=view.name)
    drained = _SHUT[_DRAINED].format(name=view.name) if view.drained else ""
    if there is not None:
        return (_DRAINED, drained) if drained else (there.serving, there.reason)
    if view.last_seen_at is None:
        return OFFLINE, drained or "has not connected yet"
    return OFFLINE, drained or "not connected; on the machine, intertie node doctor says why"


def _brief(one: NodeNow, now: float) -> NodeStatus:
    return NodeStatus(
        id=one.id,
        name=one.name,
        state=one.standing,
        reason="" if one.standing == Serving.SERVING else one.reason[:_REASON],
        trust=one.trust,
        labels=one.labels,
        models=tuple(model.name for model in one.models),
        slots=one.slots,
        in_flight=one.in_flight,
        version=one.version,
        connected_for=None if one.online_since is None else max(0.0, now - one.online_since),
        last_seen_ago=None if one.online or one.last_seen_at is None else max(0.0, now - one.last_seen_at),
    )
