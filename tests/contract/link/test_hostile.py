"""A node that breaks the protocol, or leaves and comes in the wrong moments, harms its own lane at most."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from intertie.core.errors import UpstreamError, UpstreamInvalid
from intertie.core.wire.link import CloseCode
from intertie.core.wire.websocket import BINARY, TEXT, encode
from tests.contract.link.bed import Bed, attached, closing, head, presence, say, soon, taken, whole


@pytest.mark.parametrize(
    "said",
    [
        '{"t":"head","status":200,"headers":{}}',
        '{"t":"end"}',
        '{"t":"refused","code":"busy","message":""}',
        '{"t":"open"}',
        "nonsense",
        b"a piece",
    ],
)
async def test_a_parked_lane_says_nothing(bed: Bed, said: str | bytes) -> None:
    _, (lane,) = await attached(bed)
    await lane.send(said)
    assert (await closing(lane))[0] == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "said",
    [
        '{"t":"head","status":"200","headers":{}}',
        '{"t":"head","status":101,"headers":{}}',
        '{"t":"head","status":true,"headers":{}}',
        '{"t":"head","status":200}',
        '{"t":"head","status":200,"headers":{"content-type":1}}',
        '{"t":"head","status":200,"headers":[]}',
        '{"t":"end"}',
        '{"t":"broken","code":"busy","message":""}',
        '{"t":"want","lanes":1}',
        b"a piece",
    ],
)
async def test_an_answer_that_cannot_be_one_is_invalid(bed: Bed, said: str | bytes) -> None:
    _, (lane,) = await attached(bed)
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    await lane.send(said)
    with pytest.raises(UpstreamInvalid):
        await asking
    assert (await closing(lane))[0] == CloseCode.PROTOCOL_ERROR


async def test_fuzzed_frames_end_a_lane_and_nothing_else(bed: Bed) -> None:
    attachment, _ = await attached(bed, lanes=0)
    chance = random.Random(7)
    good = [
        encode(TEXT, b'{"t":"head","status":200,"headers":{}}', b"abcd"),
        encode(BINARY, b"x" * 300, b"\0\0\0\0"),
        encode(TEXT, b'{"t":"end"}', b"wxyz"),
    ]
    for _ in range(60):
        lane = await attachment.lane()
        await soon(lambda: presence(bed).lanes_parked >= 1)
        asking = asyncio.create_task(whole(bed))
        await taken(lane)
        garbled = bytearray(b"".join(chance.choices(good, k=4)))
        for _ in range(chance.randrange(1, 6)):
            garbled[chance.randrange(len(garbled))] = chance.randrange(256)
        lane.transport.write(bytes(garbled) if chance.random() < 0.8 else chance.randbytes(64))
        await asyncio.sleep(0)
        lane.transport.close()
        with suppress(UpstreamError):
            await asking
        await soon(lambda: presence(bed).lanes_busy == 0)
    lane = await attachment.lane()
    asking = asyncio.create_task(whole(bed))
    await taken(lane)
    await head(lane)
    await say(lane, "end")
    assert await asking == (200, b"")


async def test_random_cancels_leave_no_busy_slot(bed: Bed) -> None:
    attachment, _ = await attached(bed, lanes=0, slots=8)
    chance = random.Random(3)

    async def serve(lane: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await taken(lane)
                await head(lane)
                for _ in range(5):
                    await lane.send(b"data: x\n\n")
                    await asyncio.sleep(0.001)
                await say(lane, "end")

    serving: set[asyncio.Task[None]] = set()

    async def provide() -> None:
        with suppress(ConnectionClosed):
            while True:
                message = json.loads(await attachment.control.recv())
                for _ in range(message.get("lanes", 0)):
                    task = asyncio.create_task(serve(await attachment.lane()))
                    serving.add(task)
                    task.add_done_callback(serving.discard)

    providing = asyncio.create_task(provide())

    async def ask() -> None:
        asking = asyncio.create_task(whole(bed))
        await asyncio.sleep(chance.random() * 0.01)
        asking.cancel()
        with suppress(asyncio.CancelledError, UpstreamError):
            await asking

    for _ in range(15):
        await asyncio.gather(*(ask() for _ in range(20)))
    await soon(lambda: presence(bed).lanes_busy == 0)
    assert bed.slots() == 8
    providing.cancel()
    await attachment.control.close()
    await soon(lambda: not serving)
