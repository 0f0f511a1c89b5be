"""Who gets in, who is sent away and why, as an agent sees it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed, InvalidStatus

from intertie.api.link_control import REPORT_SECONDS, REPORTS_AT_ONCE
from intertie.api.links import REBUILD_SECONDS
from intertie.controlplane import nodes as controlplane_nodes
from intertie.controlplane.control import Control
from intertie.controlplane.nodes import Reported
from intertie.core.routing.room import Room
from intertie.core.wire.enrolment import rotate_message
from intertie.core.wire.link import CloseCode
from intertie.store import audit, nodes
from intertie.store.nodes import NodeRow
from tests.contract.link.bed import NODE, Bed, Machine, closing, packed, running, say, soon


async def test_a_node_that_proves_itself_is_welcome_and_its_models_are_routable(bed: Bed) -> None:
    attachment = await bed.enrol().attach(slots=3)

    welcome = attachment.welcome
    assert (welcome["node"], welcome["name"], welcome["epoch"]) == (NODE, "rig", 1)
    assert (welcome["drained"], welcome["slots"], welcome["pending"]) == (False, None, False)
    await soon(lambda: "m" in bed.snapshots.current.upstreams[NODE].models)
    (presence,) = bed.links.presence()
    assert (presence.node, presence.slots, presence.instance) == (NODE, 3, "instance-1")


@pytest.mark.parametrize(
    ("instead", "code"),
    [
        ({"signature": packed(b"x" * 64)}, CloseCode.AUTH_FAILED),
        ({"node": "node_other"}, CloseCode.AUTH_FAILED),
        ({"origin": "https://evil.example"}, CloseCode.AUTH_FAILED),
        ({"protocol": 2}, CloseCode.UPGRADE_REQUIRED),
        ({"signature": 7}, CloseCode.PROTOCOL_ERROR),
        ({"t": "inventory"}, CloseCode.PROTOCOL_ERROR),
    ],
)
async def test_whoever_does_not_prove_it_is_refused(bed: Bed, instead: dict[str, object], code: CloseCode) -> None:
    machine = bed.enrol()
    control = await machine.dial()
    challenge = json.loads(await control.recv())

    await control.send(json.dumps(machine.answer(challenge, **instead)))

    assert (await closing(control))[0] == code
    assert not bed.links.presence()


async def test_a_stranger_cannot_make_the_gateway_hold_much(bed: Bed) -> None:
    control = await bed.enrol().dial()
    await control.recv()
    await control.send(json.dumps({"t": "auth", "node": "x" * 20_000}))
    assert (await closing(control))[0] == CloseCode.PROTOCOL_ERROR


async def test_an_inventory_may_be_large(bed: Bed) -> None:
    attachment = await bed.enrol().attach()
    models = [{"name": f"m{number}", "parameters": "7B" * 30} for number in range(400)]
    await say(attachment.control, "inventory", revision=2, slots=2, models=models)
    await soon(lambda: bed.slots() == 2)


async def test_what_a_node_says_of_its_models_counts_at_once_and_rebuilds_nothing(bed: Bed) -> None:
    attachment = await bed.enrol().attach()
    await soon(lambda: "m" in bed.snapshots.current.upstreams[NODE].models)
    before = bed.snapshots.current

    for decode in (10.0, 100.0):
        facts = {"name": "m", "loaded": False, "decode": decode}
        await say(attachment.control, "inventory", revision=2, slots=4, models=[facts])
    await soon(lambda: _room(bed).decode == 100.0)

    assert not _room(bed).warm
    await asyncio.to_thread(bed.snapshots.refresh)
    assert bed.snapshots.current is before


def at_least(found: list[str], count: int) -> bool:
    return len(found) >= count


async def test_a_node_whose_models_change_all_the_time_is_listened_to_now_and_then(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    report = controlplane_nodes.report

    def counted(control: Control, organisation: str, node: str, message: Mapping[str, Any]) -> Reported:
        reported.append(message["models"][0]["name"])
        return report(control, organisation, node, message)

    monkeypatch.setattr(controlplane_nodes, "report", counted)
    attachment = await bed.enrol().attach()
    for number in range(30):
        await say(attachment.control, "inventory", revision=number, slots=4, models=[{"name": f"m{number}"}])
        await soon(partial(at_least, reported, min(number + 1, REPORTS_AT_ONCE)))
    await asyncio.sleep(0.2)
    assert len(reported) <= REPORTS_AT_ONCE
    bed.links.clock = lambda: time.monotonic() + REPORT_SECONDS
    bed.links.of(NODE).control._pass_on()  # type: ignore[union-attr]  # what its timer calls
    await soon(lambda: reported[-1] == "m29")


async def test_the_snapshot_is_rebuilt_once_for_many_changes(bed: Bed) -> None:
    rebuilt: list[float] = []
    bed.door._refresh = lambda: rebuilt.append(time.monotonic())
    for _ in range(20):
        bed.door.changed()
        await asyncio.sleep(0.01)
    await soon(lambda: len(rebuilt) == 2)
    assert rebuilt[1] - rebuilt[0] >= REBUILD_SECONDS * 0.9


def _room(bed: Bed) -> Room:
    node = bed.snapshots.current.nodes["default", "rig"]
    return bed.links.room(bed.snapshots.current.upstreams[NODE], node, "m")


async def test_an_answer_meant_for_another_gateway_is_written_into_the_audit_trail(bed: Bed) -> None:
    machine = bed.enrol()
    control = await machine.dial()
    challenge = json.loads(await control.recv())
    await control.send(json.dumps(machine.answer(challenge, origin="https://evil.example")))
    await closing(control)

    with bed.control.database.read() as connection:
        (record,) = audit.listed(connection, "default", 10, None)

    assert record.action == "link.refused"


async def test_a_recorded_answer_does_not_open_another_connection(bed: Bed) -> None:
    machine = bed.enrol()
    first = await machine.dial()
    recorded = json.dumps(machine.answer(json.loads(await first.recv())))
    await first.send(recorded)
    assert json.loads(await first.recv())["t"] == "welcome"

    second = await machine.dial()
    await second.recv()
    await second.send(recorded)

    assert (await closing(second))[0] == CloseCode.AUTH_FAILED
    assert len(bed.links.presence()) == 1, "and the first stays"


@pytest.mark.parametrize(
    ("state", "code"),
    [("pending", CloseCode.PENDING), ("revoked", CloseCode.REVOKED), ("duplicate", CloseCode.DUPLICATE)],
)
async def test_a_node_that_is_not_active_hears_why(bed: Bed, state: str, code: CloseCode) -> None:
    machine = bed.enrol(state=state)
    control = await machine.dial()

    await control.send(json.dumps(machine.answer(json.loads(await control.recv()))))

    assert (await closing(control))[0] == code


async def test_a_newer_instance_takes_the_place_even_of_a_half_open_one(bed: Bed) -> None:
    machine = bed.enrol()
    old = await machine.attach()
    lane = await old.lane()
    await soon(lambda: bed.links.presence()[0].lanes_parked == 1)

    new = await Machine(bed, NODE, machine.key, "instance-2").attach()

    assert new.welcome["epoch"] == 2
    assert (await closing(old.control))[0] == CloseCode.SUPERSEDED
    assert (await closing(lane))[0] == CloseCode.SUPERSEDED
    assert [presence.instance for presence in bed.links.presence()] == ["instance-2"]
    late = await old.lane()
    assert (await closing(late))[0] == CloseCode.TICKET, "the old instance's ticket is worth nothing now"


async def test_two_machines_with_one_key_both_hear_that_there_are_two(bed: Bed) -> None:
    machine = bed.enrol()
    copy = Machine(bed, NODE, machine.key, "instance-of-the-copy")
    before = control = (await machine.attach()).control
    for one in [copy, machine] * 10:
        control = await one.dial()
        await control.send(json.dumps(one.answer(json.loads(await control.recv()))))
        try:
            await control.recv()
        except ConnectionClosed:
            break
        assert (await closing(before))[0] == CloseCode.SUPERSEDED
        before = control

    assert [(await closing(one))[0] for one in (control, before)] == [CloseCode.DUPLICATE] * 2
    assert not bed.links.presence()


async def test_the_same_instance_may_dial_again_before_its_loss_is_noticed(bed: Bed) -> None:
    machine = bed.enrol()
    old = await machine.attach()
    again = await machine.attach()

    assert again.welcome["epoch"] == 1
    assert (await closing(old.control))[0] == CloseCode.NORMAL
    await again.lane()
    await soon(lambda: bed.links.presence()[0].lanes_parked == 1)


async def test_revocation_closes_all_at_once(bed: Bed) -> None:
    attachment = await bed.enrol().attach()
    lane = await attachment.lane()

    await bed.set_state(NODE, "revoked")

    assert (await closing(attachment.control))[0] == CloseCode.REVOKED
    assert (await closing(lane))[0] == CloseCode.REVOKED
    await soon(lambda: not bed.links.presence())


async def test_a_node_approved_a_moment_ago_by_another_process_is_not_taken_for_revoked(bed: Bed) -> None:
    # The snapshot in force is older than the node.
    attachment = await bed.enrol("node_new").attach()

    assert attachment.welcome["node"] == "node_new"
    assert [presence.node for presence in bed.links.presence()] == ["node_new"]


async def test_an_operators_wishes_reach_the_agent(bed: Bed) -> None:
    attachment = await bed.enrol().attach(slots=4)

    await bed.set_limits(NODE, drained=True, slots=2)

    assert await attachment.said() == {"t": "settings", "drained": True, "slots": 2}
    assert bed.slots() == 2


async def test_a_node_gets_a_new_key_and_needs_both_signatures_for_it(bed: Bed) -> None:
    machine = bed.enrol()
    control = await machine.dial()
    challenge = json.loads(await control.recv())
    await control.send(json.dumps(machine.answer(challenge)))
    await control.recv()
    assert bed.links.ask_rotation(NODE)
    assert json.loads(await control.recv()) == {"t": "rotate"}

    fresh = Ed25519PrivateKey.generate()
    public = fresh.public_key().public_bytes_raw()
    message = rotate_message(node=NODE, connection=challenge["connection"], public_key=public)
    signed = {"old": packed(machine.key.sign(message)), "new": packed(fresh.sign(message))}
    await say(control, "rotate", public_key=packed(public), **signed)

    kept = json.loads(await control.recv())
    assert kept["t"] == "rotate"
    with bed.control.database.read() as connection:
        assert kept["key"] in {key.id for key in nodes.keys(connection, "default", NODE)}
    await Machine(bed, NODE, fresh).attach()
    assert not bed.links.ask_rotation("node_unknown")


@pytest.mark.parametrize(("proxies", "address"), [((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9")])
async def test_behind_a_trusted_proxy_a_node_is_seen_with_its_own_address(
    tmp_path: Path, proxies: tuple[str, ...], address: str
) -> None:
    async with running(tmp_path, proxies=proxies) as bed:
        machine = bed.enrol()
        control = await machine.dial(headers={"x-forwarded-for": "203.0.113.9"})
        await control.send(json.dumps(machine.answer(json.loads(await control.recv()))))
        await soon(lambda: bool(bed.links.presence()))
        assert [one.address for one in bed.links.presence()] == [address]


async def test_when_it_was_last_there_is_remembered(bed: Bed) -> None:
    attachment = await bed.enrol().attach()
    await attachment.control.close()
    await soon(lambda: not bed.links.presence())

    def seen() -> bool:
        with bed.control.database.read() as connection:
            row = nodes.by_id(connection, NODE)
        return row is not None and row.last_seen_at is not None

    await soon(seen)


@pytest.mark.parametrize(
    ("said", "state"), [({"for_good": True}, "left"), ({"for_good": "yes"}, "active"), ({}, "active")]
)
async def test_a_node_that_leaves_for_good_is_out_when_its_link_ends(
    bed: Bed, said: dict[str, object], state: str
) -> None:
    """Not before, for what runs there may finish; and one that is only stopped comes back."""
    attachment = await bed.enrol().attach()
    await say(attachment.control, "leave", reason="the owner left", **said)
    await soon(lambda: bed.links.presence()[0].serving == "draining")
    before = stored(bed)
    assert before.state == "active"
    await attachment.control.close()
    await soon(lambda: stored(bed).last_seen_at != before.last_seen_at)
    assert stored(bed).state == state


def stored(bed: Bed) -> NodeRow:
    """The node as the database has it."""
    with bed.control.database.read() as connection:
        row = nodes.by_id(connection, NODE)
    assert row is not None
    return row


async def test_a_node_that_floods_messages_is_closed(bed: Bed) -> None:
    attachment = await bed.enrol().attach()
    for _ in range(100):
        await say(attachment.control, "status", state="serving")

    assert (await closing(attachment.control))[0] == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "message",
    ["{", "[]", '{"t":1}', '{"t":"open"}', '{"t":"status"}', '{"t":"status","state":"x"}', '{"t":"inventory"}', b"x"],
)
async def test_what_does_not_belong_on_a_control_lane_ends_it(bed: Bed, message: str | bytes) -> None:
    attachment = await bed.enrol().attach()

    await attachment.control.send(message)

    assert (await closing(attachment.control))[0] == CloseCode.PROTOCOL_ERROR


async def test_a_stampede_is_shaped(tmp_path: Path) -> None:
    async with running(tmp_path / "home", rate=3.0) as bed:
        machine = bed.enrol()
        dials = await asyncio.gather(*(machine.dial() for _ in range(10)), return_exceptions=True)
        refused = [error for error in dials if isinstance(error, InvalidStatus)]

    assert 6 <= len(refused) <= 7
    assert {error.response.status_code for error in refused} == {503}
    assert all(int(error.response.headers["retry-after"]) >= 1 for error in refused)


async def test_a_gateway_that_goes_says_so_and_takes_no_more_links(bed: Bed) -> None:
    machine = bed.enrol()
    attachment = await machine.attach()
    lane = await attachment.lane()
    await soon(lambda: bed.links.presence()[0].lanes_parked == 1)

    bed.links.go_away("restart", 2.0)

    assert await attachment.said() == {"t": "go_away", "reason": "restart", "delay": 2.0}
    assert (await closing(lane))[0] == CloseCode.RESTARTING
    with pytest.raises(InvalidStatus) as refused:
        await machine.dial()
    assert refused.value.response.status_code == 503
