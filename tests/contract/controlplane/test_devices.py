"""Machines that show a code and wait for a human, over a real database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from intertie.agent.keys import SigningKey
from intertie.controlplane import devices, nodes
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.devices import Denied, Expired, Placing
from intertie.controlplane.enrolment import TooManyAttempts
from intertie.core.errors import BadCall
from intertie.core.terms import Trust
from intertie.core.wire.enrolment import DEVICE_SECONDS
from tests.contract.controlplane.applicants import ADDRESS, ADMIN, HERE, Clock, Machine, at_time
from tests.contract.controlplane.conftest import NOW


def test_a_machine_is_approved_by_the_code_it_shows(control: Control) -> None:
    """Typed in any case, with or without the dash; the answer can be fetched more than once."""
    machine = Machine("Anna's PC")
    grant = devices.start(control, "default", machine.without_token(), HERE, ADDRESS)
    assert devices.poll(control, machine.question(grant), HERE, ADDRESS) is None
    (waiting,) = devices.waiting(control, "default")
    assert (waiting.user_code, waiting.name, waiting.address) == (grant.user_code, "Anna's PC", ADDRESS)
    assert devices.waiting(control, "other") == []

    typed = grant.user_code.replace("-", " ").lower()
    made = devices.approve(control, "default", typed, Placing("", ("desk",), Trust.COMMUNITY, "eu"), ADMIN)
    answers = {devices.poll(control, machine.question(grant), HERE, ADDRESS) for _ in range(2)}
    view = nodes.show(control, "default", "Anna-s-PC")

    (answer,) = answers
    assert answer is not None
    assert (answer.node, answer.state) == (made.node, "active")
    assert (view.trust, view.labels, view.address, view.enrolled_by) == ("community", ("desk",), ADDRESS, "device")
    assert view.region == "eu"
    assert devices.waiting(control, "default") == []
    with pytest.raises(Conflict, match="approved before"):
        devices.deny(control, "default", grant.user_code, ADMIN)
    machine.enrolled = answer
    assert machine.connect(control).node == made.node


def test_a_machine_may_be_denied(control: Control) -> None:
    """It is told so, and no node comes of it."""
    machine = Machine()
    grant = devices.start(control, "default", machine.without_token(), HERE, ADDRESS)
    devices.deny(control, "default", grant.user_code, ADMIN)

    with pytest.raises(Denied):
        devices.poll(control, machine.question(grant), HERE, ADDRESS)
    assert nodes.list_(control, "default") == []


def test_a_code_expires(control: Control) -> None:
    """For the machine and for the operator; later it is not even known."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    machine = Machine()
    grant = devices.start(control, "default", machine.without_token(), HERE, ADDRESS)
    clock.now += DEVICE_SECONDS

    with pytest.raises(Expired):
        devices.poll(control, machine.question(grant), HERE, ADDRESS)
    with pytest.raises(Unknown):
        devices.approve(control, "default", grant.user_code, Placing(), ADMIN)
    nodes.sweep(control, clock.now + 3601)
    clock.now += 3601
    with pytest.raises(Expired, match="not known"):
        devices.poll(control, machine.question(grant), HERE, ADDRESS)


def test_only_the_machine_that_asked_is_answered(control: Control) -> None:
    """Another key learns nothing, even with the device code; nor does a relay."""
    machine = Machine()
    grant = devices.start(control, "default", machine.without_token(), HERE, ADDRESS)
    devices.approve(control, "default", grant.user_code, Placing(), ADMIN)
    wrong: list[Callable[[], object]] = [
        lambda: machine.question(grant, key=SigningKey.generate()),
        lambda: machine.question(grant, origin="https://evil.example"),
    ]
    for question in wrong:
        asked: Any = question()
        with pytest.raises(BadCall) as caught:
            devices.poll(control, asked, HERE, ADDRESS)
        assert caught.value.code == "bad_signature"


def test_strangers_cannot_keep_everybody_else_waiting(control: Control) -> None:
    """Each address has its share of the queue."""
    for _ in range(devices.MOST_PER_ADDRESS):
        devices.start(control, "default", Machine().without_token(), HERE, "203.0.113.9")
    with pytest.raises(TooManyAttempts):
        devices.start(control, "default", Machine().without_token(), HERE, "203.0.113.9")

    assert devices.start(control, "default", Machine().without_token(), HERE, ADDRESS).user_code
