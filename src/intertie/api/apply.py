"""`/api/apply` and `/api/check`: configuration as code, with secrets already resolved by whoever read the file."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Depends, Request, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import apply as operation
from intertie.controlplane import check, config
from intertie.controlplane.config import Document

router: Final = APIRouter(prefix="/api", tags=["configuration"])
State = Annotated[AdminState, Depends(state)]


class GeneratedKey(msgspec.Struct, frozen=True):
    """A key that was generated because the document gave none. Shown this once."""

    project: str
    name: str
    id: str
    key: str


class ApplyAnswer(msgspec.Struct, frozen=True):
    """What applying did: lists of `kind name`."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    keys: tuple[GeneratedKey, ...]
    warnings: tuple[str, ...]


class CheckAnswer(msgspec.Struct, frozen=True):
    """What is allowed but probably not meant."""

    warnings: tuple[str, ...]


@router.post("/apply", dependencies=[need(Permission.CONFIGURATION_APPLY)])
@speaks(answer=ApplyAnswer, takes=Document)
def apply(state: State, request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Make the configuration equal to the document, all or nothing. Doing it twice changes nothing."""
    changes = operation.apply(state.control, state.organisation, config.receive(body), operator(request))
    state.changed()
    made = tuple(GeneratedKey(one.key.project, one.key.name, one.key.id, one.secret) for one in changes.keys)
    return shown(
        ApplyAnswer(changes.created, changes.updated, changes.unchanged, changes.removed, made, changes.warnings)
    )


@router.post("/check", dependencies=[need(Permission.CONFIGURATION_CHECK)])
@speaks(answer=CheckAnswer, takes=Document)
def check_(state: State, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Validate a document without applying it: 400 with every problem, or 200 with warnings."""
    found = check.check(config.receive(body), state.control.prices)
    return shown(
        CheckAnswer(tuple(f"{one.path}: {one.message}" + (f" ({one.hint})" if one.hint else "") for one in found))
    )
