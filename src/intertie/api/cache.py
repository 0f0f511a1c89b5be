"""`/api/cache`: the answers that are kept, and how to have them forgotten."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import cache
from intertie.controlplane.cache import CacheStatistics

router: Final = APIRouter(prefix="/api/cache", tags=["cache"])
State = Annotated[AdminState, Depends(state)]
Name = Annotated[str | None, Query(min_length=1, max_length=200)]


class ClearedAnswer(msgspec.Struct, frozen=True):
    """How many answers were forgotten."""

    cleared: int


@router.get("", dependencies=[need(Permission.CACHE_READ)])
@speaks(answer=CacheStatistics)
async def status(state: State) -> Response:
    """What is kept, in memory and on disk; sizes in bytes. Of all organisations together."""
    return shown(state.kept())


@router.delete("", dependencies=[need(Permission.CACHE_WRITE)])
@speaks(answer=ClearedAnswer)
async def clear(
    request: Request,
    state: State,
    route: Name = None,
    prefix: Annotated[str | None, Query(min_length=1, max_length=200, description="Begin of the routes' names")] = None,
    key: Annotated[str | None, Query(max_length=64, description="From the header x-intertie-cache-key")] = None,
    idempotency: Annotated[bool, Query(description="What idempotency keys keep, instead")] = False,  # noqa: FBT002
) -> Response:
    """Forget kept answers: all of the organisation, or those that fit everything given."""
    which = cache.selection(state.organisation, route=route, prefix=prefix, key=key, idempotency=idempotency)
    await run_in_threadpool(cache.clearing, state.control, state.organisation, operator(request), which)
    return shown(ClearedAnswer(await state.forget(which)))
