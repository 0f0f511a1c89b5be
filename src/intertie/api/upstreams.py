"""`/api/upstreams`: provider accounts and runtimes, with what the data plane knows of their health."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.projects import WriteAnswer
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import config, upstreams
from intertie.controlplane.entries import UpstreamEntry
from intertie.controlplane.status import CredentialStatus
from intertie.controlplane.upstreams import ModelView, UpstreamView
from intertie.core.errors import BadCall
from intertie.core.routing.health import TargetHealth
from intertie.core.routing.resolve import ANY
from intertie.core.terms import Timeouts

router: Final = APIRouter(prefix="/api/upstreams", tags=["upstreams"])
State = Annotated[AdminState, Depends(state)]


class CredentialAnswer(CredentialStatus, frozen=True, kw_only=True):
    """A credential's state; `label` says where its secret came from."""

    label: str


class UpstreamAnswer(msgspec.Struct, frozen=True):
    """An upstream. Of headers only the names, of credentials only id, label and state."""

    id: str
    name: str
    provider: str
    base_url: str
    trust: str
    region: str
    enabled: bool
    paused: tuple[str, ...]
    """Models that get no calls until an operator resumes them; `*` is all of them."""
    origin: str
    models: tuple[ModelView, ...]
    headers: tuple[str, ...]
    timeouts: Timeouts
    credentials: tuple[CredentialAnswer, ...]
    health: tuple[TargetHealth, ...]


class PauseBody(BaseModel):
    """What is paused or resumed. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(ANY, min_length=1, max_length=200)
    """Omitted, or `*`: all of the upstream's models."""


class RemovedAnswer(msgspec.Struct, frozen=True):
    """What was removed."""

    removed: str


@router.get("", dependencies=[need(Permission.UPSTREAMS_READ)])
@speaks(answer=list[UpstreamAnswer])
async def list_(state: State) -> Response:
    """Upstreams by name, each with the state of its credentials and the health of the models it was asked for."""
    health = state.health()
    views = await run_in_threadpool(upstreams.list_, state.control, state.organisation)
    credentials = {(one.upstream, one.credential): one for one in health.credentials}

    def credential(upstream: str, id_: str, label: str) -> CredentialAnswer:
        found = credentials.get((upstream, id_))
        if found is None:
            return CredentialAnswer(id_, label=label)
        return CredentialAnswer(id_, str(found.state), found.code, found.retry_in, label=label)

    return shown(
        [
            _answer(
                view,
                tuple(credential(view.id, one.id, one.label) for one in view.credentials),
                tuple(one for one in health.targets if one.upstream == view.id),
            )
            for view in views
        ]
    )


@router.put("/{name}", dependencies=[need(Permission.UPSTREAMS_WRITE)])
@speaks(answer=WriteAnswer, takes=UpstreamEntry)
def put(state: State, request: Request, name: str, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Make the upstream of that name, or replace it whole. Secrets are given as `{"value": …}` and kept encrypted."""
    if body.setdefault("name", name) != name:
        raise BadCall("The name in the path and the name in the body differ.", param="name")
    entry = config.receive_entry(UpstreamEntry, body)
    outcome = upstreams.put(state.control, state.organisation, entry, operator(request))
    state.changed()
    return shown(WriteAnswer(entry.name, outcome))


@router.delete("/{name}", dependencies=[need(Permission.UPSTREAMS_WRITE)])
@speaks(answer=RemovedAnswer)
def remove(state: State, request: Request, name: str) -> Response:
    """Remove an upstream with its credentials. Refused while a route has it as a target."""
    upstreams.remove(state.control, state.organisation, name, operator(request))
    state.changed()
    return shown(RemovedAnswer(name))


@router.post("/{name}/pause", dependencies=[need(Permission.UPSTREAMS_WRITE)])
@speaks(answer=WriteAnswer)
def pause(state: State, request: Request, name: str, body: Annotated[PauseBody | None, Body()] = None) -> Response:
    """Give the upstream, or one model of it, no new calls until it is resumed, over restarts too."""
    upstreams.pause(state.control, state.organisation, name, _model(body), operator(request))
    state.changed()
    return shown(WriteAnswer(name, "paused"))


@router.post("/{name}/resume", dependencies=[need(Permission.UPSTREAMS_WRITE)])
@speaks(answer=WriteAnswer)
def resume(state: State, request: Request, name: str, body: Annotated[PauseBody | None, Body()] = None) -> Response:
    """Give the upstream, or one model of it, calls again."""
    upstreams.resume(state.control, state.organisation, name, _model(body), operator(request))
    state.changed()
    return shown(WriteAnswer(name, "resumed"))


@router.post("/{name}/clear", dependencies=[need(Permission.UPSTREAMS_WRITE)])
@speaks(answer=WriteAnswer)
async def clear(state: State, request: Request, name: str) -> Response:
    """Use all credentials of the upstream again, whatever set them aside."""
    by = operator(request)
    upstream = await run_in_threadpool(upstreams.clear, state.control, state.organisation, name, by)
    state.clear_credentials(upstream)
    return shown(WriteAnswer(name, "cleared"))


def _model(body: PauseBody | None) -> str:
    return ANY if body is None else body.model


def _answer(
    view: UpstreamView, credentials: tuple[CredentialAnswer, ...], health: tuple[TargetHealth, ...]
) -> UpstreamAnswer:
    shared = {
        field.name: getattr(view, field.name)
        for field in msgspec.structs.fields(UpstreamAnswer)
        if field.name not in {"credentials", "health"}
    }
    return UpstreamAnswer(**shared, credentials=credentials, health=health)
