"""S12: a told-to-stop gateway finishes what runs, tells the rest in-band, and loses no account."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.caller import Heard, Line, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, upstream
from tests.support.replies import Healthy, paced, packed
from tests.support.scripted import Named, Reply, ScriptedUpstream
from tests.support.steps import Script, Stall

_HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
_REPLIES: dict[str, Script | Reply] = {
    "short": paced(40, 0.02),
    "endless": paced(100_000, 0.02, finish=False),
    "silent": (Stall(),),
    "ok": Healthy(),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    """Streams of every length."""
    with ScriptedUpstream(Named(dict(_REPLIES))).running() as server:
        yield server


def made(server: ScriptedUpstream, folder: Path, drain: float) -> Gateway:
    """A gateway that waits `drain` seconds for what runs."""
    entries = configuration(
        [upstream(name, server.base_url(name)) for name in _REPLIES], [route(name, name) for name in _REPLIES]
    )
    gateway = Gateway(folder, entries, environ={"INTERTIE_DRAIN_SECONDS": str(drain)})
    gateway.start()
    return gateway


async def ask(gateway: Gateway, model: str, *, stream: bool, until: bytes | None) -> tuple[Line, Heard]:
    """Begin a request and wait for `until`."""
    line = await dial(gateway.url)
    heard = await line.send("/v1/chat/completions", packed(chat_call(model, stream=stream)), _HEADERS)
    if until is not None:
        await line.hear(heard, until=until)
    return line, heard


async def told(gateway: Gateway, times: int = 1) -> int:
    """Send SIGTERM and wait for the exit code."""
    for _ in range(times):
        os.kill(gateway.process.pid, signal.SIGTERM)
        await asyncio.sleep(0.2)
    return await asyncio.to_thread(gateway.process.wait, 20)


async def test_s12_running_streams_finish_and_new_connections_are_refused(
    server: ScriptedUpstream, tmp_path: Path
) -> None:
    gateway = made(server, tmp_path, 20)
    line, heard = await ask(gateway, "short", stream=True, until=b"tick")
    leaving = asyncio.create_task(told(gateway))
    await asyncio.sleep(0.3)
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await dial(gateway.url)
    await line.hear(heard)
    line.hang_up()

    assert heard.done
    assert await leaving == 0
    assert "stopping: 1 under way, which may take 20 s more" in gateway.tail(20_000)
    gateway.start()
    assert [row["state"] for row in gateway.cli("ledger", "entries") if row["kind"] == "request"] == ["ok"]
    gateway.stop()


@pytest.mark.parametrize("times", [1, 2])
async def test_s12_at_the_limit_or_a_second_sigterm_the_rest_is_told_in_band(
    server: ScriptedUpstream, tmp_path: Path, times: int
) -> None:
    gateway = made(server, tmp_path, 1 if times == 1 else 600)
    streaming = await ask(gateway, "endless", stream=True, until=b"tick")
    waiting = await ask(gateway, "silent", stream=False, until=None)
    leaving = asyncio.create_task(told(gateway, times))
    for line, heard in (streaming, waiting):
        await line.hear(heard)
        line.hang_up()

    assert await leaving == 0
    assert streaming[1].chunks[-1]["error"]["code"] == "server_shutdown"
    assert not streaming[1].done
    assert (waiting[1].status, waiting[1].json["error"]["code"]) == (503, "server_shutdown")
    gateway.start()
    states = {row["route"]: row["state"] for row in gateway.cli("ledger", "entries") if row["kind"] == "request"}
    assert states == {"endless": "interrupted", "silent": "failed"}
    assert gateway.cli("ledger", "verify")["problems"] == []
    gateway.stop()
