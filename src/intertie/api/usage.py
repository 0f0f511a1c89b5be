"""`/api/usage`: the books, summed."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.controlplane import usage
from intertie.controlplane.usage import UsageRow

router: Final = APIRouter(prefix="/api/usage", tags=["books"])
State = Annotated[AdminState, Depends(state)]
Moment = Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="UTC seconds")]


@router.get("", dependencies=[need(Permission.USAGE_READ)])
@speaks(answer=list[UsageRow])
def by(
    state: State,
    by: usage.Dimension = "route",
    since: Moment = None,
    until: Moment = None,
    shadow: Annotated[bool, Query(description="Of copies for shadow targets instead of requests")] = False,  # noqa: FBT002 (a member of the query)
) -> Response:
    """Sums by one dimension, everything recorded so far included. Copies for shadow targets are summed apart."""
    state.flush()
    return shown(usage.by(state.control, state.organisation, by, since, until, shadow=shadow))
