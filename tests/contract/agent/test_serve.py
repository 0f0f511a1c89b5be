"""The whole agent on one event loop: a gateway played by somebody else's WebSocket, a fake runtime, and its owner."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from intertie.agent import serve
from intertie.agent.discover import Approved
from intertie.agent.home import (
    INTENT,
    LOCK,
    Intent,
    Lock,
    Offer,
    agent_runs,
    read_status,
    write_intent,
    write_offer,
)
from intertie.agent.identity import Enrolled, establish, forget
from intertie.agent.keys import SigningKey, encode
from intertie.agent.problem import BUSY, NOT_A_NODE, Problem
from intertie.agent.serve import Agent
from intertie.agent.wishes import Wishes
from tests.support.far_end import FarEnd
from tests.support.runtimes import FakeRuntime
from tests.support.shapes import FakeModel

SECRET = "runtime-key-0123456789"


@dataclass
class Bed:
    """A running agent and everything around it."""

    folder: Path
    far: FarEnd
    runtime: FakeRuntime
    agent: Agent
    running: asyncio.Task[None]
    said: list[str] = field(default_factory=list)

    @property
    def status(self) -> dict[str, Any]:
        return read_status(self.folder)

    @property
    def serving(self) -> str:
        return str(self.far.told("status")[-1]["state"]) if self.far.told("status") else ""

    @property
    def models(self) -> list[str]:
        """As the gateway was told last."""
        told = self.far.told("inventory")
        return [model["name"] for model in told[-1]["models"]] if told else []


async def until(holds: Callable[[], object], what: str, seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def call(tokens: int) -> bytes:
    """The body of a streamed chat."""
    messages = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": "m", "stream": True, "max_tokens": tokens, "messages": messages}).encode()


def enrol(folder: Path, far: FarEnd, node: str = "node-1") -> None:
    key = SigningKey.generate()
    establish(
        folder,
        Enrolled(
            node=node,
            key="key-1",
            public_key=encode(key.public),
            name="desk",
            origin=far.origin,
            link=far.url,
            gateway_keys=(encode(far.signer.public),),
            enrolled_at="2026-01-01T00:00:00+00:00",
        ),
        key,
    )


@asynccontextmanager
async def bed(folder: Path, wishes: Wishes | None = None) -> AsyncIterator[Bed]:
    """An agent that is connected and has told its inventory."""
    far = FarEnd()
    async with far.running(), FakeRuntime("vllm", [FakeModel("m")], key=SECRET) as runtime:
        enrol(folder, far)
        write_offer(folder, Offer((Approved(runtime.url, key=SECRET),), discover=False))
        (wishes or Wishes(yield_seconds=0.4)).save(folder / "wishes.json")
        said: list[str] = []
        agent = Agent(folder, say=said.append)
        made = Bed(folder, far, runtime, agent, asyncio.create_task(agent.run()), said)
        try:
            await until(lambda: made.models and made.serving == "serving", f"not serving: {said}")
            yield made
        finally:
            if not made.running.done():
                agent.stop()
                agent.stop()
            with suppress(Problem):
                await asyncio.wait_for(made.running, 5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's files are looked at more often than in life."""
    monkeypatch.setattr(serve, "LOOK", 0.05)


async def test_it_connects_tells_what_there_is_and_serves(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        lane = await it.far.lane()
        await lane.ask(call(5))
        heard = await lane.hear()
        await until(lambda: it.status.get("link", {}).get("connected"), "the status file says it is not connected")

        assert (heard.kind, heard.head and heard.head["status"]) == ("end", 200)
        assert it.models == ["m"]
        assert it.status["serving"]["state"] == "serving"
        assert it.status["runtimes"][0]["models"][0]["name"] == "m"
        assert agent_runs(tmp_path)


async def test_the_runtimes_key_reaches_the_runtime_and_nobody_else(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        assert any(asked.headers.get("authorization") == f"Bearer {SECRET}" for asked in it.runtime.asked)
        await until(lambda: it.status, "no status")

        assert SECRET not in json.dumps(it.far.said) + json.dumps(it.status) + "".join(it.said)
        assert it.runtime.url not in json.dumps(it.far.said)
        assert (tmp_path / "runtimes.json").stat().st_mode & 0o777 == 0o600


async def test_a_second_agent_on_the_same_folder_refuses(tmp_path: Path) -> None:
    async with bed(tmp_path):
        with pytest.raises(Problem, match="already runs") as caught:
            await Agent(tmp_path, say=lambda _: None).run()

    assert caught.value.status == BUSY
    assert not agent_runs(tmp_path)


@pytest.mark.parametrize("damage", ["nothing", "garbage", "other key"])
async def test_without_an_identity_it_says_so_and_how_to_get_one(tmp_path: Path, damage: str) -> None:
    far = FarEnd(url="http://127.0.0.1:9/link")
    if damage != "nothing":
        enrol(tmp_path, far)
    if damage == "garbage":
        (tmp_path / "node.json").write_text("{")
    if damage == "other key":
        SigningKey.generate().save(tmp_path / "key")
    with pytest.raises(Problem) as caught:
        await Agent(tmp_path, say=lambda _: None).run()

    assert caught.value.status == NOT_A_NODE
    assert "join" in caught.value.remedy


async def test_the_owner_pauses_and_resumes_within_a_second(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        began = time.monotonic()
        write_intent(tmp_path, Intent(paused=True))
        await until(lambda: it.serving == "paused", "the gateway was not told")
        assert time.monotonic() - began < 1.0
        lane = await it.far.lane()
        await lane.ask()
        assert (await lane.hear()).code == "not_serving"
        await until(lambda: it.status["serving"]["state"] == "paused", "the status file was not written")

        write_intent(tmp_path, Intent())
        await until(lambda: it.serving == "serving", "it did not resume")


async def test_a_pause_that_ends_by_itself_does_not_mind_a_jumping_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bed(tmp_path) as it:
        write_intent(tmp_path, Intent(paused=True, until=time.time() + 0.8))
        await until(lambda: it.serving == "paused", "not paused")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 10 * 365 * 86_400)
        await until(lambda: it.serving == "serving", "it did not resume")

    assert not (tmp_path / INTENT).exists()


async def test_an_intent_that_cannot_be_read_is_a_pause(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        (tmp_path / INTENT).write_text("{")
        await until(lambda: it.serving == "paused", "it serves against a wish")


async def test_what_runs_when_the_owner_pauses_is_broken_off_after_the_limit(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        lane = await it.far.lane()
        await lane.ask(call(100_000))
        await lane.hear(pieces=3)
        began = time.monotonic()
        write_intent(tmp_path, Intent(paused=True))
        heard = await lane.hear()

        assert (heard.kind, heard.code) == ("broken", "not_serving")
        assert 0.3 < time.monotonic() - began < 3.0
        await until(lambda: it.runtime.cancelled, "the runtime goes on")


async def test_told_to_stop_it_drains_then_ends(tmp_path: Path) -> None:
    async with bed(tmp_path, Wishes(yield_seconds=5)) as it:
        lane = await it.far.lane()
        await lane.ask(call(80))
        await lane.hear(pieces=2)
        it.agent.stop()
        heard = await lane.hear()
        await asyncio.wait_for(it.running, 3)

        assert heard.kind == "end"
        assert it.far.told("leave")
        assert it.status["serving"]["state"] == "stopped"
        assert not agent_runs(tmp_path)


async def test_told_twice_it_ends_at_once(tmp_path: Path) -> None:
    async with bed(tmp_path, Wishes(yield_seconds=60)) as it:
        lane = await it.far.lane()
        await lane.ask(call(100_000))
        await lane.hear(pieces=2)
        it.agent.stop()
        await asyncio.sleep(0.1)
        assert not it.running.done()
        it.agent.stop()
        await asyncio.wait_for(it.running, 2)


async def test_changed_wishes_hold_while_it_runs_and_bad_ones_change_nothing(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        ours = (Path("/proc/self/exe").readlink().name, Path("/proc/self/comm").read_text().strip())
        Wishes(programs=ours).save(tmp_path / "wishes.json")
        await until(lambda: it.serving not in {"", "serving"}, f"it serves although the program runs: {it.said}")
        (tmp_path / "wishes.json").write_text('{"mode": "sometimes"}')
        await until(lambda: any("old wishes stay" in text for text in it.said), "nobody was told")

        assert it.serving != "serving"


async def test_approving_another_runtime_while_it_runs_offers_it_and_withdraws_the_first(tmp_path: Path) -> None:
    async with bed(tmp_path) as it, FakeRuntime("llama_cpp", [FakeModel("other")]) as second:
        write_offer(tmp_path, Offer((Approved(second.url),), discover=False))
        await until(lambda: it.models == ["other"], f"the gateway still knows {it.models}")
        lane = await it.far.lane()
        await lane.ask(model="m")

        assert (await lane.hear()).code == "no_model"


async def test_a_runtime_that_misses_one_look_keeps_its_models_and_is_withdrawn_after_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bed(tmp_path) as it:
        inventories = len(it.far.told("inventory"))
        it.runtime.models.clear()
        await it.agent._offering.look()
        assert it.models == ["m"]
        assert len(it.far.told("inventory")) == inventories
        await it.agent._offering.look()
        await until(lambda: it.models == [], "the models are still told")


async def test_what_did_not_change_is_not_told_again(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        for _ in range(3):
            await it.agent._offering.look()
        assert [told["revision"] for told in it.far.told("inventory")] == [1]

        it.runtime.models["n"] = FakeModel("n")
        await it.agent._offering.look()
        await until(lambda: len(it.far.told("inventory")) == 2, "the new model was not told")
        assert it.far.told("inventory")[-1]["revision"] == 2


async def test_enrolled_anew_while_it_runs_it_connects_as_the_new_node(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        enrol(tmp_path, it.far, "node-2")
        await until(lambda: it.far.auths[-1]["node"] == "node-2", "still the old node")
        await until(lambda: len(it.far.told("inventory")) >= 2, "the new connection knows no inventory")


async def test_it_ends_when_the_identity_is_taken_away(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        forget(tmp_path)
        await asyncio.wait_for(it.running, 5)

        assert any("identity of this node is gone" in text for text in it.said)


async def test_the_owners_leave_is_obeyed_once_and_is_no_obstacle_to_the_next_start(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        write_intent(tmp_path, Intent(leaving=True))
        await asyncio.wait_for(it.running, 5)
        assert it.far.told("leave")[0]["reason"] == "the owner left"

        again = Agent(tmp_path, say=lambda _: None)
        running = asyncio.create_task(again.run())
        await until(lambda: len(it.far.auths) == 2, "it does not come back")
        again.stop()
        again.stop()
        await asyncio.wait_for(running, 5)


async def test_the_service_manager_hears_that_it_is_ready_alive_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []

    class Ear(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            heard.append(data)

    import socket

    place = tmp_path / "notify"
    carrier = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    carrier.bind(str(place))
    carrier.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Ear, sock=carrier)
    monkeypatch.setenv("NOTIFY_SOCKET", str(place))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    async with bed(tmp_path / "node"):
        await until(lambda: heard.count(b"WATCHDOG=1") >= 2, "no sign of life")
    transport.close()

    assert heard[0] == b"READY=1"
    assert heard[-1] == b"STOPPING=1"


def test_the_lock_is_free_again_however_its_holder_ended(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Lock(tmp_path).take()
        os._exit(9)
    os.waitpid(child, 0)
    lock = Lock(tmp_path)
    lock.take()

    assert agent_runs(tmp_path)
    lock.release()
    assert not agent_runs(tmp_path)
    assert (tmp_path / LOCK).exists()
