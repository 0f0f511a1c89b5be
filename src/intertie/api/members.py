"""`/api/members`: the people of the organisation."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import config, members
from intertie.controlplane.member_entries import MemberChangeEntry, MemberEntry
from intertie.controlplane.members import MemberView, RemovedMember

router: Final = APIRouter(prefix="/api/members", tags=["members"])
State = Annotated[AdminState, Depends(state)]


@router.get("", dependencies=[need(Permission.MEMBERS_READ)])
@speaks(answer=list[MemberView])
def list_(state: State) -> Response:
    """Members by address, each with the keys that are theirs."""
    return shown(members.list_(state.control, state.organisation))


@router.post("", status_code=201, dependencies=[need(Permission.MEMBERS_WRITE)])
@speaks(answer=MemberView, takes=MemberEntry)
def add(state: State, request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Add a member. The address says who they are, so it is there once and never changes."""
    entry = config.receive_entry(MemberEntry, body)
    made = members.add(state.control, state.organisation, entry, operator(request))
    state.changed()
    return shown(made, 201)


@router.get("/{email}", dependencies=[need(Permission.MEMBERS_READ)])
@speaks(answer=MemberView)
def show(state: State, email: str) -> Response:
    """One member."""
    return shown(members.show(state.control, state.organisation, email))


@router.patch("/{email}", dependencies=[need(Permission.MEMBERS_WRITE)])
@speaks(answer=MemberView, takes=MemberChangeEntry)
def change(state: State, request: Request, email: str, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Set a member's name or role; what is left out stays."""
    wanted = config.receive_entry(MemberChangeEntry, body)
    changed = members.change(state.control, state.organisation, email, wanted, operator(request))
    state.changed()
    return shown(changed)


@router.delete("/{email}", dependencies=[need(Permission.MEMBERS_WRITE)])
@speaks(answer=RemovedMember)
def remove(state: State, request: Request, email: str, *, revoke_keys: Annotated[bool, Query()] = False) -> Response:
    """Remove a member. Refused while they have keys, unless `revoke_keys` is set. The books keep their address."""
    by = operator(request)
    gone = members.remove(state.control, state.organisation, email, by, revoke_keys=revoke_keys)
    state.changed()
    return shown(gone)
