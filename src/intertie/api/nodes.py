"""`/api/nodes`: enrolled machines, with what their links know of them right now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import UNSET
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.api.upstreams import RemovedAnswer
from intertie.controlplane import nodes
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Conflict
from intertie.controlplane.nodes import NodeChange, NodeView
from intertie.controlplane.presence import NodeNow, join
from intertie.controlplane.shapes import Name
from intertie.core.terms import Trust

router: Final = APIRouter(prefix="/api/nodes", tags=["nodes"])
State = Annotated[AdminState, Depends(state)]


class NodeBody(BaseModel):
    """What an operator sets; what is left out stays. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
    name: Name | None = None
    labels: list[Name] | None = Field(None, max_length=32)
    slots: int | None = Field(None, ge=1, le=4096)
    """Cap on its exchanges at a time; null takes the cap away."""
    trust: Trust | None = None
    region: Name | None = None
    """Where it stands, for rules; null takes it away."""


class AskedAnswer(msgspec.Struct, frozen=True):
    """The node was asked; the audit trail tells when it is done."""

    asked: str


@router.get("", dependencies=[need(Permission.NODES_READ)])
@speaks(answer=list[NodeNow])
async def list_(state: State) -> Response:
    """Nodes in any state, by name."""
    views = await run_in_threadpool(nodes.list_, state.control, state.organisation)
    return shown(join(views, state.presence()))


@router.get("/{name}", dependencies=[need(Permission.NODES_READ)])
@speaks(answer=NodeNow)
async def show(state: State, name: str) -> Response:
    """One node."""
    return _joined(state, await run_in_threadpool(nodes.show, state.control, state.organisation, name))


@router.patch("/{name}", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=NodeNow)
async def change(request: Request, state: State, name: str, body: NodeBody) -> Response:
    """Set name, labels, cap on slots, class of trust or region. Routes keep a renamed node; rules must not name it."""
    given = body.model_dump(exclude_unset=True)
    wanted = NodeChange(
        name=body.name or UNSET,
        labels=UNSET if body.labels is None else tuple(dict.fromkeys(body.labels)),
        slots=body.slots if "slots" in given else UNSET,
        trust=body.trust or UNSET,
        region=body.region if "region" in given else UNSET,
    )
    return await _done(request, state, lambda by: nodes.change(state.control, state.organisation, name, wanted, by))


@router.post("/{name}/drain", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=NodeNow)
async def drain(request: Request, state: State, name: str) -> Response:
    """Give the node no new work. What runs on it finishes."""

    def act(by: Actor) -> NodeView:
        return nodes.drain(state.control, state.organisation, name, by, drained=True)

    return await _done(request, state, act)


@router.post("/{name}/resume", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=NodeNow)
async def resume(request: Request, state: State, name: str) -> Response:
    """Give a drained node work again."""

    def act(by: Actor) -> NodeView:
        return nodes.drain(state.control, state.organisation, name, by, drained=False)

    return await _done(request, state, act)


@router.post("/{name}/approve", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=NodeNow)
async def approve(request: Request, state: State, name: str) -> Response:
    """Let a pending node in."""
    return await _done(request, state, lambda by: nodes.approve(state.control, state.organisation, name, by))


@router.post("/{name}/revoke", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=NodeNow)
async def revoke(request: Request, state: State, name: str) -> Response:
    """Shut the node out: its link is closed at once, its name, labels and history stay."""
    return await _done(request, state, lambda by: nodes.revoke(state.control, state.organisation, name, by))


@router.post("/{name}/rotate", status_code=202, dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=AskedAnswer)
async def rotate(state: State, name: str) -> Response:
    """Ask a connected node for a new key. The old one goes when the new one is in use."""
    view = await run_in_threadpool(nodes.show, state.control, state.organisation, name)
    if not state.ask_rotation(view.id):
        raise Conflict(f"the node {name} is not connected: it is asked when it is online")
    return shown(AskedAnswer(name), 202)


@router.delete("/{name}", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=RemovedAnswer)
def remove(request: Request, state: State, name: str) -> Response:
    """Forget the node. Refused while a route has it as a target; the books keep its name."""
    nodes.remove(state.control, state.organisation, name, operator(request))
    state.changed()
    return shown(RemovedAnswer(name))


async def _done(request: Request, state: AdminState, act: Callable[[Actor], NodeView]) -> Response:
    def work() -> NodeView:
        view = act(operator(request))
        state.changed()
        return view

    return _joined(state, await run_in_threadpool(work))


def _joined(state: AdminState, view: NodeView) -> Response:
    return shown(join([view], state.presence())[0])
