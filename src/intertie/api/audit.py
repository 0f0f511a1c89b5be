"""`/api/audit`: what was done, by whom, from where."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.controlplane import audit

router: Final = APIRouter(prefix="/api/audit", tags=["audit"])
State = Annotated[AdminState, Depends(state)]


class AuditAnswer(msgspec.Struct, frozen=True):
    """One record. `at` is UTC seconds, `subject` the id of what it was done to."""

    seq: int
    at: float
    actor: str
    action: str
    subject: str
    address: str
    detail: dict[str, Any]


@router.get("", dependencies=[need(Permission.AUDIT_READ)])
@speaks(answer=list[AuditAnswer])
def list_(
    state: State,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> Response:
    """Records, the newest first; `after` goes on behind the record with that `seq`."""
    audit.flush(state.control)
    rows = audit.list_(state.control, state.organisation, limit, after)
    names = [field.name for field in msgspec.structs.fields(AuditAnswer)]
    return shown([AuditAnswer(**{name: getattr(row, name) for name in names}) for row in rows])
