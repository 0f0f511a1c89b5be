"""What a connected node can take, by what it said of itself and what runs on it."""

from __future__ import annotations

import asyncio

import pytest

from intertie.core.wire.link import Violation
from intertie.core.wire.websocket import Opcode
from intertie.dataplane.transport.attached import FULL_SECONDS
from intertie.dataplane.transport.wired import MOST_UNREAD
from tests.unit.dataplane.transport.far_end import turn
from tests.unit.dataplane.transport.site import UPSTREAM, Site, node, snapshot, take


async def test_room_is_slots_minus_what_runs_and_waits() -> None:
    site = Site(slots=3)
    room = site.links.room(UPSTREAM, node(), "m")
    assert (room.open, room.free, room.slots, room.warm, room.decode) == (True, 3, 3, True, 40.0)
    site.lane()
    await take(site)
    waiting = asyncio.create_task(take(site))
    await turn()
    assert site.links.room(UPSTREAM, node(), "m").free == 1
    waiting.cancel()
    await turn()
    assert site.links.room(UPSTREAM, node(), "cold").warm is False
    assert site.links.room(UPSTREAM, node(), "unheard of").free == 2


async def test_a_model_may_have_fewer_slots_than_its_machine() -> None:
    site = Site(slots=3)
    assert site.links.room(UPSTREAM, node(), "one").free == 1
    site.lane()
    await take(site, "one")
    assert site.links.room(UPSTREAM, node(), "one").free == 0
    assert site.links.room(UPSTREAM, node(), "m").free == 2


async def test_a_node_that_was_busy_after_all_is_full_for_a_moment() -> None:
    site = Site()
    site.attached.refused_as_busy()
    assert site.links.room(UPSTREAM, node(), "m").free == 0
    site.clock.now += FULL_SECONDS
    assert site.links.room(UPSTREAM, node(), "m").free == 2


async def test_every_closed_state_has_a_reason() -> None:
    site = Site()
    links = site.links
    assert links.room(UPSTREAM, node(drained=True), "m").reason == "an operator drains it"
    for state in ("idle_wait", "yielding", "paused", "draining"):
        site.attached.heard_status({"state": state})
        room = links.room(UPSTREAM, node(), "m")
        assert not room.open
        assert room.reason
        assert room.free == 0
    site.attached.heard_status({"state": "paused", "reason": "game\nnight", "in_flight": 1, "queue": 2})
    assert links.room(UPSTREAM, node(), "m").reason == "gamenight"
    presence = site.attached.presence()
    assert (presence.serving, presence.reason, presence.in_flight, presence.queue) == ("paused", "gamenight", 1, 2)
    site.attached.heard_status({"state": "serving"})
    assert links.room(UPSTREAM, node(), "m").open
    site.attached.leaving = True
    assert links.room(UPSTREAM, node(), "m").reason == "its agent is about to leave"
    links.detach(site.attached.control)
    assert links.room(UPSTREAM, node(), "m").reason == "offline since 12:03 UTC"
    links.reconcile(snapshot())
    assert links.room(UPSTREAM, node(), "m").reason == "offline"


async def test_a_node_whose_link_misses_a_pong_gets_no_new_work() -> None:
    site = Site()
    site.pass_time(1)
    site.pass_time(16)
    assert site.far.count(Opcode.PING) == 1
    assert site.links.room(UPSTREAM, node(), "m").open
    site.pass_time(6)
    assert site.links.room(UPSTREAM, node(), "m").reason == "its link does not answer"
    site.far.frame(Opcode.PONG)
    assert site.links.room(UPSTREAM, node(), "m").open


@pytest.mark.parametrize("slots", [None, "4", True, -1, 10_000_000])
async def test_a_number_of_slots_that_is_none(slots: object) -> None:
    with pytest.raises(Violation):
        Site().attached.offer(slots)


async def test_operators_are_shown_no_number_that_cannot_be() -> None:
    site = Site()
    for said in (
        {"in_flight": 10**300, "queue": 10**300, "idle_seconds": float("inf")},
        {"in_flight": -1, "queue": -1},
    ):
        site.attached.heard_status({"state": "serving", **said})
        presence = site.attached.presence()
        assert 0 <= presence.in_flight <= 1_000_000
        assert presence.queue is not None
        assert 0 <= presence.queue <= 1_000_000
        assert presence.idle_seconds is None


async def test_a_node_that_does_not_read_what_it_is_told_is_let_go() -> None:
    site = Site()
    site.far.wire.unsent = MOST_UNREAD + 1
    site.links.ask_rotation("n")
    assert site.far.wire.aborted
