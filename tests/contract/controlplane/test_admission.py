"""A node proves itself on every connection, and replaces its key, over a real database."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.agent.keys import SigningKey
from intertie.controlplane import admission, nodes, snapshot
from intertie.controlplane.control import Conflict, Control
from intertie.controlplane.enrolment import packed
from intertie.controlplane.nodes import LinkRefused, NodeChange
from intertie.core.wire.link import CloseCode
from tests.contract.controlplane.applicants import (
    ADDRESS,
    ADMIN,
    ORIGIN,
    Clock,
    Machine,
    actions,
    at_time,
    enrolled,
    id_of,
    make_token,
    refused,
)
from tests.contract.controlplane.conftest import NOW

# -- admission -------------------------------------------------------------------------------------------------------


def test_a_node_proves_itself(control: Control) -> None:
    """And is told what an operator set; when and from where it came is kept."""
    machine = enrolled(control)
    nodes.change(control, "default", "rig", NodeChange(slots=2), ADMIN)
    nodes.drain(control, "default", "rig", ADMIN, drained=True)
    found = machine.connect(control)

    assert machine.enrolled is not None
    assert found == nodes.Admission(id_of(machine), "default", "rig", machine.enrolled.key, 1, 2, drained=True)
    view = nodes.show(control, "default", "rig")
    assert (view.last_seen_at, view.address) == (NOW, ADDRESS)
    nodes.left(control, "default", id_of(machine), NOW + 5)
    assert nodes.show(control, "default", "rig").last_seen_at == NOW + 5


def test_an_answer_is_good_for_its_connection_only(control: Control) -> None:
    """Replayed on another, or made for another gateway, node or instance, it opens nothing."""
    machine, other = enrolled(control), enrolled(control, "other")
    first, second = machine.challenge(), machine.challenge()
    auth = machine.auth(first)
    nodes.admit(control, auth, signed=first.signed, address=ADDRESS)

    replays = [
        auth,
        auth | {"origin": "https://evil.example"},
        auth | {"node": id_of(other)},
        auth | {"instance": "i2"},
    ]
    for replay, challenge in zip(replays, (second, first, first, first), strict=True):
        with pytest.raises(LinkRefused) as caught:
            nodes.admit(control, replay, signed=challenge.signed, address=ADDRESS)
        assert caught.value.code is CloseCode.AUTH_FAILED
    elsewhere = machine.auth(second, origin="https://evil.example") | {"origin": ORIGIN}
    with pytest.raises(LinkRefused):
        nodes.admit(control, elsewhere, signed=second.signed, address="")


def test_an_origin_that_the_door_does_not_know_isrefused(control: Control) -> None:
    """The door knows its addresses; its word counts, and is recorded."""
    machine = enrolled(control)

    def signed(origin: str, node: str, instance: str) -> bytes:
        raise LinkRefused(CloseCode.AUTH_FAILED, "not our address")

    with pytest.raises(LinkRefused, match="not our address"):
        nodes.admit(control, machine.auth(machine.challenge()), signed=signed, address=ADDRESS)
    assert actions(control, "link.refused")[0]["reason"] == "auth_failed"


@pytest.mark.parametrize("years", [-10, 10])
def test_no_clock_of_a_node_counts(control: Control, years: int) -> None:
    """It may say any time: nothing that it sends is a time, and what it adds is not read."""
    machine = enrolled(control)
    wrong = NOW + years * 365.25 * 86_400
    challenge = machine.challenge()
    auth = machine.auth(challenge) | {"time": wrong, "date": wrong}

    assert nodes.admit(control, auth, signed=challenge.signed, address=ADDRESS).epoch == 1
    assert nodes.report(control, "default", id_of(machine), {"models": [{"name": "m"}], "time": wrong}).routes
    assert nodes.show(control, "default", "rig").last_seen_at == NOW


def test_another_key_or_an_unknown_node_is_refused_alike(control: Control) -> None:
    """Whoever guesses ids learns nothing."""
    machine, stranger = enrolled(control), Machine()
    stranger.enrolled = machine.enrolled
    ghost = Machine()
    ghost.enrolled = None if machine.enrolled is None else type(machine.enrolled)(
        "node_0000000000000000", "nkey_0", "ghost", "active", (), ""
    )  # fmt: skip

    assert refused(control, stranger) is refused(control, ghost) is CloseCode.AUTH_FAILED
    assert nodes.show(control, "default", "rig").last_seen_at is None


@pytest.mark.parametrize(("state", "code"), [("pending", CloseCode.PENDING), ("revoked", CloseCode.REVOKED)])
def test_a_node_that_may_not_serve_learns_why(control: Control, state: str, code: CloseCode) -> None:
    """After it has proved itself; others learn nothing."""
    machine = enrolled(control, approved=state != "pending")
    if state == "revoked":
        nodes.revoke(control, "default", "rig", ADMIN)
    stranger = Machine()
    stranger.enrolled = machine.enrolled

    assert refused(control, machine) is code
    assert refused(control, stranger) is CloseCode.AUTH_FAILED


@pytest.mark.parametrize(
    ("instead", "code"),
    [
        ({"protocol": 2}, CloseCode.UPGRADE_REQUIRED),
        ({"protocol": None}, CloseCode.UPGRADE_REQUIRED),
        ({"node": 7}, CloseCode.PROTOCOL_ERROR),
        ({"node": ""}, CloseCode.PROTOCOL_ERROR),
        ({"instance": ""}, CloseCode.PROTOCOL_ERROR),
        ({"instance": "i" * 65}, CloseCode.PROTOCOL_ERROR),
        ({"version": ["1"]}, CloseCode.PROTOCOL_ERROR),
        ({"origin": "o" * 300}, CloseCode.PROTOCOL_ERROR),
        ({"signature": None}, CloseCode.PROTOCOL_ERROR),
        ({"node": "\ud800"}, CloseCode.PROTOCOL_ERROR),
        ({"version": "\udfff"}, CloseCode.PROTOCOL_ERROR),
        ({"signature": "é"}, CloseCode.PROTOCOL_ERROR),
        ({"signature": "AA"}, CloseCode.AUTH_FAILED),
    ],
)
def test_what_is_no_answer_gets_a_defined_code(control: Control, instead: dict[str, Any], code: CloseCode) -> None:
    """Never an exception of a library."""
    assert refused(control, enrolled(control), **instead) is code


def test_a_thousand_refusals_are_one_record(control: Control) -> None:
    """A machine with a wrong key that tries for ever does not fill the disk."""
    stranger = Machine()
    stranger.enrolled = enrolled(control).enrolled
    for _ in range(200):
        refused(control, stranger)

    assert [one["count"] for one in actions(control, "link.refused")] == [1]


# -- one node, one agent ---------------------------------------------------------------------------------------------


def test_a_new_instance_takes_the_next_epoch(control: Control) -> None:
    """The same instance keeps its own, however often it dials."""
    machine = enrolled(control)
    epochs = [machine.connect(control).epoch for _ in range(3)]
    machine.instance = "instance-2"
    epochs += [machine.connect(control).epoch for _ in range(2)]

    assert epochs == [1, 1, 1, 2, 2]


def _copied(control: Control, machine: Machine, clock: Clock) -> Machine:
    """A second machine with the same folder; both dial in turns until the gateway has enough."""
    copy = Machine()
    copy.key, copy.enrolled, copy.instance = machine.key, machine.enrolled, "instance-of-the-copy"
    for one in [machine, copy] * 10:
        clock.now += 30
        try:
            one.connect(control)
        except LinkRefused as refusal:
            assert refusal.code is CloseCode.DUPLICATE  # noqa: PT017
            return copy
    raise AssertionError("the copy was not noticed")


def test_two_machines_with_one_key_are_both_refused_until_one_enrols_again(control: Control) -> None:
    """Found within ten minutes; nothing is routed there; a restart of the gateway changes nothing about it."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    machine = enrolled(control)
    copy = _copied(control, machine, clock)

    assert clock.now - NOW <= 600
    assert (refused(control, machine), refused(control, copy)) == (CloseCode.DUPLICATE, CloseCode.DUPLICATE)
    assert nodes.show(control, "default", "rig").state == "duplicate"
    assert snapshot.build(control).nodes == {}
    assert len(actions(control, "node.duplicate")) == 1
    with pytest.raises(Conflict, match="--for rig"):
        nodes.approve(control, "default", "rig", ADMIN)

    fresh = Machine()
    fresh.enrol(control, make_token(control, "", node="rig").token)
    assert fresh.connect(control).node == id_of(machine)
    assert refused(control, machine) is CloseCode.AUTH_FAILED


def test_an_agent_that_restarts_often_is_no_copy(control: Control) -> None:
    """Each start is a new instance on the same machine."""
    machine = enrolled(control)
    for number in range(30):
        machine.instance = f"instance-{number}"
        assert machine.connect(control).epoch == number + 1


# -- rotation --------------------------------------------------------------------------------------------------------


def test_a_node_that_left_for_good_serves_nobody_until_it_enrols_again(control: Control) -> None:
    """It is there for its history: id and name stay, its models go, and its old key opens nothing."""
    machine = enrolled(control)
    machine.connect(control)
    nodes.left(control, "default", id_of(machine), NOW, machine.instance)

    assert nodes.show(control, "default", "rig").state == "left"
    assert snapshot.build(control).nodes == {}
    assert refused(control, machine) is CloseCode.REVOKED
    assert actions(control, "node.leave") == [{"name": "rig"}]
    fresh = Machine()
    fresh.enrol(control, make_token(control, "", node="rig").token)
    assert fresh.connect(control).node == id_of(machine)


def test_only_the_agent_that_left_has_left(control: Control) -> None:
    """Not a node that stops for now, not one that was enrolled again in between, and not one that is shut out."""
    machine = enrolled(control)
    machine.connect(control)
    nodes.left(control, "default", id_of(machine), NOW)
    assert nodes.show(control, "default", "rig").state == "active"

    fresh = Machine()
    fresh.instance = "instance-2"
    fresh.enrol(control, make_token(control, "", node="rig").token)
    nodes.left(control, "default", id_of(machine), NOW, machine.instance)
    fresh.connect(control)
    nodes.left(control, "default", id_of(machine), NOW, machine.instance)
    assert nodes.show(control, "default", "rig").state == "active"

    nodes.revoke(control, "default", "rig", ADMIN)
    nodes.left(control, "default", id_of(machine), NOW, fresh.instance)
    assert nodes.show(control, "default", "rig").state == "revoked"


def _rotated(control: Control, machine: Machine, fresh: SigningKey, **more: Any) -> str:
    return nodes.rotate(control, "default", id_of(machine), "link_1", machine.rotation("link_1", fresh, **more))


def test_a_node_replaces_its_key_and_whichever_it_kept_opens(control: Control) -> None:
    """Crash before keeping the new key: the old one opens. Once the new one was used, only that."""
    machine = enrolled(control)
    machine.connect(control)
    fresh, old = SigningKey.generate(), machine.key
    made = _rotated(control, machine, fresh)

    assert _rotated(control, machine, fresh) == made
    assert machine.connect(control).node == id_of(machine)
    machine.key = fresh
    assert machine.connect(control).key == made
    machine.key = old
    assert refused(control, machine) is CloseCode.AUTH_FAILED
    assert [one["key"] for one in actions(control, "node.rotate")] == [made]


def test_the_old_key_is_good_for_a_day(control: Control) -> None:
    """Then only the new one, used or not."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    machine = enrolled(control)
    fresh = SigningKey.generate()
    _rotated(control, machine, fresh)
    clock.now += admission.OVERLAP

    assert refused(control, machine) is CloseCode.AUTH_FAILED
    machine.key = fresh
    assert machine.connect(control).epoch == 1


def test_two_keys_at_most_are_good_at_a_time(control: Control) -> None:
    """A node that changes its mind leaves no trail of keys that open."""
    machine = enrolled(control)
    first, second = SigningKey.generate(), SigningKey.generate()
    _rotated(control, machine, first)
    _rotated(control, machine, second)
    keys, good = [machine.key, first, second], []
    for key in keys:
        machine.key = key
        try:
            machine.connect(control)
            good.append(key)
        except LinkRefused:
            pass

    assert good == [keys[0], second]


def test_a_rotation_needs_both_signatures_on_this_connection(control: Control) -> None:
    """Neither a thief of the connection nor one of a message can set a key."""
    machine, fresh = enrolled(control), SigningKey.generate()
    said = machine.rotation("link_1", fresh)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("link_2", said),
        ("link_1", machine.rotation("link_1", fresh, old=SigningKey.generate())),
        ("link_1", said | {"new": said["old"]}),
        ("link_1", said | {"public_key": packed(SigningKey.generate().public)}),
    ]
    for connection, message in wrong:
        with pytest.raises(LinkRefused) as caught:
            nodes.rotate(control, "default", id_of(machine), connection, message)
        assert caught.value.code is CloseCode.AUTH_FAILED
    for field in said:
        with pytest.raises(LinkRefused) as caught:
            nodes.rotate(control, "default", id_of(machine), "link_1", said | {field: 7})
        assert caught.value.code is CloseCode.PROTOCOL_ERROR
    nodes.revoke(control, "default", "rig", ADMIN)
    with pytest.raises(LinkRefused) as caught:
        _rotated(control, machine, fresh)
    assert caught.value.code is CloseCode.REVOKED
