"""Nodes as they are at one moment: what is stored of them, joined with who is connected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from intertie.controlplane.nodes import NodeView
from intertie.core.routing.room import OFFLINE
from intertie.core.wire.link import Serving
from intertie.dataplane.transport.link import Presence
from intertie.store.nodes import ACTIVE

_REASON: Final = 200
"""Characters of a reason that an agent may put on a page."""
_STORED: Final[Mapping[str, str]] = {
    "pending": "waits for an operator: intertie nodes approve {name}",
    "duplicate": "two machines use its key: enrol it again with intertie nodes token {name} --for {name}",
    "revoked": "shut out by an operator",
}


class NodeStatus(msgspec.Struct, frozen=True):
    """One node right now. Ages are seconds."""

    id: str
    name: str
    state: str
    """serving, idle_wait, yielding, paused, draining (what its agent says), drained (what an operator wants), offline,
    pending, duplicate, revoked. Only in `serving` it takes work."""
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


def read(stored: Iterable[NodeView], connected: Iterable[Presence], now: float) -> tuple[NodeStatus, ...]:
    """The nodes of `stored`, in its order. `now` is wall-clock time, as in both."""
    there = {one.node: one for one in connected}
    return tuple(_read(view, there.get(view.id), now) for view in stored)


def _read(view: NodeView, there: Presence | None, now: float) -> NodeStatus:
    state, reason = _state(view, there)
    seen = view.last_seen_at
    return NodeStatus(
        id=view.id,
        name=view.name,
        state=state,
        reason=reason[:_REASON],
        trust=view.trust,
        labels=view.labels,
        models=tuple(model.name for model in view.models),
        slots=view.slots if there is None else there.slots,
        in_flight=0 if there is None else there.in_flight,
        version=view.version if there is None else there.version,
        connected_for=None if there is None else max(0.0, now - there.since),
        last_seen_ago=max(0.0, now - seen) if there is None and seen is not None else None,
    )


def _state(view: NodeView, there: Presence | None) -> tuple[str, str]:
    """An operator's decision comes first, then whether it is there, then what its agent says."""
    if view.state != ACTIVE:
        return view.state, _STORED.get(view.state, "").format(name=view.name)
    if there is None:
        return OFFLINE, "" if view.last_seen_at is not None else "has not connected yet"
    if view.drained:
        return "drained", f"takes no new work until: intertie nodes resume {view.name}"
    return there.serving, "" if there.serving == Serving.SERVING else there.reason
