"""`/api/keys`: API keys, and the secret of a new one in the answer to its making only."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import keys
from intertie.controlplane.control import DEFAULT_PROJECT
from intertie.controlplane.shapes import Email, Model, Name
from intertie.core.errors import BadCall
from intertie.core.terms import Trust

router: Final = APIRouter(prefix="/api/keys", tags=["keys"])
State = Annotated[AdminState, Depends(state)]


class KeyBody(BaseModel):
    """What a new key is asked to be. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    project: Name = DEFAULT_PROJECT
    models: list[Model] | None = Field(None, max_length=1000)
    trust: Trust = Trust.VENDOR
    expires_at: float | None = Field(None, allow_inf_nan=False)
    member: Email | None = None


class AssignBody(BaseModel):
    """Whom a key is to belong to; null: nobody. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
    member: Email | None


class KeyAnswer(msgspec.Struct, frozen=True):
    """An API key. `models` null: all of the organisation; `member` null: nobody's. Times are UTC seconds."""

    id: str
    project: str
    name: str
    hint: str
    trust: str
    created_at: float
    models: tuple[str, ...] | None
    expires_at: float | None
    revoked_at: float | None
    member: str | None


class NewKeyAnswer(KeyAnswer, frozen=True, kw_only=True):
    """A new API key with its secret."""

    key: str


@router.get("", dependencies=[need(Permission.KEYS_READ)])
@speaks(answer=list[KeyAnswer])
def list_(state: State, project: str | None = None, *, revoked: Annotated[bool, Query()] = False) -> Response:
    """Keys by project and name; with `revoked`, those too. Never the keys themselves."""
    return shown([_answer(row) for row in keys.list_(state.control, state.organisation, project, revoked=revoked)])


@router.post("", status_code=201, dependencies=[need(Permission.KEYS_WRITE)])
@speaks(answer=NewKeyAnswer)
def create(state: State, request: Request, body: KeyBody) -> Response:
    """Make a key. The answer holds it in `key`; it is never shown again."""
    if body.expires_at is not None and body.expires_at <= state.control.clock():
        raise BadCall("expires_at is in the past.", param="expires_at")
    access: keys.Access = {
        "models": None if body.models is None else tuple(body.models),
        "trust": body.trust,
        "expires_at": body.expires_at,
        "member": body.member,
    }
    made = keys.create(state.control, state.organisation, body.project, body.name, operator(request), **access)
    state.changed()
    return shown(NewKeyAnswer(**msgspec.structs.asdict(_answer(made.key)), key=made.secret), 201)


@router.patch("/{key}", dependencies=[need(Permission.KEYS_WRITE)])
@speaks(answer=KeyAnswer)
def assign(state: State, request: Request, key: str, body: AssignBody, project: str | None = None) -> Response:
    """Give a key, named as for revoking, to a member or to nobody. What it was used for stays whose it was."""
    row = keys.assign(state.control, state.organisation, key, body.member, operator(request), project=project)
    state.changed()
    return shown(_answer(row))


@router.delete("/{key}", dependencies=[need(Permission.KEYS_WRITE)])
@speaks(answer=KeyAnswer)
def revoke(state: State, request: Request, key: str, project: str | None = None) -> Response:
    """Revoke a key, named by id or (within `project`, if given) by name. In force at once."""
    row = keys.revoke(state.control, state.organisation, key, operator(request), project=project)
    state.changed()
    return shown(_answer(row))


def _answer(row: Any) -> KeyAnswer:
    return KeyAnswer(**{field.name: getattr(row, field.name) for field in msgspec.structs.fields(KeyAnswer)})
