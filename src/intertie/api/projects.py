"""`/api/projects`: what keys belong to."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import config, projects
from intertie.controlplane.entries import ProjectEntry

router: Final = APIRouter(prefix="/api/projects", tags=["projects"])
State = Annotated[AdminState, Depends(state)]


class ProjectAnswer(msgspec.Struct, frozen=True):
    """A project. `origin` is config or api; `created_at` is UTC seconds."""

    name: str
    origin: str
    created_at: float


class WriteAnswer(msgspec.Struct, frozen=True):
    """What a write did: created, updated or unchanged."""

    name: str
    outcome: str


@router.get("", dependencies=[need(Permission.PROJECTS_READ)])
@speaks(answer=list[ProjectAnswer])
def list_(state: State) -> Response:
    """Projects by name."""
    rows = projects.list_(state.control, state.organisation)
    return shown([ProjectAnswer(row.name, row.origin, row.created_at) for row in rows])


@router.put("/{name}", dependencies=[need(Permission.PROJECTS_WRITE)])
@speaks(answer=WriteAnswer)
def ensure(state: State, request: Request, name: str) -> Response:
    """Make the project unless it exists."""
    entry = config.receive_entry(ProjectEntry, {"name": name})
    outcome = projects.ensure(state.control, state.organisation, entry.name, operator(request))
    state.changed()
    return shown(WriteAnswer(entry.name, outcome))
