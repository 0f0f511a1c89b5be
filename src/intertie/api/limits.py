"""`/api/limits`: rates, quotas, budgets and concurrency, and how much of each is taken.

A limit is named by its id in the query, not in the path: it holds the holder's name, and models have slashes.
"""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Depends, Query, Request, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.projects import WriteAnswer
from intertie.api.state import AdminState, operator, state
from intertie.api.upstreams import RemovedAnswer
from intertie.controlplane import config, limits
from intertie.controlplane.limit_entries import LimitEntry
from intertie.controlplane.limits import LimitView
from intertie.core.policy.limits import Limit

router: Final = APIRouter(prefix="/api/limits", tags=["limits"])
State = Annotated[AdminState, Depends(state)]


@router.get("", dependencies=[need(Permission.LIMITS_READ)])
@speaks(answer=list[LimitView])
async def list_(state: State) -> Response:
    """Limits by id, with what is spent and reserved of each in its present window. Money is micro-units."""
    found = await asyncio.to_thread(limits.list_, state.control, state.organisation)
    return shown([_standing(state, view, limit) for view, limit in found])


@router.put("", dependencies=[need(Permission.LIMITS_WRITE)])
@speaks(answer=WriteAnswer, takes=LimitEntry)
def put(state: State, request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Set one limit. Money is in currency units; without `per`, a rate per minute. In force at once."""
    entry = config.receive_entry(LimitEntry, body)
    name, outcome = limits.put(state.control, state.organisation, entry, operator(request))
    state.changed()
    return shown(WriteAnswer(name, outcome))


@router.delete("", dependencies=[need(Permission.LIMITS_WRITE)])
@speaks(answer=RemovedAnswer)
def remove(state: State, request: Request, limit: Annotated[str, Query(alias="id", max_length=400)]) -> Response:
    """Remove the limit of that id."""
    limits.remove(state.control, state.organisation, limit, operator(request))
    state.changed()
    return shown(RemovedAnswer(limit))


def _standing(state: AdminState, view: LimitView, limit: Limit) -> LimitView:
    if state.standing is None:
        return view
    spent, reserved, remaining, resets_in = state.standing(limit)
    ends = None if resets_in == math.inf else round(resets_in, 3)
    return msgspec.structs.replace(view, spent=spent, reserved=reserved, remaining=remaining, resets_in=ends)
