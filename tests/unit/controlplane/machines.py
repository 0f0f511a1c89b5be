"""Nodes for unit tests, as the database and the links show them."""

from __future__ import annotations

import msgspec

from intertie.controlplane.nodes import NodeView
from intertie.core.terms import ModelFacts
from intertie.dataplane.transport.link import Presence

_VIEW = NodeView(
    id="",
    name="",
    state="active",
    trust="own",
    region="",
    labels=("gpu",),
    drained=False,
    slots=4,
    slots_cap=None,
    ephemeral=False,
    models=(ModelFacts("m"),),
    runtimes=(),
    hardware={},
    version="1.0",
    platform="linux",
    address="192.0.2.7",
    enrolled_at=0.0,
    enrolled_by="tok_1",
    last_seen_at=None,
    revoked_at=None,
)
_PRESENCE = Presence(
    node="",
    since=40.0,
    address="192.0.2.7",
    version="1.1",
    epoch=1,
    instance="i",
    serving="serving",
    reason="",
    lanes_parked=2,
    lanes_busy=1,
    slots=2,
    in_flight=1,
    queue=None,
    idle_seconds=None,
)


def view(name: str, **fields: object) -> NodeView:
    """The node of that name as it is stored."""
    return msgspec.structs.replace(_VIEW, id=f"node_{name}", name=name, **fields)


def presence(name: str, **fields: object) -> Presence:
    """The node of that name, connected."""
    return msgspec.structs.replace(_PRESENCE, node=f"node_{name}", **fields)
