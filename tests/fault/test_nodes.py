"""Nodes that die, stall, drain and are cancelled: the same rules as for any upstream, over a real link."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import books
from tests.support.caller import Heard, Line, ask, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, running, upstream
from tests.support.node import NodeProcess, enrolled, serving, shown, until
from tests.support.replies import DONE, LAST_CHUNK, Healthy, chunked, delta, event, paced, packed
from tests.support.scripted import ByModel, Reply, ScriptedUpstream, soon
from tests.support.steps import Script, Send, Stall

pytestmark = pytest.mark.slow

_HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
_FLOOD = event(delta({"content": "x" * 32_000}))
_REPLIES: dict[str, Script | Reply] = {
    "ok": Healthy(),
    "short": paced(100, 0.02),
    "endless": paced(100_000, 0.02, finish=False),
    "silent": (Stall(),),
    "flood": (*chunked([_FLOOD] * 600), *chunked([DONE])[1:], Send(LAST_CHUNK)),
}
SECOND = ("from ", "elsewhere")


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    """The model server on the node's machine."""
    with ScriptedUpstream(ByModel(dict(_REPLIES))).running() as server:
        yield server


@pytest.fixture(scope="module")
def vendor() -> Iterator[ScriptedUpstream]:
    """Somebody else who has the same models."""
    with ScriptedUpstream(Healthy(SECOND)).running() as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway without any upstream."""
    with running(tmp_path / "gateway", configuration([], [])) as gateway:
        yield gateway


@pytest.fixture
def node(gateway: Gateway, server: ScriptedUpstream, tmp_path: Path) -> Iterator[NodeProcess]:
    """A node with every model and room for plenty."""
    with enrolled(gateway, tmp_path / "node", "rig", server.origin, options=["--slots", "64"]) as node:
        until(lambda: serving(gateway, "rig", *_REPLIES), node.tail())
        yield node


def failing_over(gateway: Gateway, vendor: ScriptedUpstream, model: str) -> None:
    """A route with the node first and the vendor behind it."""
    entries = configuration([upstream("vendor", vendor.base_url("vendor"))], [])
    entries["routes"] = [
        {
            "model": f"safe-{model}",
            "targets": [{"node": "rig", "model": model}, {"upstream": "vendor", "model": "m", "tier": 1}],
        }
    ]
    file = gateway.folder / "more.yaml"
    file.write_bytes(packed(entries))
    ran = gateway.run("apply", "-f", str(file))
    assert ran.returncode == 0, ran.stdout + ran.stderr


async def begin(
    gateway: Gateway, model: str, *, stream: bool = True, until: bytes | None = b"tick", **more: Any
) -> tuple[Line, Heard]:
    """Ask and wait for `until`."""
    line = await dial(gateway.url)
    heard = await line.send("/v1/chat/completions", packed(chat_call(model, stream=stream, **more)), _HEADERS)
    if until is not None:
        await line.hear(heard, until=until)
    return line, heard


async def test_a_model_of_a_node_is_callable_without_a_route(gateway: Gateway, node: NodeProcess) -> None:
    for stream in (True, False):
        heard = await ask(f"{gateway.base_url}/chat/completions", chat_call("ok", stream=stream), key=CLIENT_KEY)
        assert (heard.status, heard.finished) == (200, True), heard.body
        assert heard.headers["x-intertie-target"].startswith("rig")
    direct = await ask(f"{gateway.url}/nodes/rig/v1/chat/completions", chat_call("ok", stream=False), key=CLIENT_KEY)
    assert direct.status == 200, direct.body
    rows = {
        row["group"] if "group" in row else row.get("node", row.get("name")): row
        for row in gateway.cli("usage", "--by", "node")
    }
    assert rows["rig"]["requests"] == 3


async def test_killed_before_the_first_byte_the_client_sees_success_elsewhere(
    gateway: Gateway, node: NodeProcess, vendor: ScriptedUpstream, server: ScriptedUpstream
) -> None:
    failing_over(gateway, vendor, "silent")
    before = len(server.requests)
    line, heard = await begin(gateway, "safe-silent", until=None)
    assert await soon(lambda: len(server.requests) > before, 5)
    node.kill()
    await line.hear(heard)
    line.hang_up()
    assert heard.done
    assert heard.text == "".join(SECOND)
    assert await soon(lambda: not shown(gateway, "rig")["online"], 3)
    after = await ask(f"{gateway.base_url}/chat/completions", chat_call("safe-silent", stream=False), key=CLIENT_KEY)
    assert after.status == 200
    alone = await ask(f"{gateway.base_url}/chat/completions", chat_call("ok", stream=False), key=CLIENT_KEY)
    assert alone.status == 503
    assert "retry-after" in alone.headers


async def test_killed_midstream_the_error_is_in_band_and_the_bill_is_what_came(
    gateway: Gateway, node: NodeProcess
) -> None:
    line, heard = await begin(gateway, "endless")
    node.kill()
    await line.hear(heard)
    line.hang_up()
    assert not heard.done
    assert heard.chunks[-1]["error"]["code"] == "stream_interrupted"
    entry = next(row for row in books(gateway).requests() if row["route"] == "endless")
    assert entry["state"] == "interrupted"
    assert entry["output_tokens"] > 0
    assert gateway.cli("ledger", "verify")["problems"] == []


async def test_draining_with_fifty_streams_in_flight_loses_none(gateway: Gateway, node: NodeProcess) -> None:
    flights = await asyncio.gather(*(begin(gateway, "short") for _ in range(50)))
    assert gateway.run("nodes", "drain", "rig").returncode == 0
    refused = await ask(f"{gateway.base_url}/chat/completions", chat_call("ok", stream=False), key=CLIENT_KEY)
    assert refused.status == 503
    await asyncio.gather(*(line.hear(heard) for line, heard in flights))
    assert all(heard.done for _, heard in flights)
    for line, _ in flights:
        line.hang_up()


async def test_an_agent_told_to_stop_finishes_what_runs(gateway: Gateway, node: NodeProcess) -> None:
    flights = await asyncio.gather(*(begin(gateway, "short") for _ in range(20)))
    leaving = asyncio.create_task(asyncio.to_thread(node.stop))
    await asyncio.gather(*(line.hear(heard) for line, heard in flights))
    assert all(heard.done for _, heard in flights)
    assert await leaving == 0
    for line, _ in flights:
        line.hang_up()


async def test_a_slow_client_holds_back_its_own_stream_only(gateway: Gateway, node: NodeProcess) -> None:
    agent, own = node.resident(), gateway.resident()
    slow = [await begin(gateway, "flood", until=b"data:") for _ in range(4)]
    began = time.monotonic()
    quick = await ask(f"{gateway.base_url}/chat/completions", chat_call("short", stream=True), key=CLIENT_KEY)
    assert quick.done
    assert time.monotonic() - began < 6
    grown = max(node.resident() - agent, gateway.resident() - own)
    assert grown < 4 * 8 * 1024 * 1024, f"{grown} bytes"
    await asyncio.gather(*(line.hear(heard) for line, heard in slow))
    assert all(heard.done for _, heard in slow)
    for line, _ in slow:
        line.hang_up()


async def test_a_thousand_cancels_leave_no_busy_slot(
    gateway: Gateway, node: NodeProcess, server: ScriptedUpstream
) -> None:
    chance = random.Random(7)

    async def leave(turns: asyncio.Semaphore) -> None:
        async with turns:
            model = chance.choice(["endless", "silent"])
            line, _ = await begin(gateway, model, stream=chance.random() < 0.5, until=None)
            await asyncio.sleep(chance.random() * 0.15)
            line.hang_up()

    def busy() -> int:
        posts = [request for request in server.requests if request.method == "POST"]
        return sum(1 for request in posts if request.answered_at is None and request.left_at is None)

    turns = asyncio.Semaphore(40)
    await asyncio.gather(*(leave(turns) for _ in range(1000)))
    assert await soon(lambda: shown(gateway, "rig")["lanes_busy"] == 0, 5, every=0.1), shown(gateway, "rig")
    assert await soon(lambda: busy() == 0, 5), busy()
    heard = await ask(f"{gateway.base_url}/chat/completions", chat_call("ok", stream=True), key=CLIENT_KEY)
    assert heard.done


@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_reaches_the_runtime_at_once(
    gateway: Gateway, node: NodeProcess, server: ScriptedUpstream, stream: bool
) -> None:
    """A client that does not stream has nothing to show for it either: the runtime must stop all the same."""
    before = len(server.requests)
    line, _ = await begin(gateway, "endless" if stream else "silent", stream=stream, until=b"tick" if stream else None)
    assert await soon(lambda: any(one.method == "POST" for one in server.requests[before:]), 5)
    asked = next(one for one in server.requests[before:] if one.method == "POST")
    left = line.hang_up()
    assert await soon(lambda: asked.left_at is not None, 2)
    assert (asked.left_at or 0) - left < 1.0


async def test_revoking_ends_the_link_and_joining_again_keeps_the_node(
    gateway: Gateway, node: NodeProcess, server: ScriptedUpstream
) -> None:
    before = shown(gateway, "rig")
    assert gateway.run("nodes", "revoke", "rig").returncode == 0
    began = time.monotonic()
    assert await soon(lambda: not shown(gateway, "rig")["online"], 3)
    assert time.monotonic() - began < 2
    refused = await ask(f"{gateway.base_url}/chat/completions", chat_call("ok", stream=False), key=CLIENT_KEY)
    assert refused.status in {404, 503}
    node.stop()
    made = gateway.cli("nodes", "token", "rig", "--for", "rig")
    again = node.run("join", gateway.url, "--replace", "--no-run", "--no-discover", "--runtime", server.origin,
                     environ={"INTERTIE_TOKEN": made["token"]})  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    node.start()
    until(lambda: serving(gateway, "rig", "ok"), node.tail())
    assert shown(gateway, "rig")["id"] == before["id"]


def test_the_database_holds_no_token_and_no_node_secret(gateway: Gateway, node: NodeProcess) -> None:
    unused = gateway.cli("nodes", "token", "later")["token"]
    private = (node.folder / "node" / "key").read_bytes()
    gateway.stop()
    everything = b"".join(file.read_bytes() for file in gateway.data.rglob("*") if file.is_file())
    assert unused.split("_")[-1].encode() not in everything
    assert unused.encode() not in everything
    assert private.strip() not in everything
    gateway.start()


async def test_a_gateway_that_restarts_finds_its_node_again(gateway: Gateway, node: NodeProcess) -> None:
    port = gateway.url.rpartition(":")[2]
    gateway.stop()
    gateway.options = ["--port", port]
    gateway.start()
    assert await soon(lambda: serving(gateway, "rig", "ok"), 40, every=0.2), node.tail()
    heard = await ask(f"{gateway.base_url}/chat/completions", chat_call("ok", stream=True), key=CLIENT_KEY)
    assert heard.done
