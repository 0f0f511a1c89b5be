"""`/livez`, `/readyz`, `/metrics`: what supervisors, load balancers and Prometheus ask."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from intertie.api import metrics
from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state

router: Final = APIRouter(tags=["probes"])
State = Annotated[AdminState, Depends(state)]


class AliveAnswer(msgspec.Struct, frozen=True):
    """The process answers."""

    alive: bool


class ReadyAnswer(msgspec.Struct, frozen=True):
    """Whether requests are accepted; `reasons` say why not."""

    ready: bool
    reasons: tuple[str, ...]


@router.get("/livez", dependencies=[need(Permission.PUBLIC)])
@speaks(answer=AliveAnswer)
async def alive() -> Response:
    """200 as long as the event loop runs. It says nothing about upstreams: restarting us would not mend them."""
    return shown(AliveAnswer(alive=True))


@router.get("/readyz", dependencies=[need(Permission.PUBLIC)])
@speaks(answer=ReadyAnswer)
async def ready(state: State) -> Response:
    """200 if requests are accepted, else 503 with the reasons."""
    reasons = tuple(state.ready())
    return shown(ReadyAnswer(not reasons, reasons), 503 if reasons else 200)


@router.get("/metrics", dependencies=[need(Permission.METRICS_READ)])
async def readings(request: Request, state: State) -> Response:
    """Prometheus' text format. Needs the admin key, except for a request straight from this machine."""
    text = await run_in_threadpool(metrics.render, request.app.state.registry, state.counters, state.gauges())
    return Response(text, media_type=metrics.CONTENT_TYPE)
