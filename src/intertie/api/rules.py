"""`/api/rules`: which targets calls must, should or must not go to, and what other rules would have done."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.projects import WriteAnswer
from intertie.api.state import AdminState, operator, state
from intertie.api.upstreams import RemovedAnswer
from intertie.controlplane import config, rules, simulation
from intertie.controlplane.rule_entries import DraftEntry, MoveEntry, RuleEntry
from intertie.controlplane.rules import RuleView, Spot
from intertie.controlplane.simulation import Simulation
from intertie.core.errors import BadCall

router: Final = APIRouter(prefix="/api/rules", tags=["rules"])
State = Annotated[AdminState, Depends(state)]
Neighbour = Annotated[str | None, Query(max_length=100, description="Name of another rule")]


@router.get("", dependencies=[need(Permission.RULES_READ)])
@speaks(answer=list[RuleView])
def list_(state: State) -> Response:
    """Rules in the order in which they are asked; `entry` is each as a file says it."""
    return shown(rules.list_(state.control, state.organisation))


@router.post("/simulate", dependencies=[need(Permission.CONFIGURATION_CHECK)])
@speaks(answer=Simulation, takes=DraftEntry)
def simulate(state: State, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Replay recorded requests, never their content, under other rules, or one put or removed. Changes nothing."""
    draft = config.receive_entry(DraftEntry, body)
    made = rules.drafted(state.control, state.organisation, draft)
    state.flush()
    span = (draft.since, draft.until)
    return shown(simulation.simulate(state.control, state.organisation, state.snapshot(), made, *span))


@router.get("/{name}", dependencies=[need(Permission.RULES_READ)])
@speaks(answer=RuleView)
def show(state: State, name: str) -> Response:
    """One rule."""
    return shown(rules.show(state.control, state.organisation, name))


@router.put("/{name}", dependencies=[need(Permission.RULES_WRITE)])
@speaks(answer=WriteAnswer, takes=RuleEntry)
def put(
    state: State,
    request: Request,
    name: str,
    body: Annotated[dict[str, Any], Body()],
    before: Neighbour = None,
    after: Neighbour = None,
) -> Response:
    """Make the rule of that name, or replace it whole. A new one is the last, unless `before` or `after` is given."""
    if body.setdefault("name", name) != name:
        raise BadCall("The name in the body is not the one in the path: a rule is not renamed.", param="name")
    if before is not None and after is not None:
        raise BadCall("Give `before` or `after`, not both.", param="before")
    entry = config.receive_entry(RuleEntry, body)
    outcome = rules.put(state.control, state.organisation, entry, Spot(before, after), operator(request))
    state.changed()
    return shown(WriteAnswer(name, outcome))


@router.post("/{name}/move", dependencies=[need(Permission.RULES_WRITE)])
@speaks(answer=RuleView, takes=MoveEntry)
def move(state: State, request: Request, name: str, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Put the rule right before or right after another. Of two preferences the earlier one weighs more."""
    wanted = config.receive_entry(MoveEntry, body)
    spot = Spot(wanted.before, wanted.after)
    moved = rules.move(state.control, state.organisation, name, spot, operator(request))
    state.changed()
    return shown(moved)


@router.delete("/{name}", dependencies=[need(Permission.RULES_WRITE)])
@speaks(answer=RemovedAnswer)
def remove(state: State, request: Request, name: str) -> Response:
    """Remove the rule of that name."""
    rules.remove(state.control, state.organisation, name, operator(request))
    state.changed()
    return shown(RemovedAnswer(name))
