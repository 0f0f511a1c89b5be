"""The agent's end of the link against somebody else's WebSocket library."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from intertie.agent.keys import SigningKey, encode, verify
from intertie.core.wire.enrolment import rotate_message
from intertie.core.wire.link import CloseCode, Serving
from tests.support.far_end import FarEnd, linked, runtime, unpack
from tests.support.scripted import ScriptedUpstream, soon


async def test_the_node_proves_itself_and_parks_its_spare_lanes(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [runtime(server.origin)]) as bed:
        bed.link.tell_inventory({"revision": 1, "models": []})
        bed.link.tell_status(Serving.SERVING, "", idle_seconds=3)
        assert await soon(lambda: far.living == 2 and len(far.said) == 2, 5)
        state = bed.link.state
        assert (state.connected, state.node_name, state.epoch, state.lanes_parked) == (True, "rig", 1, 2)
        assert verify(bed.who.signer.public, far.proofs[0], unpack(far.auths[0]["signature"]))
        assert {lane.ticket for lane in far.lanes} == {"Bearer ticket-1"}
        assert far.told("inventory") == [{"t": "inventory", "revision": 1, "models": []}]
        status = far.told("status")[0]
        assert (status["state"], status["in_flight"], status["idle_seconds"]) == ("serving", 0, 3)
    assert await soon(lambda: far.living == 0, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": encode(SigningKey.generate().public)},
        {"signature": encode(bytes(64))},
        {"connection": "another"},
        {"time": 2},
        {"nonce": encode(bytes(32))},
    ],
)
async def test_a_challenge_that_is_not_the_gateways_is_not_answered(far: FarEnd, wrong: dict[str, object]) -> None:
    far.challenge = wrong
    async with linked(far, []) as bed:
        assert await soon(lambda: "not the gateway" in bed.link.state.say, 5)
        assert far.auths == []


async def test_a_gateway_that_passes_on_anothers_challenge_is_noticed(far: FarEnd) -> None:
    """The origin that was dialled is signed, so a gateway in the middle cannot lend its face."""
    async with linked(far, [], link=far.url.replace("127.0.0.1", "localhost")) as bed:
        assert await soon(lambda: "not the gateway" in bed.link.state.say, 5)
        assert far.auths == []


async def test_an_unknown_protocol_stops_the_node_until_somebody_acts(far: FarEnd) -> None:
    far.challenge = {"protocols": [2]}
    async with linked(far, []) as bed:
        assert await soon(lambda: bed.link.state.stopped, 5)


@pytest.mark.parametrize(
    ("code", "stopped", "pending"),
    [
        (CloseCode.REVOKED, True, False),
        (CloseCode.PENDING, False, True),
        (CloseCode.DUPLICATE, True, False),
        (CloseCode.SUPERSEDED, False, False),
        (CloseCode.AUTH_FAILED, False, False),
    ],
)
async def test_close_codes_have_their_reactions(far: FarEnd, code: CloseCode, stopped: bool, pending: bool) -> None:
    async def close(_: FarEnd, socket: ServerConnection) -> bool:
        await socket.close(code, "because")
        return False

    far.greet = close
    async with linked(far, []) as bed:
        assert await soon(lambda: bed.link.state.say not in {"", "Not connected yet."}, 5)
        state = bed.link.state
        assert (state.connected, state.stopped, state.pending) == (False, stopped, pending)
        await asyncio.sleep(0.2)
        assert len(far.controls) == 1
        assert bed.who.retries == (code is CloseCode.AUTH_FAILED)


async def test_a_refused_key_is_tried_again_at_once_if_another_waits(far: FarEnd) -> None:
    async def close(far: FarEnd, socket: ServerConnection) -> bool:
        if len(far.controls) == 1:
            await socket.close(CloseCode.AUTH_FAILED)
            return False
        return True

    far.greet = close
    async with linked(far, []) as bed:
        bed.who.pending = True
        assert await soon(lambda: bed.link.state.connected, 5)


async def test_lanes_grow_as_they_are_taken_and_as_the_gateway_wants(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [runtime(server.origin, slots=20)], slots=20) as bed:
        assert await soon(lambda: far.living == 2, 5)
        lane = await far.lane()
        await lane.ask(b"", length=5)
        assert await soon(lambda: far.living == 3, 2)
        await far.say(t="want", lanes=12)
        assert await soon(lambda: far.living == 13, 2)
        await far.say(t="want", lanes=1000)
        assert await soon(lambda: far.living == 20, 2)
        await asyncio.sleep(0.1)
        assert far.living == 20
        assert bed.link.state.lanes_busy == 1
        await far.say(t="settings", drained=False, slots=3)
        assert await soon(lambda: far.living == 3, 2)
        assert bed.link.state.slots_cap == 3


async def test_a_lane_that_closes_is_replaced(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [runtime(server.origin)]):
        lane = await far.lane()
        await lane.close()
        assert await soon(lambda: far.living == 2 and len(far.lanes) == 3, 5)


async def test_a_renewed_ticket_opens_the_next_lane(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [runtime(server.origin)]):
        lane = await far.lane()
        await far.say(t="ticket", ticket="fresh")
        await asyncio.sleep(0.05)
        await lane.ask(b"", length=5)
        assert await soon(lambda: far.lanes[-1].ticket == "Bearer fresh", 2)


async def test_go_away_makes_before_it_breaks(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [runtime(server.origin)]) as bed:
        busy = await far.lane()
        await busy.ask(b"", length=2)
        await asyncio.sleep(0.05)
        await far.say(t="go_away", reason="restart", delay=0)
        assert await soon(lambda: {lane.ticket for lane in far.lanes if lane is not busy and not lane.gone.is_set()}
                          == {"Bearer ticket-2"} and bed.link.state.lanes_parked == 2, 5)  # fmt: skip
        assert not busy.gone.is_set()
        assert far.controls[0].close_code is None
        await busy.socket.send(b"{}")
        assert (await busy.hear()).kind in {"end", "refused", "broken"}
        assert await soon(busy.gone.is_set, 2)


async def test_a_lost_control_lane_is_dialled_again_and_told_everything(far: FarEnd) -> None:
    async with linked(far, []) as bed:
        bed.link.tell_inventory({"revision": 7})
        assert await soon(lambda: far.said != [], 5)
        far.controls[0].transport.abort()
        assert await soon(lambda: len(far.controls) == 2 and len(far.told("inventory")) == 2, 5)
        assert bed.link.state.connected


async def test_a_key_is_replaced(far: FarEnd) -> None:
    async with linked(far, []) as bed:
        assert await soon(lambda: bed.link.state.connected, 5)
        await far.say(t="rotate")
        assert await soon(lambda: far.told("rotate") != [], 5)
        offer = far.told("rotate")[0]
        fresh = unpack(offer["public_key"])
        signed = rotate_message(node="node-1", connection=far.connections[0], public_key=fresh)
        assert verify(fresh, signed, unpack(offer["new"]))
        assert verify(bed.who.signer.public, signed, unpack(offer["old"]))
        await far.say(t="rotate", key="key-2")
        assert await soon(lambda: bed.who.kept == ["key-2"], 2)


async def test_leaving_says_so_and_lets_work_finish(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [runtime(server.origin)]) as bed:
        busy = await far.lane()
        body = b'{"input":"x"}'
        await busy.ask(b"", length=len(body), path="/v1/embeddings")
        await asyncio.sleep(0.05)
        leaving = asyncio.create_task(bed.link.leave(5, "bye", for_good=True))
        farewell = {"t": "leave", "reason": "bye", "for_good": True}
        assert await soon(lambda: far.told("leave") == [farewell] and far.living == 1, 2)
        await busy.socket.send(body)
        assert (await busy.hear()).kind == "end"
        await asyncio.wait_for(leaving, 2)


async def test_a_gateway_that_is_too_busy_is_left_alone_for_as_long_as_it_says(far: FarEnd) -> None:
    asked = []

    def refuse(request: Request) -> Response | None:
        asked.append(request.path)
        from websockets.datastructures import Headers

        return Response(503, "Busy", Headers({"retry-after": "30", "content-length": "0"}), b"")

    far.refuse = refuse
    async with linked(far, []) as bed:
        assert await soon(lambda: "too busy" in bed.link.state.say, 5)
        await asyncio.sleep(0.7)
        assert len(asked) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "[]",
        "{}",
        '{"t":1}',
        '{"t":"open"}',
        '{"t":"welcome"}',
        "x" * 70000,
        b"bytes",
        '{"t":"want","lanes":-1}',
        '{"t":"want","lanes":1e999}',
        '{"t":"ticket","ticket":"a\\r\\nb"}',
        '{"t":"settings","slots":"many"}',
        "[" * 60000,
    ],
)
async def test_nonsense_ends_the_connection_and_nothing_else(far: FarEnd, nonsense: str | bytes) -> None:
    async def speak(far: FarEnd, socket: ServerConnection) -> bool:
        if len(far.controls) == 1:
            await socket.send(nonsense)
            await socket.wait_closed()
        return len(far.controls) > 1

    far.greet = speak
    async with linked(far, []) as bed:
        assert await soon(lambda: bed.link.state.connected, 10)
        await far.controls[-1].send(nonsense)
        if nonsense != '{"t":"open"}':
            assert await soon(lambda: len(far.controls) > 2, 10)
