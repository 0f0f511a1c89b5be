"""Who is connected, who gets a lane, and what a node can take: without a socket and on a clock of our own."""

from __future__ import annotations

import asyncio

import pytest

from intertie.core.errors import Misconfigured, NodeBusy
from intertie.core.wire.http import WireRequest
from intertie.core.wire.link import SPARE, TICKET_SECONDS, CloseCode
from intertie.core.wire.websocket import Opcode
from intertie.dataplane.transport.attached import EXTRA_LANES, MOST_PARKED, MOST_SLOTS
from intertie.dataplane.transport.link import Introduction, LinkTransport
from intertie.dataplane.transport.wired import Farewell
from tests.unit.dataplane.transport.far_end import FarEnd, turn
from tests.unit.dataplane.transport.site import UPSTREAM, Control, Site, finish, node, snapshot, take

# -- lanes -----------------------------------------------------------------------------------------------------------


async def test_the_lane_parked_last_is_taken_first() -> None:
    site = Site()
    first, second = site.lane(), site.lane()
    assert await take(site) is second.near
    assert await take(site) is first.near


async def test_calls_wait_in_order_and_the_node_is_asked_once_for_what_it_may_open() -> None:
    site = Site(slots=2)
    waiting = [asyncio.create_task(take(site)) for _ in range(3)]
    await turn()
    assert site.far.heard() == [{"t": "want", "lanes": 2}]
    lanes = [site.lane(), site.lane(), site.lane()]
    await turn()
    assert [task.done() for task in waiting] == [True, True, False], "slots, not lanes, bound the exchanges"
    assert waiting[0].result() is lanes[0].near
    await finish(waiting[0].result(), lanes[0])
    assert await waiting[2] in (lanes[0].near, lanes[2].near)


async def test_a_caller_who_leaves_the_line_loses_no_lane() -> None:
    site = Site()
    waiting = asyncio.create_task(take(site))
    await turn()
    far = site.lane()  # handed over, but the caller leaves before it can run
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert site.attached.presence().lanes_parked == 1
    assert await take(site) is far.near


async def test_those_who_wait_are_told_when_the_link_ends() -> None:
    site = Site()
    waiting = asyncio.create_task(take(site))
    await turn()
    site.links.detach(site.attached.control)
    with pytest.raises(NodeBusy):
        await waiting
    with pytest.raises(NodeBusy):
        await take(site)


async def test_a_lane_that_dies_while_parked_is_not_handed_out() -> None:
    site = Site()
    alive, dead = site.lane(), site.lane()
    dead.leave()
    assert await take(site) is alive.near


async def test_a_lane_that_dies_while_busy_frees_its_slot() -> None:
    site = Site(slots=1)
    dying, other = site.lane(), site.lane()
    lane = await take(site)
    waiting = asyncio.create_task(take(site))
    await turn()
    assert not waiting.done()
    (dying if lane is dying.near else other).leave()
    assert await waiting is not lane


async def test_a_node_has_no_more_lanes_than_it_needs() -> None:
    site = Site(slots=1)
    lanes = [site.lane() for _ in range(1 + SPARE + EXTRA_LANES + 1)]
    assert [lane.told for lane in lanes] == [0] * (len(lanes) - 1) + [CloseCode.TOO_BUSY]


async def test_a_node_that_claims_to_be_large_may_not_hold_thousands_of_connections() -> None:
    site = Site(slots=MOST_SLOTS)
    lanes = [site.lane() for _ in range(MOST_PARKED + 1)]
    assert [lane.told for lane in lanes] == [0] * MOST_PARKED + [CloseCode.TOO_BUSY]
    await take(site)
    assert site.lane().told == 0, "busy ones count for themselves"


# -- tickets ---------------------------------------------------------------------------------------------------------


async def test_a_ticket_is_good_for_its_time_and_renewed_at_half_of_it() -> None:
    site = Site()
    ticket = site.links.ticket(site.attached)
    for _ in range(int(TICKET_SECONDS) - 1):
        site.pass_time(1)
        site.far.frame(Opcode.PONG)
    assert site.lane(ticket).told == 0
    assert [message["t"] for message in site.far.heard()] == ["ticket"]
    site.pass_time(2)
    assert site.lane(ticket).told == CloseCode.TICKET


async def test_a_ticket_belongs_to_a_node_an_epoch_and_a_process() -> None:
    site = Site()
    old = site.links.ticket(site.attached)
    assert site.lane(Site().links.ticket(site.attached)).told == CloseCode.TICKET
    site.attached, _ = site.attach(2)
    assert site.lane(old).told == CloseCode.TICKET
    assert isinstance(site.links.lane(old), Farewell)


# -- who is there ----------------------------------------------------------------------------------------------------


async def test_the_newest_instance_wins_and_an_older_one_never_comes_back() -> None:
    site = Site(epoch=2)
    lane = site.lane()
    _, newer = site.attach(3)
    assert site.far.told == lane.told == CloseCode.SUPERSEDED
    late = Control(site.links)
    FarEnd(late)
    assert site.links.attach(Introduction("n", "o", 2, "i2"), late) is None
    assert site.links.detach(site.attached.control) is None, "it was not the node's link any more"
    assert newer.told == 0
    assert [presence.epoch for presence in site.links.presence()] == [3]


async def test_what_runs_is_counted_to_its_end_wherever_it_began() -> None:
    site = Site()
    far = site.lane()
    lane = await take(site)
    assert (site.links.nodes, site.links.busy) == (1, 1)
    site.attach(2)
    assert (site.links.nodes, site.links.busy) == (1, 1)
    site.links.sweep(site.clock.now)
    await finish(lane, far)
    assert (site.links.nodes, site.links.busy) == (1, 0)


async def test_what_runs_on_the_old_instance_may_finish() -> None:
    site = Site()
    far = site.lane()
    lane = await take(site)
    site.attach(2)
    assert far.told == 0
    await finish(lane, far)
    assert far.told == CloseCode.SUPERSEDED


async def test_a_node_that_is_not_in_the_snapshot_is_closed_with_all_its_lanes() -> None:
    site = Site()
    far = site.lane()
    busy = site.lane()
    await take(site)
    site.links.reconcile(snapshot(node()))
    assert not site.far.told
    site.links.reconcile(snapshot())
    assert site.far.told == far.told == busy.told == CloseCode.REVOKED


async def test_an_operators_change_is_told_and_counts_at_once() -> None:
    site = Site(slots=4)
    site.links.reconcile(snapshot(node()))
    assert site.far.heard() == []
    site.links.reconcile(snapshot(node(slots=1)))
    assert site.far.heard() == [{"t": "settings", "drained": False, "slots": 1}]
    assert site.attached.slots == 1
    first, _ = site.lane(), site.lane()
    await take(site)
    waiting = asyncio.create_task(take(site))
    await turn()
    assert not waiting.done()
    site.links.reconcile(snapshot(node(slots=2)))
    assert await waiting is first.near


async def test_a_gateway_that_goes_lets_go_of_what_is_free() -> None:
    site = Site()
    free = site.lane()
    busy = site.lane()
    lane = await take(site)
    site.links.go_away("restart", 2.0)
    assert site.far.heard() == [{"t": "go_away", "reason": "restart", "delay": 2.0}]
    assert free.told == CloseCode.RESTARTING
    await finish(lane, busy)
    assert busy.told == CloseCode.RESTARTING
    assert site.links.going


async def test_asking_for_a_new_key() -> None:
    site = Site()
    assert site.links.ask_rotation("n")
    assert site.far.heard() == [{"t": "rotate"}]
    assert not site.links.ask_rotation("somebody else")


async def test_a_held_up_process_blames_nobody() -> None:
    site = Site()
    site.pass_time(1)
    site.clock.now += 100
    for one in (site.attached.control,):
        one.spare(100)
    site.links.sweep(site.clock.now)
    assert not site.far.wire.aborted


# -- the transport ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://a/v1", "link:", "link:n", "link:/v1"])
async def test_only_links_are_spoken(url: str) -> None:
    with pytest.raises(Misconfigured):
        await LinkTransport(Site().links, 1.0).open(WireRequest(url, {}, b""), None, lambda: None).__aenter__()


async def test_nothing_of_the_caller_but_two_headers_goes_along() -> None:
    site = Site()
    far = site.lane()
    headers = {"content-type": "a", "accept": "b", "authorization": "Bearer x", "x-team": "y"}
    told = {"x-intertie-model": "m", "x-intertie-request": "req_1", "x-intertie-whole": "true"}
    request = WireRequest("link:n/v1/chat/completions", {**headers, **told}, b"{}")
    entering = asyncio.create_task(LinkTransport(site.links, 1.0).open(request, None, lambda: None).__aenter__())
    await turn()
    (opening,) = far.heard()
    assert opening == {
        "t": "open",
        "id": "req_1",
        "path": "/v1/chat/completions",
        "model": "m",
        "headers": {"content-type": "a", "accept": "b"},
        "whole": True,
        "length": 2,
    }
    far.say("refused", code="busy", message="")
    with pytest.raises(NodeBusy):
        await entering
    assert site.attached.presence().lanes_parked == 1
    assert site.links.room(UPSTREAM, node(), "m").free == 0
