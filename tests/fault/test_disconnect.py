"""F47, S10: clients hang up at every phase; the upstream is cancelled within a second and the books say the cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.books import Books, books
from tests.support.caller import Line, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy, paced, packed
from tests.support.scripted import Named, Reply, ScriptedUpstream, soon
from tests.support.steps import Script, Stall

pytestmark = pytest.mark.slow

MIDSTREAM = 1000
EARLY = 150
_AT_ONCE = 100
_HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
_REPLIES: dict[str, Script | Reply] = {
    "midstream": paced(100_000, 0.02, finish=False),
    "silent_stream": (Stall(),),
    "silent_plain": (Stall(),),
    "healthy": Healthy(),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    """Endless streams, endless silence, and one that answers."""
    with ScriptedUpstream(Named(dict(_REPLIES))).running() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a route for each."""
    upstreams = [upstream(name, server.base_url(name)) for name in _REPLIES]
    entries = configuration(upstreams, [route(name, name) for name in _REPLIES])
    with running(tmp_path_factory.mktemp("disconnect"), entries) as gateway:
        yield gateway


async def ask(gateway: Gateway, model: str, marker: str) -> Line:
    """A call; where its upstream streams, output has come."""
    line = await dial(gateway.url)
    call = packed(chat_call(model, stream=model != "silent_plain", user=marker))
    heard = await line.send("/v1/chat/completions", call, _HEADERS)
    if model == "midstream":
        await line.hear(heard, until=b"tick")
        assert heard.status == 200, heard.body
    return line


async def at_work(server: ScriptedUpstream, model: str, count: int) -> bool:
    """So many calls have come to that upstream, soon."""
    return await soon(lambda: len(server.to(model)) == count, 10)


async def leave_all(gateway: Gateway, server: ScriptedUpstream, model: str, count: int) -> list[float]:
    """Seconds from each client's leaving to its upstream connection's closing; infinite where it stayed open.

    They leave once the upstream is at work for all of them. One look for all: a hundred clients that look for
    themselves keep the interpreter from the upstream, which lives in this process.
    """
    left: dict[str, float] = {}
    for start in range(0, count, _AT_ONCE):
        end = min(start + _AT_ONCE, count)
        markers = [f"{model}-{number}" for number in range(start, end)]
        lines = await asyncio.gather(*(ask(gateway, model, marker) for marker in markers))
        assert await at_work(server, model, end)
        left |= {marker: line.hang_up() for marker, line in zip(markers, lines, strict=True)}
    asked = {request.call["user"]: request for request in server.to(model)}
    await soon(lambda: all(request.left_at is not None for request in asked.values()), 5)
    return [(asked[marker].left_at or float("inf")) - moment for marker, moment in left.items()]


@pytest.fixture(scope="module")
def baseline(gateway: Gateway) -> int:
    """Sockets the gateway has open before anyone has left."""
    return gateway.sockets()


@pytest.fixture(scope="module")
def delays(gateway: Gateway, server: ScriptedUpstream, baseline: int) -> dict[str, list[float]]:
    """How long each cancelled upstream connection outlived its client."""

    async def everyone() -> dict[str, list[float]]:
        counts = {"midstream": MIDSTREAM, "silent_stream": EARLY, "silent_plain": EARLY}
        return {model: await leave_all(gateway, server, model, count) for model, count in counts.items()}

    return asyncio.run(everyone())


@pytest.fixture(scope="module")
def ledger(gateway: Gateway, delays: dict[str, list[float]]) -> Books:
    """The books after all have left."""
    return books(gateway)


@pytest.mark.parametrize("model", ["midstream", "silent_stream", "silent_plain"])
def test_f47_the_upstream_is_cancelled_within_a_second(delays: dict[str, list[float]], model: str) -> None:
    """Every single upstream connection is closed within 1 s of its client's leaving."""
    assert len(delays[model]) == (MIDSTREAM if model == "midstream" else EARLY)
    assert max(delays[model]) < 1.0


async def test_sockets_return_to_the_baseline(
    gateway: Gateway, server: ScriptedUpstream, delays: dict[str, list[float]], baseline: int
) -> None:
    """Two seconds later nothing is left of 1,300 broken conversations, on either side."""
    assert await soon(lambda: gateway.sockets() <= baseline, 2, every=0.1), f"{baseline} -> {gateway.sockets()}"
    assert server.open_connections() == 0


def test_s10_a_client_that_left_midstream_is_charged_what_was_delivered(ledger: Books) -> None:
    """State cancelled, status 499, usage estimated: the input and at least the piece the client saw."""
    entries = [entry for entry in ledger.requests() if entry["route"] == "midstream"]
    assert len(entries) == MIDSTREAM
    assert {(entry["state"], entry["status"], entry["estimated"]) for entry in entries} == {("cancelled", 499, True)}
    assert all(entry["input_tokens"] > 0 and 1 <= entry["output_tokens"] < 1000 for entry in entries)


@pytest.mark.parametrize("model", ["silent_stream", "silent_plain"])
def test_s10_a_client_that_left_before_output_is_charged_the_input(ledger: Books, model: str) -> None:
    """State cancelled; no output was seen, so none is charged, and the estimate is marked."""
    entries = [entry for entry in ledger.requests() if entry["route"] == model]
    assert len(entries) == EARLY
    assert {(entry["state"], entry["output_tokens"], entry["estimated"]) for entry in entries} == {
        ("cancelled", 0, True)
    }


def test_clients_that_left_harm_nobodys_health(gateway: Gateway, delays: dict[str, list[float]]) -> None:
    """After so many hang-ups the target still takes calls: a disconnect is not its failure (S4)."""

    async def one_more() -> int:
        line = await dial(gateway.url)
        heard = await line.send("/v1/chat/completions", packed(chat_call("midstream", stream=True)), _HEADERS)
        await line.hear(heard, until=b"tick")
        line.hang_up()
        return heard.status

    assert asyncio.run(one_more()) == 200


def test_no_cancelled_request_is_in_the_books_twice(ledger: Books, gateway: Gateway) -> None:
    """One entry each, and the ledger verifies."""
    assert ledger.repeated() == []
    ran = gateway.run("ledger", "verify", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
