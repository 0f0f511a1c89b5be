"""`/api/audit`: what was done, by whom, from where, and whether that record is still whole."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.auditor import Verdict
from intertie.controlplane import audit, trail
from intertie.controlplane.audit import Wanted
from intertie.controlplane.trail import Head

router: Final = APIRouter(prefix="/api/audit", tags=["audit"])
State = Annotated[AdminState, Depends(state)]
Word = Annotated[str, Query(max_length=200)]
Since = Annotated[float | None, Query(allow_inf_nan=False)]


class AuditAnswer(msgspec.Struct, frozen=True):
    """One record. `at` is UTC seconds, `subject` the id of what it was done to, `hash` its link in the chain."""

    seq: int
    at: float
    actor: str
    action: str
    subject: str
    address: str
    detail: dict[str, Any]
    hash: str | None


class Filters(msgspec.Struct, frozen=True):
    """Which records a list shows."""

    action: str
    actor: str
    subject: str
    since: float | None


def _filters(action: Word = "", actor: Word = "", subject: Word = "", since: Since = None) -> Filters:
    return Filters(action, actor, subject, since)


@router.get("", dependencies=[need(Permission.AUDIT_READ)])
@speaks(answer=list[AuditAnswer])
def list_(
    state: State,
    filters: Annotated[Filters, Depends(_filters)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> Response:
    """Records, the newest first; `after` goes on behind the record with that `seq`.

    A `*` in `action`, `actor` or `subject` stands for anything; `since` is UTC seconds.
    """
    audit.flush(state.control)
    wanted = Wanted(filters.action, filters.actor, filters.subject, filters.since)
    rows = audit.list_(state.control, state.organisation, limit, after, wanted)
    names = [field.name for field in msgspec.structs.fields(AuditAnswer) if field.name != "hash"]
    return shown(
        [
            AuditAnswer(**{name: getattr(row, name) for name in names}, hash=row.hash.hex() if row.hash else None)
            for row in rows
        ]
    )


@router.get("/export", dependencies=[need(Permission.AUDIT_READ)], response_class=StreamingResponse)
def export(state: State, since: Since = None) -> StreamingResponse:
    """All records (since a moment in UTC seconds) with hashes and checkpoints, as JSON lines with a signed end.

    docs/reference/audit-format.md says what each line means.
    """
    audit.flush(state.control)
    return StreamingResponse(trail.export(state.control, state.organisation, since), media_type="application/x-ndjson")


@router.get("/verify", dependencies=[need(Permission.AUDIT_READ)])
@speaks(answer=Verdict)
def verify(state: State) -> Response:
    """Check that no record was altered, removed, added or reordered since it was made."""
    audit.flush(state.control)
    return shown(trail.verify(state.control, state.organisation))


@router.get("/head", dependencies=[need(Permission.AUDIT_READ)])
@speaks(answer=Head)
def head(state: State, seq: Annotated[int | None, Query(ge=1, le=2**53)] = None) -> Response:
    """The hash of the newest record, or of the one numbered `seq`, signed now. Keep it elsewhere to compare later."""
    return shown(trail.head(state.control, state.organisation, seq))
