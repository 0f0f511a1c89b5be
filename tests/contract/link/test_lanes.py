"""Exchanges over lanes: answers, refusals, losses, cancels and backpressure, as both sides see them."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from intertie.core.errors import (
    NodeBusy,
    NodeRefused,
    UpstreamError,
    UpstreamNoModel,
    UpstreamReset,
    UpstreamUnreachable,
)
from intertie.core.wire.link import PIECE, CloseCode
from intertie.dataplane.transport.link import LinkTransport
from tests.contract.link.bed import NODE, Bed, attached, closing, head, nothing, presence, say, soon, taken, whole


async def test_an_exchange_and_the_next_one_on_the_same_lane(bed: Bed) -> None:
    _, (lane,) = await attached(bed)
    for number in range(3):
        asking = asyncio.create_task(whole(bed, b'{"n":%d}' % number))
        opening, body = await taken(lane)
        assert opening == {
            "t": "open",
            "id": "req_1",
            "path": "/v1/chat/completions",
            "model": "m",
            "headers": {"content-type": "application/json", "accept": "text/event-stream"},
            "whole": False,
            "length": 7,
        }
        assert body == b'{"n":%d}' % number
        assert presence(bed).lanes_busy == 1
        await head(lane)
        await lane.send(b"data: 1\n\n")
        await lane.send(b"data: 2\n\n")
        await say(lane, "end")
        assert await asking == (200, b"data: 1\n\ndata: 2\n\n")
        await soon(lambda: presence(bed).lanes_parked == 1)


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 5 << 20])
async def test_a_body_of_any_size_comes_in_pieces(bed: Bed, size: int) -> None:
    _, (lane,) = await attached(bed)
    body = os.urandom(size)
    asking = asyncio.create_task(whole(bed, body))

    opening, received = await taken(lane)

    assert opening["length"] == size
    assert received == body
    await head(lane)
    await say(lane, "end")
    assert await asking == (200, b"")


async def test_an_answer_of_any_size_comes_whole_however_its_frames_are_cut(bed: Bed) -> None:
    _, (lane,) = await attached(bed)
    answer = os.urandom(3 << 20)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    await head(lane)
    at = 0
    while at < len(answer):
        size = random.choice([0, 1, 125, 126, 65535, 65536, 200_000])
        await lane.send(answer[at : at + size])
        at += size
    await say(lane, "end")
    assert await asking == (200, answer)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("busy", NodeBusy),
        ("not_serving", NodeBusy),
        ("draining", NodeBusy),
        ("of a newer agent", NodeBusy),
        ("no_model", UpstreamNoModel),
        ("policy", NodeRefused),
        ("runtime_gone", UpstreamUnreachable),
    ],
)
async def test_a_refusal_keeps_the_lane(bed: Bed, code: str, kind: type[UpstreamError]) -> None:
    _, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    await say(lane, "refused", code=code, message="because\r\nof it")
    with pytest.raises(kind) as caught:
        await asking
    assert "because" not in caught.value.public
    assert "\n" not in caught.value.detail
    await soon(lambda: presence(bed).lanes_parked == 1)
    assert not lane.close_code


async def test_a_runtime_that_breaks_midway_keeps_the_lane(bed: Bed) -> None:
    _, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    await head(lane)
    await lane.send(b"data: 1\n\n")
    await say(lane, "broken", code="runtime_gone", message="it fell over")
    with pytest.raises(UpstreamReset):
        await asking
    await soon(lambda: presence(bed).lanes_parked == 1)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_lost_lane_ends_its_exchange_only(bed: Bed, begun: bool) -> None:
    _, (one, other) = await attached(bed, lanes=2)
    asking = asyncio.create_task(whole(bed))
    also = asyncio.create_task(whole(bed))
    await taken(one)
    await taken(other)
    if begun:
        await head(one)
        await one.send(b"x")
    one.transport.abort()
    done, _ = await asyncio.wait({asking, also}, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(UpstreamReset):
        await done.pop()
    await head(other)
    await say(other, "end")
    results = await asyncio.gather(asking, also, return_exceptions=True)
    assert [result for result in results if not isinstance(result, UpstreamReset)] == [(200, b"")]


@pytest.mark.parametrize("begun", [False, True])
async def test_leaving_early_closes_the_lane_at_once(bed: Bed, begun: bool) -> None:
    _, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    if begun:
        await head(lane)
        await lane.send(b"x")
        await asyncio.sleep(0.05)
    at = asyncio.get_running_loop().time()
    asking.cancel()
    await closing(lane)
    assert asyncio.get_running_loop().time() - at < 0.25
    assert presence(bed).lanes_busy == 0


async def test_leaving_while_the_body_is_under_way_closes_the_lane(bed: Bed) -> None:
    _, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed, bytes(50 << 20)))
    await lane.recv()  # and no more, so that the body gets stuck
    await asyncio.sleep(0.1)
    assert not asking.done()
    asking.cancel()
    await closing(lane)
    await soon(lambda: presence(bed).lanes_busy == 0)


async def test_a_stream_whose_last_event_was_relayed_keeps_its_lane(bed: Bed) -> None:
    _, (lane,) = await attached(bed)

    async def ask() -> None:
        async with bed.transport.open(bed.request(), None, nothing) as wire:
            assert not await wire.pour(lambda piece: b"[DONE]" not in piece)

    asking = asyncio.create_task(ask())
    await taken(lane)
    await head(lane)
    await lane.send(b"data: [DONE]\n\n")
    await asking
    assert presence(bed).lanes_busy == 1, "its end is still to come"
    await lane.send(b"\n")
    await say(lane, "end")
    await soon(lambda: presence(bed).lanes_parked == 1)


async def test_a_node_that_goes_on_after_the_end_of_a_stream_loses_the_lane(bed: Bed) -> None:
    _, (lane,) = await attached(bed)

    async def ask() -> None:
        async with bed.transport.open(bed.request(), None, nothing) as wire:
            assert await wire.chunk()

    asking = asyncio.create_task(ask())
    await taken(lane)
    await head(lane)
    await lane.send(b"data: [DONE]\n\n")
    await asking
    with suppress(ConnectionClosed):
        for _ in range(10):
            await lane.send(bytes(PIECE))
    assert (await closing(lane))[0] == CloseCode.PROTOCOL_ERROR


async def test_a_slow_reader_holds_up_its_own_lane_only(bed: Bed) -> None:
    _, (slow, fast) = await attached(bed, lanes=2)
    context = bed.transport.open(bed.request(), None, nothing)
    entering = asyncio.create_task(context.__aenter__())
    await taken(fast)  # the lane parked last comes first
    await head(fast)
    wire = await entering
    sent = 0

    async def pump() -> None:
        nonlocal sent
        while True:
            await fast.send(bytes(PIECE))
            sent += PIECE

    pumping = asyncio.create_task(pump())
    await asyncio.sleep(0.3)
    stuck = sent
    await asyncio.sleep(0.2)
    assert sent == stuck, "the node is held up"
    assert stuck < 16 << 20

    asking = asyncio.create_task(whole(bed))
    await taken(slow)
    await head(slow)
    await say(slow, "end")
    assert await asking == (200, b""), "the other lane is not"

    while sent == stuck:
        assert await wire.chunk()
    pumping.cancel()
    await context.__aexit__(asyncio.CancelledError, None, None)


async def test_calls_wait_in_line_and_the_node_is_asked_for_lanes(bed: Bed) -> None:
    attachment, _ = await attached(bed, lanes=0, slots=2)
    asking = [asyncio.create_task(whole(bed, b"%d" % number)) for number in range(3)]
    assert await attachment.said() == {"t": "want", "lanes": 2}
    lanes = [await attachment.lane(), await attachment.lane()]
    assert sorted([(await taken(lane))[1] for lane in lanes]) == [b"0", b"1"]
    await attachment.lane()
    await asyncio.sleep(0.05)
    assert presence(bed).lanes_parked == 1, "more lanes are no more slots"
    for lane in lanes:
        await head(lane)
        await say(lane, "end")
    await asyncio.wait(asking[:2])
    done, _ = await asyncio.wait(asking, timeout=0.1)
    assert len(done) == 2, "the third is at the node now"
    asking[2].cancel()


async def test_patience_ends(bed: Bed) -> None:
    await attached(bed, lanes=0, slots=2)
    bed.transport = LinkTransport(bed.links, 0.2)
    at = asyncio.get_running_loop().time()
    with pytest.raises(NodeBusy):
        await whole(bed)
    assert 0.15 < asyncio.get_running_loop().time() - at < 2


async def test_the_line_is_short(bed: Bed) -> None:
    await attached(bed, lanes=0, slots=1)
    bed.transport = LinkTransport(bed.links, 0.3)
    asking = [asyncio.create_task(whole(bed)) for _ in range(30)]
    await asyncio.sleep(0.1)
    refused = [task for task in asking if task.done()]
    assert len(refused) == 30 - (2 + 16)
    await asyncio.gather(*asking, return_exceptions=True)


async def test_a_node_that_is_away_is_not_waited_for(bed: Bed) -> None:
    with pytest.raises(NodeBusy):
        await whole(bed)


async def test_lanes_beyond_the_slots_are_turned_away(bed: Bed) -> None:
    attachment, _ = await attached(bed, lanes=7, slots=1)
    extra = await attachment.lane()
    assert (await closing(extra))[0] == CloseCode.TOO_BUSY


@pytest.mark.parametrize("ticket", ["", "x", "node_rig.1.9999999999.x", "a.b.c.d", "\xff"])
async def test_a_lane_needs_a_ticket(bed: Bed, ticket: str) -> None:
    attachment, _ = await attached(bed, lanes=0)
    if not ticket:
        with pytest.raises(InvalidStatus) as refused:
            await attachment.lane("")
        assert refused.value.response.status_code == 401
        return
    lane = await attachment.lane(ticket)
    assert (await closing(lane))[0] == CloseCode.TICKET


async def test_a_ticket_ends_with_its_control_lane(bed: Bed) -> None:
    attachment, (lane,) = await attached(bed)
    await attachment.control.close()
    assert (await closing(lane))[0] == CloseCode.NORMAL
    assert (await closing(await attachment.lane()))[0] == CloseCode.TICKET


async def test_a_running_stream_outlives_the_control_lane(bed: Bed) -> None:
    attachment, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    await head(lane)
    await attachment.control.close()
    await soon(lambda: not bed.links.presence())
    await lane.send(b"x")
    await say(lane, "end")
    assert await asking == (200, b"x")
    assert (await closing(lane))[0] == CloseCode.NORMAL


async def test_revocation_breaks_what_runs(bed: Bed) -> None:
    _, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    await bed.set_state(NODE, "revoked")
    with pytest.raises(UpstreamReset):
        await asking
    assert (await closing(lane))[0] == CloseCode.REVOKED


async def test_a_gateway_that_goes_lets_streams_finish(bed: Bed) -> None:
    _, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    bed.links.go_away("restart", 2.0)
    await head(lane)
    await lane.send(b"x")
    await say(lane, "end")
    assert await asking == (200, b"x")
    assert (await closing(lane))[0] == CloseCode.RESTARTING
