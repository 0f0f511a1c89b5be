"""Enrolled machines for these tests, as enrolment and their first report leave them."""

from __future__ import annotations

from intertie.controlplane import inventory
from intertie.controlplane.control import Control
from intertie.core.terms import ModelFacts
from intertie.store import nodes, revision
from intertie.store.nodes import ACTIVE, NodeRow
from tests.contract.controlplane.conftest import NOW


def enrolled(
    control: Control,
    name: str,
    *models: str,
    labels: tuple[str, ...] = (),
    trust: str = "own",
    state: str = ACTIVE,
    organisation: str = "default",
) -> str:
    """The id of a new node that serves these models."""
    id_ = f"node_{name}"
    told = inventory.clean({"models": [{"name": model, "decode": 40.0} for model in models], "slots": 2}, {})
    row = NodeRow(
        organisation=organisation,
        id=id_,
        name=name,
        state=state,
        trust=trust,
        labels=labels,
        drained=False,
        slots=None,
        epoch=1,
        instance="i",
        fingerprint="f",
        ephemeral=False,
        inventory=told,
        version="1",
        platform="linux",
        enrolled_at=NOW,
        enrolled_by="tok_1",
    )
    with control.database.write() as connection:
        nodes.write(connection, row)
        nodes.write_models(connection, organisation, id_, list(models))
        revision.bump(connection)
    return id_


FACTS = ModelFacts("m", decode=40.0)
