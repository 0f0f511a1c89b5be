"""Finding runtimes over real sockets: six fakes with the real ones' answers, beside ports that hang or lie."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from intertie.agent.discover import LIMIT, Approved, discover, running, survey
from intertie.agent.inventory import Runtime
from tests.support.runtimes import KINDS, FakeRuntime
from tests.support.shapes import FakeModel

GARBAGE = b"\x00\xff\x00 this is no HTTP at all" * 50
WRONG_SHAPES = (
    b'{"data": {"id": "x"}}',
    b'{"data": [1, null, {"id": 5}]}',
    b"[" * 100_000,
    b'"models"',
    b'{"data": [{"id": "' + b"x" * 5000 + b'"}]}',
)


def answer(body: bytes) -> bytes:
    """A well-formed answer with any body."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def together(*fakes: FakeRuntime) -> AsyncIterator[Sequence[FakeRuntime]]:
    """All of them at once."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(fake) for fake in fakes]


async def look(*fakes: FakeRuntime) -> list[Runtime]:
    """What is found on the fakes' ports as if they were the usual ones."""
    return await discover([], loopback=True, ports=[fake.port for fake in fakes])


async def only(fake: FakeRuntime) -> Runtime:
    """The one that is found."""
    (found,) = await look(fake)
    return found


async def test_all_six_are_told_apart_whatever_their_port() -> None:
    """Kind, model, context, slots and version are those of the fake."""
    async with together(*(FakeRuntime(kind) for kind in KINDS)) as fakes:
        found = {runtime.kind: runtime for runtime in await look(*fakes)}

        assert sorted(found) == sorted(KINDS)
        for fake in fakes:
            runtime = found[fake.kind]
            (model,) = runtime.models
            assert runtime.url == fake.url
            assert (model.name, model.context) == (next(iter(fake.models)), 8192)
            assert {"chat", "completion", "json_schema"} <= set(model.capabilities)
            assert runtime.slots == (1 if fake.kind == "ollama" else 4)
            assert runtime.version == ("" if fake.kind == "lm_studio" else "1.2.3")


@pytest.mark.slow
async def test_all_six_are_found_within_five_seconds_among_ports_that_hang_lie_and_trickle() -> None:
    """A port that never answers costs its own time only."""
    bad = [
        FakeRuntime("ollama", hang=True),
        FakeRuntime("llama_cpp", hang=True),
        FakeRuntime("vllm", slow=30.0),
        FakeRuntime("compatible", lie=GARBAGE),
        FakeRuntime("compatible", lie=b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + b"x" * (3 << 20)),
    ]
    async with together(*(FakeRuntime(kind) for kind in KINDS), *bad) as fakes:
        began = time.monotonic()
        found = await look(*fakes)
        took = time.monotonic() - began

        assert {runtime.kind for runtime in found} == set(KINDS)
        assert took < 5.0


@pytest.mark.slow
async def test_one_that_answers_each_question_slowly_is_given_up_in_time() -> None:
    """The whole look has a limit too, not only each question."""
    async with together(FakeRuntime("compatible", slow=1.2), FakeRuntime("ollama")) as fakes:
        began = time.monotonic()
        found = await survey([Approved(fakes[0].url)], loopback=True, ports=[fakes[1].port])

        assert time.monotonic() - began < LIMIT + 0.4
        assert [runtime.kind for runtime in found.runtimes] == ["ollama"]
        assert [one.why for one in found.passed] == ["it answers too slowly"]


@pytest.mark.parametrize("body", WRONG_SHAPES)
async def test_a_list_of_the_wrong_shape_is_no_list(body: bytes) -> None:
    """Whatever is in it, nothing is found and nothing is raised."""
    async with together(FakeRuntime("compatible", lie=answer(body))) as (fake,):
        assert await look(fake) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_runtime_that_answers_every_question_with_the_same_nonsense(kind: str) -> None:
    """Its own paths lie as well: it is at most a server of no known kind."""
    async with together(FakeRuntime(kind, lie=answer(b'{"data": [{"id": "m", "owned_by": "vllm"}], "models": 7}'))) as (
        fake,
    ):
        for runtime in await look(fake):
            assert [model.name for model in runtime.models] == ["m"]


@pytest.mark.parametrize("kind", ["ollama", "llama_cpp", "lm_studio"])
async def test_loading_and_unloading_shows_at_the_next_look(kind: str) -> None:
    """With the context of what is loaded, and none where nobody knows."""
    async with together(FakeRuntime(kind)) as (fake,):
        name = next(iter(fake.models))
        fake.unload(name)
        (before,) = (await only(fake)).models
        fake.load(name)
        fake.models[name].context = 16384
        (after,) = (await only(fake)).models

        assert (before.loaded, after.loaded) == (False, True)
        assert after.context == 16384
        assert before.context is None or kind == "llama_cpp"


async def test_models_that_come_and_go_show_too() -> None:
    """An Ollama whose owner pulls a model, and removes another."""
    async with together(FakeRuntime("ollama")) as (fake,):
        await only(fake)
        fake.models = {
            "mistral:7b": FakeModel("mistral:7b"),
            "bge-m3:latest": FakeModel("bge-m3:latest", embedding=True),
        }
        found = {model.name: model for model in (await only(fake)).models}

        assert sorted(found) == ["bge-m3:latest", "mistral:7b"]
        assert found["bge-m3:latest"].capabilities == ("embedding",)


async def test_an_ollama_without_a_model_is_still_there() -> None:
    """Its owner is about to pull one; its list of models says `null`."""
    async with together(FakeRuntime("ollama")) as (fake,):
        fake.models = {}

        assert (await only(fake)).models == ()


async def test_what_a_look_asks_again_and_again_is_little() -> None:
    """A second look at an Ollama asks for lists, and not for every model once more."""
    models = [FakeModel(f"model-{n}:latest") for n in range(20)]
    async with together(FakeRuntime("ollama", models)) as (fake,):
        await only(fake)
        fake.asked.clear()
        found = await only(fake)

        assert all("tools" in model.capabilities for model in found.models)
        assert sorted(one.path for one in fake.asked) == ["/api/ps", "/api/tags", "/api/version", "/v1/models"]


async def test_neither_a_gateway_nor_a_proxy_of_a_paid_account_is_a_runtime() -> None:
    """Not on a usual port; and a gateway not even if somebody typed it."""
    async with together(FakeRuntime("gateway"), FakeRuntime("proxy")) as (gateway, proxy):
        found = await survey([], loopback=True, ports=[gateway.port, proxy.port])
        typed = await survey([Approved(gateway.url), Approved(proxy.url)], loopback=False)

        assert found.runtimes == ()
        assert [one.url for one in found.passed] == [gateway.url, proxy.url]
        assert [(runtime.kind, runtime.url) for runtime in typed.runtimes] == [("compatible", proxy.url)]


async def test_a_gateway_that_asks_for_a_key_is_not_taken_for_a_protected_runtime() -> None:
    """Its refusals say what it is."""
    async with together(FakeRuntime("gateway", key="sk-gw-1")) as (gateway,):
        found = await survey([], loopback=True, ports=[gateway.port])

        assert [one.why for one in found.passed] == ["it is a gateway, and a node offers runtimes only"]


async def test_another_compatible_server_on_a_usual_port_is_taken_for_what_it_is() -> None:
    """Not for the runtime that usually has the port."""
    async with together(FakeRuntime("compatible")) as (fake,):
        found = await only(fake)

        assert (found.kind, found.slots) == ("compatible", 1)
        assert found.models[0].capabilities == ("chat", "completion")


async def test_a_protected_runtime_is_found_with_its_key_only() -> None:
    """Without, its owner hears why; the key shows in no text."""
    async with together(FakeRuntime("llama_cpp", key="sk-of-the-owner")) as (fake,):
        without = await survey([Approved(fake.url)], loopback=False)
        wrong = await survey([Approved(fake.url, "sk-another")], loopback=False)
        (found,) = await discover([Approved(fake.url, "sk-of-the-owner")], loopback=False)

        assert without.passed[0].why == "it asks for a key; approve it with its key"
        assert wrong.passed[0].why == "it does not accept the key"
        assert found.key == "sk-of-the-owner"
        assert "sk-of-the-owner" not in repr(found) + repr(Approved(fake.url, "sk-of-the-owner"))


async def test_an_address_where_nothing_listens_is_named_if_it_was_typed() -> None:
    """And on loopback it is what most ports are."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        typed = await survey([Approved(f"http://127.0.0.1:{port}")], loopback=False)
        usual = await survey([], loopback=True, ports=[port])

    assert [one.why for one in typed.passed] == ["nothing answers there"]
    assert usual == ((), ())


@pytest.mark.parametrize("kind", KINDS)
async def test_one_runtime_in_two_spellings_is_there_once(kind: str) -> None:
    """And with the key of the spelling that has one."""
    async with together(FakeRuntime(kind)) as (fake,):
        spelt = [Approved(f"http://LOCALHOST:{fake.port}/v1/", "sk-1"), Approved(f"http://127.0.0.1:{fake.port}")]
        (found,) = await discover(spelt, loopback=True, ports=[fake.port])

        assert (found.url, found.key) == (fake.url, "sk-1")


@pytest.mark.parametrize("kind", KINDS)
async def test_one_runtime_at_two_addresses_of_this_machine_is_there_once(kind: str) -> None:
    """At the one that was typed, where a system has a second loopback address (Linux)."""
    async with together(FakeRuntime(kind, host="0.0.0.0")) as (fake,):
        typed = f"http://127.0.0.2:{fake.port}"
        (found,) = await discover([Approved(typed)], loopback=True, ports=[fake.port])

        assert found.url == (typed if sys.platform == "linux" else fake.url)


async def test_two_runtimes_with_the_same_model_are_two() -> None:
    """On two ports of one machine."""
    async with together(
        *(FakeRuntime("vllm") for _ in range(2)), *(FakeRuntime("llama_cpp") for _ in range(2))
    ) as fakes:
        assert len(await look(*fakes)) == 4


@pytest.mark.parametrize("kind", KINDS)
async def test_running_counts_what_the_runtime_holds(kind: str) -> None:
    """Its owner's requests too, those that wait included; Ollama and LM Studio do not tell."""
    async with together(FakeRuntime(kind, slots=2)) as (fake,):
        runtime = await only(fake)
        idle = await running(runtime)
        fake.foreign = 3
        busy = await running(runtime)

        assert (idle, busy) == ((None, None) if kind in {"ollama", "lm_studio"} else (0, 3))


@pytest.mark.parametrize("kind", ["llama_cpp", "sglang"])
async def test_without_metrics_it_is_asked_another_way(kind: str) -> None:
    """Both have metrics only if told so."""
    async with together(FakeRuntime(kind, metrics=False, foreign=2)) as (fake,):
        assert await running(await only(fake)) == 2


async def test_a_runtime_that_went_away_tells_nothing() -> None:
    """No error: whoever asks has other ways."""
    async with together(FakeRuntime("vllm")) as (fake,):
        runtime = await only(fake)

    assert await running(runtime) is None


async def test_no_secret_of_a_runtime_gets_into_what_is_read() -> None:
    """SGLang's server information has its key in it."""
    async with together(FakeRuntime("sglang")) as (fake,):
        assert "sk-must-not-leave" not in repr(vars(await only(fake)))


async def test_looks_do_not_pile_up_connections() -> None:
    """Every question closes its connection."""
    async with together(*(FakeRuntime(kind) for kind in KINDS)) as fakes:
        for _ in range(3):
            await look(*fakes)
        deadline = time.monotonic() + 2.0
        while any(fake.open_connections for fake in fakes):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
