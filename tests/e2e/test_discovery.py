"""The real llama.cpp server with a real small model, found and read as an agent does it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from intertie.agent.discover import Approved, discover, running, survey
from intertie.agent.http import address as parts
from intertie.agent.http import connect, request_head
from intertie.agent.inventory import Runtime
from intertie.agent.measure import Rates, self_test
from intertie.cli.local_process import LocalModel
from intertie.controlplane.local_model import MODEL, PackagesMissing, prepare
from intertie.core.wire.http_response import AnswerHead
from tests.e2e.doors import Door

CONTEXT, SLOTS = 2048, 2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[LocalModel]:
    """A llama.cpp server with two slots that share 2048 tokens."""
    try:
        plan = prepare()
    except PackagesMissing as missing:
        pytest.fail(f"the real model is not installed ({missing}); scripts/test installs it")
    model = LocalModel(replace(plan, context=CONTEXT, slots=SLOTS), on_event=lambda _: None)
    model.start()
    yield model
    model.stop()
    assert model._child is not None
    assert model._child.stdout is not None
    model._child.stdout.close()


async def find(server: LocalModel) -> Runtime:
    """The one runtime at its address."""
    (found,) = await discover([Approved(server.address, server.key)], loopback=False)
    return found


async def test_context_slots_and_name_are_reported_right(server: LocalModel) -> None:
    """What its `/props` and `/v1/models` say of the loaded model, not what it was trained for (8192)."""
    found = await find(server)
    (model,) = found.models

    assert (found.kind, found.url, found.slots) == ("llama_cpp", server.address, SLOTS)
    assert (model.name, model.context, model.slots, model.loaded) == (MODEL, CONTEXT, SLOTS, True)
    assert (model.quantisation, model.parameters) == ("Q4_1", "135M")
    assert set(model.capabilities) == {"chat", "completion", "embedding", "tools", "json_schema"}


async def test_it_is_one_runtime_on_loopback_and_at_a_typed_address(server: LocalModel) -> None:
    """And without its key it is none, with a word to its owner."""
    port = int(server.address.rpartition(":")[2])
    both = await discover([Approved(f"http://localhost:{port}/v1", server.key)], loopback=True, ports=[port])
    without = await survey([], loopback=True, ports=[port])

    assert [one.kind for one in both] == ["llama_cpp"]
    assert without.runtimes == ()
    assert "key" in without.passed[0].why


async def test_it_tells_what_it_works_on_and_when_it_has_stopped(server: LocalModel) -> None:
    """One long answer is one; hanging up on it makes it none, soon."""
    found = await find(server)
    assert await running(found) == 0
    listening = Listening()
    connection = await connect(parts(found.url), listening)
    question = {"model": MODEL, "messages": [{"role": "user", "content": "Tell a long story."}], "stream": True}
    body = json.dumps({**question, "max_tokens": 1500, "ignore_eos": True}).encode()
    path, kind = "/v1/chat/completions", {"content-type": "application/json"}
    connection.send(request_head(parts(found.url), "POST", path, len(body), kind, found.key) + body)
    await asyncio.wait_for(listening.first.wait(), 30)

    assert await running(found) == 1
    connection.abort()
    deadline = time.monotonic() + 5
    while await running(found) != 0:
        assert time.monotonic() < deadline, "it goes on although nobody listens"
        await asyncio.sleep(0.05)


class Listening:
    """Waits for the first piece of an answer. A `Receiver`."""

    def __init__(self) -> None:
        self.first = asyncio.Event()

    def headed(self, head: AnswerHead) -> None: ...

    def took(self, piece: bytes) -> None:
        self.first.set()

    def over(self, problem: str) -> None: ...

    def hold(self) -> None: ...

    def go_on(self) -> None: ...


async def test_its_speed_is_measured_by_one_short_question(server: LocalModel) -> None:
    """32 tokens, counted by the server itself."""
    found, rates = await find(server), Rates()
    trial = await self_test(found, found.models[0], rates=rates)

    assert trial.answered, trial.why
    assert 8 <= trial.output_tokens <= 32
    assert trial.input_tokens > 5
    assert (rates.of(MODEL).decode or 0) > 1


async def test_a_gateway_is_never_taken_for_a_runtime(scripted: Door) -> None:
    """Not on loopback without a key, and not with one: a node that offered its own gateway would go in circles."""
    gateway = scripted.gateway
    port = int(gateway.url.rpartition(":")[2])
    on_loopback = await survey([], loopback=True, ports=[port])
    typed = await survey([Approved(gateway.url, gateway.key)], loopback=False)

    assert on_loopback.runtimes == typed.runtimes == ()
    assert "gateway" in on_loopback.passed[0].why
    assert "gateway" in typed.passed[0].why
