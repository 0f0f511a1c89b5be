"""A data lane, message by message: what becomes of each thing a node may say, and of those it may not."""

from __future__ import annotations

import asyncio

import pytest

from intertie.core.errors import UpstreamInvalid, UpstreamReset
from intertie.core.wire.http import Head
from intertie.core.wire.link import PIECE, CloseCode
from intertie.core.wire.websocket import BINARY, TEXT, Opcode, encode
from intertie.dataplane.transport.inbox import HIGH_WATER
from intertie.dataplane.transport.lane import MOST_BEHIND, WIND_UP_SECONDS, Lane
from intertie.dataplane.transport.wired import Wired
from tests.unit.dataplane.transport.far_end import MASK, Clock, FarEnd, turn


class House:
    """Where lanes belong and who watches them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.parked: list[Lane] = []

    def park(self, lane: Lane) -> None:
        self.parked.append(lane)

    def lost(self, lane: Lane) -> None:
        if lane in self.parked:
            self.parked.remove(lane)

    def now(self) -> float:
        return self.clock.now

    def watch(self, one: Wired) -> None:
        """It would be looked at from now on."""

    def forget(self, one: Wired) -> None:
        """Not any more."""


def nothing() -> None:
    """Nobody asks whether it was sent."""


def parked() -> tuple[House, Lane, FarEnd]:
    house = House()
    lane = Lane(house, house)
    far = FarEnd(lane)
    assert house.parked == [lane]
    return house, lane, far


async def asked(body: bytes = b"{}") -> tuple[House, Lane, FarEnd]:
    house, lane, far = parked()
    house.parked.clear()
    await lane.ask({"id": "r", "path": "/v1/x"}, body, nothing)
    return house, lane, far


async def test_a_request_is_one_message_and_its_body_in_pieces() -> None:
    _, _, far = await asked(b"x" * (PIECE + 1))

    assert far.heard() == [{"t": "open", "id": "r", "path": "/v1/x", "length": PIECE + 1}]
    assert far.count(BINARY) == 2
    assert far.body() == b"x" * (PIECE + 1)


async def test_whether_it_was_sent_is_known_before_the_body_is_through() -> None:
    _, lane, far = parked()
    sent: list[bool] = []
    lane.pause_writing()
    asking = asyncio.create_task(lane.ask({}, b"x" * 3 * PIECE, lambda: sent.append(True)))
    await turn()
    assert sent
    assert not asking.done()
    assert far.count(BINARY) == 1, "the node takes no more for now"
    lane.resume_writing()
    await asking
    assert far.count(BINARY) == 3


async def test_an_answer_pours_in_the_callback_that_brings_it() -> None:
    _, lane, far = await asked()
    far.head(content_type="x")
    assert await lane.head() == Head(200, {})
    got: list[bytes] = []

    def take(piece: bytes) -> bool:
        got.append(piece)
        return True

    pouring = asyncio.create_task(lane.pour(take))
    await turn()
    far.piece(b"a")
    assert got == [b"a"], "no turn of the loop in between"
    lane.data_received(encode(BINARY, b"b", MASK) + encode(BINARY, b"c", MASK) + encode(TEXT, b'{"t":"end"}', MASK))
    assert got == [b"a", b"bc"]
    assert await pouring
    assert lane.usable


async def test_only_headers_that_the_gateway_reads_are_kept_and_never_a_length() -> None:
    _, lane, far = await asked()
    far.say(
        "head", status=503, headers={"Content-Type": "a", "Retry-After": "3", "content-length": "9", "set-cookie": 1}
    )
    assert await lane.head() == Head(503, {"content-type": "a", "retry-after": "3"})


async def test_a_lane_goes_back_when_its_exchange_is_over() -> None:
    house, lane, far = await asked()
    far.head()
    far.piece(b"never read")
    far.say("end")
    lane.release(proper=True)
    assert house.parked == [lane]
    await lane.ask({}, b"", nothing)
    far.head()
    far.say("end")
    assert await lane.whole(10) == b"", "nothing is left of the last answer"


async def test_leaving_early_closes() -> None:
    _, lane, far = await asked()
    far.head()
    lane.release(proper=False)
    assert far.told == CloseCode.NORMAL
    assert far.wire.ended


async def test_leaving_while_the_body_is_stuck_aborts() -> None:
    _, lane, far = await asked()
    far.wire.unsent = 1
    lane.release(proper=False)
    assert far.wire.aborted


async def test_the_end_of_a_relayed_stream_is_awaited_but_not_for_long() -> None:
    house, lane, far = await asked()
    far.head()
    lane.release(proper=True)
    assert not house.parked
    far.piece(b"\n")
    far.say("end")
    assert house.parked == [lane]

    house, lane, far = await asked()
    far.head()
    lane.release(proper=True)
    house.clock.now += WIND_UP_SECONDS + 1
    lane.look(house.clock.now)
    assert far.told == CloseCode.NORMAL

    house, lane, far = await asked()
    far.head()
    lane.release(proper=True)
    far.piece(bytes(MOST_BEHIND + 1))
    assert far.told == CloseCode.PROTOCOL_ERROR


async def test_a_slow_reader_pauses_its_lane_which_is_not_silence() -> None:
    house, lane, far = await asked()
    far.head()
    far.piece(bytes(HIGH_WATER + 1))
    assert not far.wire.reading
    for _ in range(100):
        house.clock.now += 1
        lane.look(house.clock.now)
    assert not far.wire.aborted
    assert await lane.chunk()
    assert far.wire.reading


@pytest.mark.parametrize("begun", [False, True])
async def test_a_lost_lane_ends_its_exchange(begun: bool) -> None:
    _, lane, far = await asked()
    if begun:
        far.head()
    waiting = asyncio.create_task(lane.chunk())
    await turn()
    far.leave(ConnectionResetError("reset"))
    with pytest.raises(UpstreamReset):
        await waiting
    assert not lane.usable


async def test_why_the_node_left_is_known() -> None:
    _, lane, far = await asked()
    far.frame(Opcode.CLOSE, b"\x03\xe9the owner\r\nis back")
    with pytest.raises(UpstreamReset) as caught:
        await lane.head()
    assert caught.value.detail == "closed with 1001 the owneris back"


async def test_what_was_received_before_the_loss_is_still_delivered() -> None:
    _, lane, far = await asked()
    far.head()
    far.piece(b"x")
    far.leave()
    assert await lane.chunk() == b"x"
    with pytest.raises(UpstreamReset):
        await lane.chunk()


async def test_a_sink_that_fails_fails_its_own_task() -> None:
    _, lane, far = await asked()
    far.head()

    def fail(_: bytes) -> bool:
        raise ZeroDivisionError

    pouring = asyncio.create_task(lane.pour(fail))
    await turn()
    far.piece(b"x")
    with pytest.raises(ZeroDivisionError):
        await pouring


async def test_empty_pieces_are_not_heaped_up() -> None:
    _, lane, far = await asked()
    far.head()
    for _ in range(1000):
        far.piece(b"")
    far.say("end")
    assert await lane.chunk() is None


async def test_a_silent_lane_is_asked_and_then_dropped() -> None:
    house, lane, far = await asked()
    lane.look(house.clock.now)
    for _ in range(15):
        house.clock.now += 1
        lane.look(house.clock.now)
    assert far.count(Opcode.PING) == 1
    for _ in range(25):
        house.clock.now += 1
        lane.look(house.clock.now)
    assert far.wire.aborted
    with pytest.raises(UpstreamReset):
        await lane.head()


async def test_any_sign_of_life_counts() -> None:
    house, lane, far = parked()
    for _ in range(10):
        house.clock.now += 14
        lane.look(house.clock.now)
        far.frame(Opcode.PONG)
    assert not far.wire.aborted
    far.frame(Opcode.PING, b"hello")
    assert far.count(Opcode.PONG) == 1


async def test_a_flood_of_pings_ends_the_lane() -> None:
    _, _, far = parked()
    for _ in range(100):
        far.frame(Opcode.PING)
    assert far.told == CloseCode.PROTOCOL_ERROR


async def test_a_peer_that_does_not_go_is_dropped() -> None:
    house, lane, far = parked()
    lane.close(CloseCode.REVOKED)
    for _ in range(5):
        far.piece(b"deaf")
        house.clock.now += 1
        lane.look(house.clock.now)
    assert far.wire.aborted


async def test_an_invalid_answer_is_called_so() -> None:
    _, lane, far = await asked()
    far.piece(b"before a head")
    with pytest.raises(UpstreamInvalid):
        await lane.head()
    assert far.told == CloseCode.PROTOCOL_ERROR
