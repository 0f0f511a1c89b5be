"""`/api/ledger`: entries in the order they were written, and whether the books add up."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.controlplane import ledger
from intertie.controlplane.ledger import Entry, Problem

router: Final = APIRouter(prefix="/api/ledger", tags=["books"])
State = Annotated[AdminState, Depends(state)]


class VerifyAnswer(msgspec.Struct, frozen=True):
    """Whether the books add up, what does not, and how much they hold."""

    clean: bool
    requests: int
    attempts: int
    problems: tuple[Problem, ...]
    shadows: int = 0
    """Copies of requests for shadow targets."""


@router.get("/entries", dependencies=[need(Permission.LEDGER_READ)])
@speaks(answer=list[Entry])
def entries(
    state: State,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    after: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """One entry per attempt, request and copy of one, beginning behind the entry whose `id` is `after`."""
    state.flush()
    return shown(ledger.entries(state.control, state.organisation, limit, after))


@router.get("/verify", dependencies=[need(Permission.LEDGER_READ)])
@speaks(answer=VerifyAnswer)
def verify(state: State) -> Response:
    """Check that every request is settled once and that sums agree."""
    state.flush()
    found = tuple(state.verify() if state.verify is not None else ledger.verify(state.control))
    held = ledger.totals(state.control, state.organisation)
    return shown(VerifyAnswer(not found, held.requests, held.attempts, found, held.shadows))
