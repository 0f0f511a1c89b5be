"""`/api/status` and `/api/snapshot`: the state of the gateway at this moment."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Response
from starlette.concurrency import run_in_threadpool

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.controlplane import snapshot, status
from intertie.controlplane.status import Status

router: Final = APIRouter(prefix="/api", tags=["status"])
State = Annotated[AdminState, Depends(state)]


class RevisionAnswer(msgspec.Struct, frozen=True):
    """Numbers of the configuration: as stored, and as in force in this process."""

    stored: int
    in_force: int


@router.get("/status", dependencies=[need(Permission.STATUS_READ)])
@speaks(answer=Status)
async def now(state: State) -> Response:
    """Routes with the health of their targets, upstreams, nodes, alerts, and today's totals."""
    health, reasons = state.health(), tuple(state.ready())
    stored = await run_in_threadpool(status.stored, state.control, state.organisation)
    return shown(status.read(state.organisation, state.snapshot(), health, reasons, stored))


@router.get("/snapshot", dependencies=[need(Permission.STATUS_READ)])
@speaks(answer=RevisionAnswer)
def revision(state: State) -> Response:
    """The revision that is stored and the one in force; they differ for a moment after a change elsewhere."""
    return shown(RevisionAnswer(snapshot.revision(state.control), state.snapshot().revision))
