"""`/api/rules`: which targets calls must, should or must not go to, and what other rules would have done."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.controlplane import config, rules, simulation
from intertie.controlplane.rule_entries import DraftEntry
from intertie.controlplane.rules import RuleView
from intertie.controlplane.simulation import Simulation

router: Final = APIRouter(prefix="/api/rules", tags=["rules"])
State = Annotated[AdminState, Depends(state)]


@router.get("", dependencies=[need(Permission.ROUTES_READ)])
@speaks(answer=list[RuleView])
def list_(state: State) -> Response:
    """Rules in the order in which they are asked. Configuration makes them: `intertie apply`."""
    return shown(rules.list_(state.control, state.organisation))


@router.post("/simulate", dependencies=[need(Permission.CONFIGURATION_CHECK)])
@speaks(answer=Simulation, takes=DraftEntry)
def simulate(state: State, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Replay recorded requests, never their content, under a draft of rules. Changes nothing."""
    draft = config.receive_entry(DraftEntry, body)
    made = rules.drafted(state.control, state.organisation, draft.rules)
    state.flush()
    span = (draft.since, draft.until)
    return shown(simulation.simulate(state.control, state.organisation, state.snapshot(), made, *span))
