"""`/api/routes`: the model names that clients ask for.

A route is named by its model in the body or the query, not in the path: model names have slashes, and a path that
means what it says cannot hold `a//b`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Depends, Query, Request, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.projects import WriteAnswer
from intertie.api.state import AdminState, operator, state
from intertie.api.upstreams import RemovedAnswer
from intertie.controlplane import config, routes
from intertie.controlplane.entries import RouteEntry
from intertie.controlplane.placements import Placement, placement
from intertie.controlplane.routes import RouteView
from intertie.controlplane.rule_entries import QuestionEntry
from intertie.dataplane.explain import Explanation, Question

router: Final = APIRouter(prefix="/api/routes", tags=["routes"])
State = Annotated[AdminState, Depends(state)]


@router.get("", dependencies=[need(Permission.ROUTES_READ)])
@speaks(answer=list[RouteView])
def list_(state: State) -> Response:
    """Routes by model."""
    return shown(routes.list_(state.control, state.organisation))


@router.put("", dependencies=[need(Permission.ROUTES_WRITE)])
@speaks(answer=WriteAnswer, takes=RouteEntry)
def put(state: State, request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Make the route of that model, or replace it whole."""
    entry = config.receive_entry(RouteEntry, body)
    outcome = routes.put(state.control, state.organisation, entry, operator(request))
    state.changed()
    return shown(WriteAnswer(entry.model, outcome))


@router.post("/explain", dependencies=[need(Permission.ROUTES_READ)])
@speaks(answer=Explanation, takes=QuestionEntry)
async def explain(state: State, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Say, before anything is sent, who would be asked for a call, in which order, and why not the others."""
    asked = config.receive_entry(QuestionEntry, body)
    return shown(state.explain(msgspec.convert(asked.model_dump(exclude_none=True), Question)))


@router.get("/explain", dependencies=[need(Permission.ROUTES_READ)])
@speaks(answer=Placement)
def explained(state: State, request: Annotated[str, Query(max_length=64)]) -> Response:
    """Say why a recorded request (its `x-request-id`) went where it went."""
    state.flush()
    return shown(placement(state.control, state.organisation, request))


@router.delete("", dependencies=[need(Permission.ROUTES_WRITE)])
@speaks(answer=RemovedAnswer)
def remove(state: State, request: Request, model: Annotated[str, Query(max_length=200)]) -> Response:
    """Remove the route of that model."""
    routes.remove(state.control, state.organisation, model, operator(request))
    state.changed()
    return shown(RemovedAnswer(model))
