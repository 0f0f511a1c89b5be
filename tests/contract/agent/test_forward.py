"""Exchanges over a real link: what goes through, what is refused, and what happens when either side leaves."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from intertie.agent.inventory import Runtime
from intertie.core.wire.link import Refusal
from tests.support.far_end import FarEnd, linked, runtime
from tests.support.replies import EVENTS, LAST_CHUNK, TEXT, Healthy, chunked, delta, event, head, paced, packed, whole
from tests.support.scripted import ByModel, Reply, ScriptedUpstream, refusing, soon
from tests.support.steps import Close, Reset, Script, Send, Stall, Wait

STREAM = packed(
    {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "user"}]}
)
_REPLIES: dict[str, Script | Reply] = {
    "m": Healthy(),
    "endless": paced(100_000, 0.01, finish=False),
    "silent": (Stall(),),
    "broken": (*chunked([event(delta({"content": "a"}))]), Wait(0.05), Reset()),
    "mute": (Wait(0.02), Close()),
    "nonsense": (Send(b"SSH-2.0-OpenSSH\r\n\r\n"), Stall()),
    "faulty": (
        *chunked([event(delta({"content": "a"})), event({"error": {"message": "out of memory", "code": 507}})]),
        Stall(),
    ),
    "cut": (*chunked([event(delta({"content": "a"}))]), Send(LAST_CHUNK)),
    "busy": whole(packed({"error": {"message": "slow down"}}), 429, more=[("retry-after", "7"), ("set-cookie", "a=b")]),
    "away": whole(b"", 302, more=[("location", "http://127.0.0.1:1/")]),
    "chatty": whole(b"x" * 200_000, 500),
    "big": whole(b"y" * 1_000_000),
    "flood": (*chunked([event(delta({"content": "x" * 32_000}))] * 2000), Stall()),
    "counted": (Send(head(200, [("content-type", EVENTS), ("content-length", "100")]) + b"data: x\n\n"), Close()),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(ByModel(dict(_REPLIES))).running() as server:
        yield server


@pytest.fixture
async def far() -> AsyncIterator[FarEnd]:
    async with FarEnd().running() as far:
        yield far


def serving(server: ScriptedUpstream, **more: Any) -> Runtime:
    return runtime(server.origin, *_REPLIES, **more)


def body(model: str, **more: Any) -> bytes:
    return packed({**json.loads(STREAM), "model": model, **more})


async def test_a_stream_goes_through_as_it_comes(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server, key="sesame")]):
        lane = await far.lane()
        headers = {
            "content-type": "application/json",
            "authorization": "Bearer client",
            "x-secret": "1",
            "cookie": "a=b",
        }
        await lane.ask(STREAM, headers=headers)
        heard = await lane.hear()
        assert heard.head is not None
        assert (heard.head["status"], heard.head["headers"]["content-type"]) == (200, EVENTS)
        assert heard.kind == "end"
        assert heard.body.endswith(b"data: [DONE]\n\n")
        got = server.requests[-1]
        assert (got.method, got.path, got.body, got.credential) == ("POST", "/v1/chat/completions", STREAM, "sesame")
        assert set(got.headers) == {"host", "user-agent", "accept-encoding", "connection", "content-type",
                                    "content-length", "authorization"}  # fmt: skip
        await lane.ask(STREAM)
        assert (await lane.hear()).body == heard.body


async def test_a_whole_answer_is_assembled_from_a_stream(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server)]):
        lane = await far.lane()
        await lane.ask(STREAM, whole=True)
        heard = await lane.hear()
        assert heard.head is not None
        assert heard.head["headers"] == {"content-type": "application/json", "content-length": str(len(heard.body))}
        answer = json.loads(heard.body)
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": TEXT}
        assert (answer["object"], answer["usage"]["completion_tokens"]) == ("chat.completion", 6)
        assert server.requests[-1].streamed


async def test_embeddings_pass_as_they_are(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server)]):
        lane = await far.lane()
        await lane.ask(packed({"model": "m", "input": "x"}), path="/v1/embeddings", whole=True)
        heard = await lane.hear()
        assert json.loads(heard.body)["object"] == "list"
        assert heard.kind == "end"


@pytest.mark.parametrize("cuts", [1024, 65536])
async def test_a_large_request_arrives_whole(far: FarEnd, server: ScriptedUpstream, cuts: int) -> None:
    sent = body("m", padding="z" * (20_000_000 if cuts > 1024 else 200_000))
    async with linked(far, [serving(server)]):
        lane = await far.lane()
        await lane.ask(sent, cuts=cuts)
        assert (await lane.hear()).kind == "end"
        assert server.requests[-1].body == sent


async def test_a_large_answer_arrives_whole(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server)]):
        lane = await far.lane()
        await lane.ask(body("big"), model="big")
        assert (await lane.hear()).body == b"y" * 1_000_000


@pytest.mark.parametrize(
    ("model", "streamed", "status", "said"),
    [
        ("busy", False, 429, b"slow down"),
        ("busy", True, 429, b"slow down"),
        ("faulty", False, 507, b"out of memory"),
        ("away", True, 302, b""),
        ("chatty", True, 500, b"too long a reason"),
    ],
)
async def test_errors_of_the_runtime_pass_with_their_status(
    far: FarEnd, server: ScriptedUpstream, model: str, streamed: bool, status: int, said: bytes
) -> None:
    async with linked(far, [serving(server)]) as bed:
        lane = await far.lane()
        await lane.ask(body(model), model=model, whole=not streamed)
        heard = await lane.hear()
        assert heard.head is not None
        assert (heard.head["status"], heard.kind) == (status, "end")
        assert said in heard.body
        assert not set(heard.head["headers"]) & {"location", "set-cookie"}
        assert heard.head["headers"].get("retry-after") == ("7" if model == "busy" else None)
        assert bed.forwarder.busy == 0


@pytest.mark.parametrize(
    ("model", "streamed", "kind"),
    [
        ("broken", True, "broken"),
        ("broken", False, "broken"),
        ("cut", False, "broken"),
        ("counted", True, "broken"),
        ("mute", True, "refused"),
        ("mute", False, "refused"),
        ("nonsense", True, "refused"),
    ],
)
async def test_a_runtime_that_fails_midway_is_said_to(
    far: FarEnd, server: ScriptedUpstream, model: str, streamed: bool, kind: str
) -> None:
    async with linked(far, [serving(server)]) as bed:
        lane = await far.lane()
        await lane.ask(body(model), model=model, whole=not streamed)
        heard = await lane.hear()
        assert (heard.kind, heard.code) == (kind, "runtime_gone")
        assert (heard.head is not None) == (kind == "broken")
        assert bed.forwarder.busy == 0
        await lane.ask(STREAM)
        assert (await lane.hear()).kind == "end"


async def test_a_runtime_that_is_gone_refuses(far: FarEnd) -> None:
    with refusing() as origin:
        async with linked(far, [runtime(origin)]) as bed:
            lane = await far.lane()
            await lane.ask(STREAM)
            heard = await lane.hear()
            assert (heard.kind, heard.code, heard.head) == ("refused", "runtime_gone", None)
            assert origin.rpartition(":")[2] not in str(heard.last)
            assert bed.forwarder.busy == 0


async def test_slots_are_a_limit_for_each_runtime(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server, slots=1)]) as bed:
        first, second = await far.lane(), await far.lane()
        await first.ask(body("endless"), model="endless")
        await first.hear(pieces=1)
        await second.ask(STREAM)
        assert (await second.hear()).code == "busy"
        bed.runtimes.append(
            Runtime("test", server.origin.replace("127.0.0.1", "localhost"), models=bed.runtimes[0].models)
        )
        await second.ask(STREAM)
        assert (await second.hear()).kind == "end"


@pytest.mark.parametrize("reason", [Refusal.NOT_SERVING, Refusal.DRAINING])
async def test_a_node_that_does_not_serve_refuses(far: FarEnd, server: ScriptedUpstream, reason: Refusal) -> None:
    before = len(server.connections)
    async with linked(far, [serving(server)]) as bed:
        bed.unwilling.append(reason)
        lane = await far.lane()
        await lane.ask(STREAM)
        assert (await lane.hear()).code == reason
        bed.unwilling.clear()
        assert len(server.connections) == before
        await lane.ask(STREAM)
        assert (await lane.hear()).kind == "end"


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"path": "/"}, "policy"),
        ({"path": "/v1/models"}, "policy"),
        ({"path": "/api/pull"}, "policy"),
        ({"path": "/v1/chat/completions/"}, "policy"),
        ({"path": "/v1/chat/completions?x=1"}, "policy"),
        ({"path": "/v1/chat/completions#x"}, "policy"),
        ({"path": "/v1/chat%2Fcompletions"}, "policy"),
        ({"path": "/v1/../v1/chat/completions"}, "policy"),
        ({"path": "/v1/./chat/completions"}, "policy"),
        ({"path": "//v1/chat/completions"}, "policy"),
        ({"path": "//127.0.0.1:22/v1/chat/completions"}, "policy"),
        ({"path": "http://127.0.0.1:22/v1/chat/completions"}, "policy"),
        ({"path": "unix:/var/run/docker.sock:/v1/chat/completions"}, "policy"),
        ({"path": "/v1/chat/completions HTTP/1.1\r\nx: y"}, "policy"),
        ({"path": "/V1/chat/completions"}, "policy"),
        ({"path": "/v1/chat/completions\x00"}, "policy"),
        ({"method": "GET"}, "policy"),
        ({"method": "DELETE"}, "policy"),
        ({"headers": {"content-type": "a\r\nx-evil: 1"}}, "policy"),
        ({"headers": {"accept": 1}}, "policy"),
        ({"headers": {"content-type": "ä"}}, "policy"),
        ({"model": "other"}, "no_model"),
        ({"model": ""}, "no_model"),
        ({"model": "m\r\nhost: evil"}, "no_model"),
        ({"model": "http://127.0.0.1:22/m"}, "no_model"),
    ],
)
async def test_a_hostile_gateway_gets_nothing_dialled(
    far: FarEnd, server: ScriptedUpstream, members: dict[str, Any], code: str
) -> None:
    before = len(server.connections)
    async with linked(far, [serving(server)]):
        lane = await far.lane()
        await lane.ask(STREAM, cuts=7, **members)
        heard = await lane.hear()
        assert (heard.kind, heard.code) == ("refused", code)
        assert len(server.connections) == before


@pytest.mark.parametrize(
    "members",
    [
        {"host": "127.0.0.1:22", "url": "http://127.0.0.1:22/", "socket": "/var/run/docker.sock", "port": 22},
        {"headers": {"host": "evil:22", "x-forwarded-host": "evil", "connection": "upgrade", "upgrade": "h2c"}},
        {"headers": {"Content-Length": "3", "transfer-encoding": "chunked", "authorization": "Bearer stolen"}},
    ],
)
async def test_whatever_else_it_says_only_the_approved_runtime_hears(
    far: FarEnd, server: ScriptedUpstream, members: dict[str, Any]
) -> None:
    async with linked(far, [serving(server)]):
        lane = await far.lane()
        await lane.ask(STREAM, **members)
        assert (await lane.hear()).kind == "end"
        headers = server.requests[-1].headers
        assert headers["host"] == server.origin.removeprefix("http://")
        assert headers["content-length"] == str(len(STREAM))
        assert not set(headers) & {"transfer-encoding", "authorization", "upgrade", "x-forwarded-host"}


@pytest.mark.parametrize(
    "opening",
    [
        {"length": -1},
        {"length": 1 << 40},
        {"length": "5"},
        {"length": True},
        {"length": None},
        {"id": 7},
        {"id": "x" * 10_000},
        {"path": None},
        {"model": ["m"]},
        {"headers": []},
        {"whole": "yes"},
        {"t": "head"},
        {"t": "end"},
    ],
)
async def test_what_is_no_order_closes_the_lane_only(
    far: FarEnd, server: ScriptedUpstream, opening: dict[str, Any]
) -> None:
    before = len(server.connections)
    async with linked(far, [serving(server)]) as bed:
        lane = await far.lane()
        await lane.ask(b"", **opening)
        heard = await lane.hear()
        assert (heard.kind, heard.last["code"]) == ("closed", 4000)
        assert len(server.connections) == before
        assert bed.link.state.connected
        other = await far.lane()
        await other.ask(STREAM)
        assert (await other.hear()).kind == "end"


async def test_wrong_lengths_close_the_lane_and_the_runtime(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server)]) as bed:
        more = await far.lane()
        await more.ask(STREAM, length=10)
        assert (await more.hear()).last == {"t": "closed", "code": 4000}
        twice = await far.lane()
        await twice.ask(b"", length=10)
        await twice.ask(b"", length=10)
        assert (await twice.hear()).last == {"t": "closed", "code": 4000}
        unasked = await far.lane()
        await unasked.socket.send(b"body")
        assert (await unasked.hear()).last == {"t": "closed", "code": 4000}
        huge = await far.lane()
        await huge.ask(b"x" * 70_000, cuts=70_000)
        assert (await huge.hear()).last == {"t": "closed", "code": 4000}
        assert await soon(lambda: bed.forwarder.busy == 0 and server.open_connections() == 0, 2)


async def test_closing_a_busy_lane_hangs_up_on_the_runtime_at_once(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server)]) as bed:
        for model in ("endless", "silent"):
            lane = await far.lane()
            await lane.ask(body(model), model=model)
            if model == "endless":
                await lane.hear(pieces=3)
            assert await soon(lambda model=model: server.requests[-1].call["model"] == model, 2)
            got = server.requests[-1]
            began = time.monotonic()
            await lane.close()
            assert await soon(lambda got=got: got.left_at is not None, 2, every=0.001)
            assert got.left_at is not None
            assert got.left_at - began < 0.25
        assert await soon(lambda: bed.forwarder.busy == 0 and far.living == 2, 5)


async def test_a_thousand_random_cancels_leave_no_busy_slot(far: FarEnd, server: ScriptedUpstream) -> None:
    chance = random.Random(7)

    async def one() -> None:
        lane = await far.lane(20)
        model, sent = (
            chance.choice(["endless", "silent", "m", "broken", "nobody"]),
            chance.choice([STREAM, body("m") * 40]),
        )
        whole_body = chance.random() < 0.7
        await lane.ask(
            sent if whole_body else sent[: len(sent) // 2], model=model, length=len(sent), whole=chance.random() < 0.3
        )
        await asyncio.sleep(chance.random() * 0.02)
        if chance.random() < 0.5:
            lane.socket.transport.abort()
        else:
            await lane.close()

    async with linked(far, [serving(server, slots=32)], slots=32) as bed:
        gate = asyncio.Semaphore(32)

        async def gated() -> None:
            async with gate:
                await one()

        await asyncio.gather(*(gated() for _ in range(1000)))
        assert await soon(lambda: bed.forwarder.busy == bed.link.state.lanes_busy == 0, 5)
        assert await soon(lambda: server.open_connections() == 0, 5)
        lane = await far.lane()
        await lane.ask(STREAM)
        assert (await lane.hear()).kind == "end"


async def test_a_runtime_that_ignores_disconnects_keeps_its_slot_draining(
    far: FarEnd, server: ScriptedUpstream
) -> None:
    works_on = 1

    async def running(_: Runtime) -> int | None:
        return works_on

    async with linked(far, [serving(server, slots=1)], slots=1, running=running) as bed:
        lane = await far.lane()
        await lane.ask(body("silent"), model="silent")
        assert await soon(lambda: bed.forwarder.busy == 1, 2)
        await lane.close()
        assert await soon(lambda: bed.forwarder.draining == 1, 2)
        await asyncio.sleep(0.3)
        assert (bed.forwarder.busy, bed.forwarder.draining, far.living) == (0, 1, 0)
        works_on = 0
        assert await soon(lambda: bed.forwarder.draining == 0 and far.living == 1, 3)
        lane = await far.lane()
        await lane.ask(STREAM)
        assert (await lane.hear()).kind == "end"


async def test_a_slow_gateway_holds_up_its_own_runtime_only(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server)]):
        slow, quick = await far.lane(), await far.lane()
        await slow.ask(body("flood"), model="flood")
        flooding = await soon(lambda: server.requests[-1].call["model"] == "flood", 2)
        assert flooding
        conversation = next(iter(server.conversations))
        await asyncio.sleep(0.5)
        assert conversation._full
        await quick.ask(STREAM)
        assert (await quick.hear()).kind == "end"
        heard = await slow.hear(pieces=1000)
        assert len(heard.body) > 1_000_000


async def test_when_the_owner_is_back_what_runs_too_long_is_broken_off(far: FarEnd, server: ScriptedUpstream) -> None:
    async with linked(far, [serving(server)]) as bed:
        streaming, waiting = await far.lane(), await far.lane()
        await streaming.ask(body("endless"), model="endless")
        await waiting.ask(body("silent"), model="silent")
        await streaming.hear(pieces=1)
        bed.unwilling.append(Refusal.NOT_SERVING)
        bed.link.yield_running(0.1)
        heard, unheard = await streaming.hear(), await waiting.hear()
        assert (heard.kind, heard.code) == ("broken", "not_serving")
        assert (unheard.kind, unheard.code) == ("refused", "not_serving")
        assert bed.forwarder.busy == 0
        bed.unwilling.clear()
        await streaming.ask(STREAM)
        assert (await streaming.hear()).kind == "end"


async def test_an_answer_before_the_request_is_whole_waits_for_it(far: FarEnd) -> None:
    """A runtime may refuse a large request by its head alone; the gateway still sends all of it."""

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server, linked(far, [runtime(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")]) as bed:
        lane = await far.lane()
        await lane.ask(b"x" * 1000, length=5_001_000)
        await asyncio.sleep(0.1)
        for _ in range(100):
            await lane.socket.send(b"x" * 50_000)
        heard = await lane.hear()
        assert heard.head is not None
        assert (heard.head["status"], heard.body, heard.kind) == (413, b"{}", "end")
        assert bed.forwarder.busy == 0
