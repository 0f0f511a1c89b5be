"""Who is connected, who gets a lane, and what a node can take: without a socket and on a clock of our own."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

import pytest

from intertie.core.errors import Misconfigured, NodeBusy
from intertie.core.terms import ModelFacts, Node, Snapshot, Upstream
from intertie.core.wire.http import WireRequest
from intertie.core.wire.link import SPARE, TICKET_SECONDS, CloseCode, Violation
from intertie.core.wire.websocket import Opcode
from intertie.dataplane.transport.attached import EXTRA_LANES, FULL_SECONDS, Attached
from intertie.dataplane.transport.lane import Lane
from intertie.dataplane.transport.link import Introduction, Links, LinkTransport
from intertie.dataplane.transport.wired import Farewell, Wired
from tests.unit.dataplane.transport.far_end import Clock, FarEnd, turn

UPSTREAM = Upstream("n", "o", "rig", "node", "")


class Control(Wired):
    """A control lane that has been let in."""

    def __init__(self, links: Links) -> None:
        self._wire(links)

    def data_received(self, data: bytes) -> None:
        self.heard = True


class Site:
    """Links with one node."""

    def __init__(self, slots: int = 2, epoch: int = 1) -> None:
        self.clock = Clock()
        self.links = Links(clock=self.clock, wall=lambda: 43_380.0)
        self.attached, self.far = self.attach(epoch)
        self.attached.offer(slots)

    def attach(self, epoch: int) -> tuple[Attached, FarEnd]:
        control = Control(self.links)
        far = FarEnd(control)
        attached = self.links.attach(Introduction("n", "o", epoch, f"i{epoch}"), control)
        assert attached is not None
        return attached, far

    def lane(self, ticket: str | None = None) -> FarEnd:
        return FarEnd(self.links.lane(self.links.ticket(self.attached) if ticket is None else ticket))

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            self.links.sweep(self.clock.now)


def node(**more: object) -> Node:
    facts = {
        "m": ModelFacts("m", decode=40.0),
        "cold": ModelFacts("cold", loaded=False),
        "one": ModelFacts("one", slots=1),
    }
    return Node("n", "o", "rig", models=MappingProxyType(facts), **more)  # type: ignore[arg-type]


def snapshot(*nodes: Node) -> Snapshot:
    return Snapshot(nodes=MappingProxyType({(one.organisation, one.name): one for one in nodes}))


async def take(site: Site, model: str = "m", patience: float = 60.0) -> Lane:
    return await site.attached.take(model, patience)


async def finish(lane: Lane, far: FarEnd) -> None:
    await lane.ask({}, b"", lambda: None)
    far.head()
    far.say("end")
    lane.release(proper=True)


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


# -- room ------------------------------------------------------------------------------------------------------------


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
