"""The audit trail over a real database."""

from __future__ import annotations

import logging

import pytest

from intertie.controlplane import apply, audit, nodes, tokens
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Control, Unknown
from intertie.controlplane.enrolment import EnrolmentRefused
from tests.contract.controlplane.applicants import ADDRESS, ADMIN, Clock, Machine, at_time, make_token
from tests.contract.controlplane.conftest import NOW
from tests.contract.controlplane.documents import document


def _trail(control: Control) -> list[tuple[str, str]]:
    return [(row.actor, row.action) for row in reversed(audit.list_(control, "default"))]


def test_every_step_of_a_nodes_life_is_recorded_with_actor_and_address(control: Control) -> None:
    """Token, enrolment, approval, drain, change, revocation, re-enrolment, removal."""
    made = make_token(control, approved=False)
    machine = Machine()
    machine.enrol(control, made.token)
    nodes.approve(control, "default", "rig", ADMIN)
    nodes.drain(control, "default", "rig", ADMIN, drained=True)
    nodes.revoke(control, "default", "rig", ADMIN)
    again = make_token(control, "", node="rig")
    machine.enrol(control, again.token)
    unused = make_token(control, "x")
    tokens.revoke(control, "default", unused.view.id, ADMIN)
    nodes.remove(control, "default", "rig", ADMIN)

    assert _trail(control) == [
        ("admin", "token.create"),
        (f"token {made.view.id}", "node.enrol"),
        ("admin", "node.approve"),
        ("admin", "node.drain"),
        ("admin", "node.revoke"),
        ("admin", "token.create"),
        (f"token {again.view.id}", "node.reenrol"),
        ("admin", "token.create"),
        ("admin", "token.revoke"),
        ("admin", "node.remove"),
    ]
    addresses = {row.action: row.address for row in audit.list_(control, "default")}
    assert (addresses["node.enrol"], addresses["node.approve"]) == (ADDRESS, "127.0.0.1")


def test_a_change_that_fails_leaves_no_record(control: Control) -> None:
    """The record is part of the change."""
    with pytest.raises(RuntimeError), control.database.write() as connection:  # noqa: PT012
        audit.record(connection, control, "default", ADMIN, "node.drain", "node_1")
        raise RuntimeError
    with pytest.raises(Unknown):
        nodes.revoke(control, "default", "nobody", ADMIN)

    assert audit.list_(control, "default") == []


def test_the_trail_is_read_page_by_page(control: Control) -> None:
    """The newest first, each once."""
    with control.database.write() as connection:
        for number in range(25):
            for organisation in ("default", "other"):
                audit.record(connection, control, organisation, Actor("admin"), "x", str(number), n=number)
    seen: list[str] = []
    after = None
    while page := audit.list_(control, "default", 10, after):
        seen += [row.subject for row in page]
        after = page[-1].seq

    assert seen == [str(number) for number in range(24, -1, -1)]


@pytest.mark.parametrize(("before", "after"), [("", ", models: []"), (", models: []", "")])
def test_all_and_none_are_not_the_same(control: Control, before: str, after: str) -> None:
    """A key for no model that becomes one for every model must not do so unseen."""
    for models in (before, after):
        apply.apply(control, "default", document(f"projects: [{{name: web, keys: [{{name: dev{models}}}]}}]"))
    update = next(row for row in audit.list_(control, "default") if row.action.startswith("key."))
    assert update.action == "key.update"
    assert update.detail["before"] == {"models": None if not before else []}
    assert update.detail["after"] == {"models": None if not after else []}


def test_no_record_holds_a_token(control: Control) -> None:
    """Only its public id."""
    made = make_token(control)
    Machine().enrol(control, made.token)
    with pytest.raises(EnrolmentRefused):
        Machine().enrol(control, made.token)
    audit.flush(control)
    trail = repr(audit.list_(control, "default"))

    assert made.view.id in trail
    assert made.token[15:] not in trail


def test_refusals_are_counted_and_not_written_one_by_one(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    """One record at once, one with the sum after the hour; a spent token also alerts in the log."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    token = make_token(control, seconds=86_400).token
    Machine().enrol(control, token)
    stranger = Machine()
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            with pytest.raises(EnrolmentRefused):
                stranger.enrol(control, token)
            audit.flush(control)
    clock.now += 3600
    nodes.sweep(control, clock.now)
    counts = [row.detail["count"] for row in audit.list_(control, "default") if row.action == "enrolment.refused"]

    assert counts == [499, 1]
    assert "spent" in caplog.text
    assert token[15:] not in caplog.text
