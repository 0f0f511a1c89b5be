"""The one short question, asked of a fake runtime over a real socket."""

from __future__ import annotations

import pytest

from intertie.agent.discover import Approved, discover
from intertie.agent.inventory import Model, Runtime
from intertie.agent.measure import Rates, Trial, candidate, self_test
from tests.support.runtimes import KINDS, FakeRuntime
from tests.support.shapes import FakeModel


async def found(fake: FakeRuntime) -> tuple[Runtime, Model]:
    """What an agent would ask."""
    chosen = candidate(await discover([Approved(fake.url, fake.key)], loopback=False))
    assert chosen is not None
    return chosen


async def tried(fake: FakeRuntime, seconds: float = 5.0) -> Trial:
    """The question's outcome."""
    return await self_test(*await found(fake), seconds=seconds)


@pytest.mark.parametrize("kind", KINDS)
async def test_it_streams_some_tokens_and_times_them(kind: str) -> None:
    """With the runtime's key, and through the path every caller takes."""
    async with FakeRuntime(kind, key="sk-runtime", rate=400.0, first=0.05) as fake:
        rates = Rates()
        trial = await self_test(*await found(fake), rates=rates)

        assert (trial.answered, trial.output_tokens, trial.input_tokens) == (True, 32, 100)
        assert 0.05 <= trial.seconds_to_first < trial.seconds
        assert 50 < (trial.decode or 0) < 800
        assert rates.of(trial.model).decode is not None
        (asked,) = fake.completions()[-1:]
        assert (asked.call["stream"], asked.call["max_tokens"]) == (True, 32)


async def test_an_embedding_model_embeds() -> None:
    """It cannot chat, but it can show that it answers."""
    async with FakeRuntime("ollama", [FakeModel("bge-m3:latest", embedding=True)]) as fake:
        trial = await tried(fake)

        assert (trial.answered, trial.decode) == (True, None)


async def test_it_never_asks_while_others_are_served() -> None:
    """Neither while the node serves, nor while its owner uses the runtime."""
    async with FakeRuntime("vllm") as fake:
        runtime, model = await found(fake)
        while_serving = await self_test(runtime, model, busy=lambda: True)
        fake.foreign = 1
        while_used = await self_test(runtime, model)

        assert not while_serving.answered
        assert not while_used.answered
        assert fake.completions() == []


async def test_its_failures_have_a_reason_and_never_raise() -> None:
    """Refused, cut, hanging, gone."""
    async with FakeRuntime("ollama") as fake:
        fake.refuse = 503
        refused = await tried(fake)
        fake.refuse, fake.cut = 0, 3
        cut = await tried(fake)
        fake.cut = None
        runtime, model = await found(fake)
        fake.hang = True
        hanging = await self_test(runtime, model, seconds=0.3)
    gone = await self_test(runtime, model, seconds=1.0)

    assert refused.why == "it answered with status 503"
    assert cut.why == "the answer broke off"
    assert hanging.why == "no answer within 0.3 seconds"
    assert "cannot be reached" in gone.why
    assert not any(trial.answered for trial in (refused, cut, hanging, gone))
