"""A gateway that turned hostile: what it may not ask is refused, and nothing is dialled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.far_end import FarEnd, linked
from tests.support.scripted import ScriptedUpstream, soon
from tests.support.tempers import STREAM, serving


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
