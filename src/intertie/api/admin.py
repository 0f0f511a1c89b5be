"""The admin API: everything the command line and the console do, under `/api`, for the holder of the admin key.

Each noun has its router in the file of its name. Routes are plain functions on worker threads; the few that ask the
data plane's books of health are coroutines, because those live on the event loop.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, FastAPI, Request

from intertie import __version__
from intertie.api import (
    apply,
    audit,
    backup,
    cache,
    document,
    enrolment,
    install,
    keys,
    ledger,
    limits,
    members,
    nodes,
    probes,
    problems,
    projects,
    routes,
    rules,
    status,
    tokens,
    upstreams,
    usage,
)
from intertie.api.metrics import make_registry
from intertie.api.permissions import REMEDY, Permission, insist, need, presented
from intertie.api.state import AdminState, operator
from intertie.controlplane import audit as trail
from intertie.controlplane.admin_key import matches, on_this_machine
from intertie.core.errors import NotFound, Unauthenticated

__all__ = ["AdminState", "make_admin"]

_LOCAL: Final = frozenset({Permission.METRICS_READ})
"""What a request straight from this machine may read without a key."""
_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_rest: Final = APIRouter()


@_rest.api_route(
    "/api/{rest:path}", methods=_METHODS, dependencies=[need(Permission.STATUS_READ)], include_in_schema=False
)
async def _unknown(rest: str) -> None:
    """Whoever may not enter does not learn which paths exist."""
    raise NotFound(f"There is no /api/{rest}. The list is at /api/docs.")


def make_admin(state: AdminState) -> FastAPI:
    """The application that serves `/api`, the probes and `/metrics`.

    Raises `RuntimeError` if a route declares no permission. Pages may be mounted on it afterwards.
    """
    app = FastAPI(title="Intertie admin API", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.admin = state
    app.state.allowed = _allowed
    app.state.registry = make_registry()
    configuration = (
        keys,
        projects,
        members,
        upstreams,
        routes,
        rules,
        limits,
        tokens,
        nodes,
        apply,
    )  # /nodes/tokens before /nodes/{name}
    rest = (usage, cache, ledger, audit, backup, status, document, probes, install, enrolment)
    nouns = (*configuration, *rest)
    for router in (*(noun.router for noun in nouns), _rest):
        # Not `include_router`: that hides the routes in an object of its own, and the check below must see each.
        app.router.routes.extend(router.routes)
    problems.install(app)
    app.add_middleware(problems.Guard)
    insist(app.routes)
    described = document.describe(app)
    app.openapi = lambda: described  # type: ignore[method-assign]
    return app


async def _allowed(request: Request, permission: Permission) -> None:
    """Let the admin key pass, and for a few readings a request from this machine. Raises `Unauthenticated`."""
    state: AdminState = request.app.state.admin
    if permission in _LOCAL and state.open_locally and _is_local(request):
        return
    if not matches(state.control, state.admin_key_hash, presented(request)):
        trail.refuse(state.control, state.organisation, operator(request).address, "admin.refused", reason="wrong key")
        raise Unauthenticated(f"This admin key is not valid. {REMEDY}", code="invalid_admin_key")


def _is_local(request: Request) -> bool:
    peer = request.client.host if request.client else None
    return on_this_machine(peer, request.headers.get("host", ""), request.headers.keys())
