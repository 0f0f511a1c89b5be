"""T47, F52: kept answers under every upstream fault, under clients that leave, and when the gateway is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.fault.matrix import Cell, cells, played
from tests.support import faults
from tests.support.books import books
from tests.support.caller import Heard, ask, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy, paced, packed
from tests.support.scripted import Named, ScriptedUpstream, soon

pytestmark = pytest.mark.slow

CACHE = {"cache": {"ttl": 3600}}
HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
PRICE = [{"name": "m", "price": {"input": 1, "output": 2}}]
COST = 11 + 2 * 6
MODELS = ("kept", "plain")


@pytest.fixture
def server() -> Iterator[ScriptedUpstream]:
    """An upstream that takes a third of a second for a stream."""
    with ScriptedUpstream(Named({name: Healthy(every=0.04) for name in MODELS})).running() as server:
        yield server


@pytest.fixture
def gateway(server: ScriptedUpstream, tmp_path: Path) -> Iterator[Gateway]:
    """One route that keeps answers, one that does not."""
    upstreams = [upstream(name, server.base_url(name), models=PRICE) for name in MODELS]
    entries = configuration(upstreams, [{**route("kept", "kept"), **CACHE}, route("plain", "plain")])
    with running(tmp_path, entries) as gateway:
        yield gateway


def say(
    gateway: Gateway,
    model: str = "kept",
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    stream: bool = False,
    **fields: Any,
) -> Heard:
    """One request from its beginning to its end."""
    call = chat_call(model, stream=stream, **fields)
    return asyncio.run(ask(f"{gateway.base_url}/chat/completions", call, key=CLIENT_KEY, headers=headers))


def idem(key: str) -> dict[str, str]:
    return {"idempotency-key": key}


def test_t47_no_faulty_answer_leaves_an_entry(tmp_path: Path) -> None:
    def alone(elsewhere: str) -> list[Cell]:
        return cells([*faults.before(elsewhere), *faults.after()], alone=True)

    with played(tmp_path, alone, CACHE) as matrix:
        wrong = [name for name, heard in matrix.heard.items() if heard.finished]
        found = matrix.gateway.cli("cache", "status")
        assert (found["memory_entries"], found["disk_entries"]) == (len(wrong), len(wrong)), wrong
        assert not wrong


def test_fifty_equal_calls_at_once_cost_one_upstream_request(gateway: Gateway, server: ScriptedUpstream) -> None:
    async def all_at_once() -> list[Heard]:
        url = f"{gateway.base_url}/chat/completions"
        return await asyncio.gather(*(ask(url, chat_call("kept", stream=n % 5 > 0), key=CLIENT_KEY) for n in range(50)))

    heard = asyncio.run(all_at_once())
    assert all(one.finished for one in heard)
    assert len({one.text for one in heard}) == 1
    assert len(server.requests) == 1
    said = [one.headers["x-intertie-cache"] for one in heard]
    assert said.count("miss") == 1
    assert said.count("coalesced") + said.count("hit") == 49
    (row,) = gateway.cli("usage")
    assert (row["requests"], row["cache_hits"], row["cost_micros"], row["saved_micros"]) == (50, 49, COST, 49 * COST)
    assert gateway.cli("ledger", "verify")["problems"] == []


def test_when_the_leader_hangs_up_another_call_takes_over(gateway: Gateway, server: ScriptedUpstream) -> None:
    async def play() -> list[Heard]:
        leader = await dial(gateway.url)
        heard = await leader.send("/v1/chat/completions", packed(chat_call("kept", stream=True)), HEADERS)
        await leader.hear(heard, until=b"Gr")
        url = f"{gateway.base_url}/chat/completions"
        rest = [asyncio.create_task(ask(url, chat_call("kept", stream=True), key=CLIENT_KEY)) for _ in range(5)]
        await asyncio.sleep(0.05)
        leader.hang_up()
        return await asyncio.gather(*rest)

    heard = asyncio.run(play())
    assert all(one.finished for one in heard)
    assert len(server.requests) == 2
    assert [one.headers["x-intertie-cache"] for one in heard].count("miss") == 1


def test_followers_that_hang_up_and_deadlines_harm_nobody(gateway: Gateway, server: ScriptedUpstream) -> None:
    named = server.reply
    assert isinstance(named, Named)
    named.replies["kept"] = paced(40, 0.05)

    async def play() -> tuple[Heard, Heard]:
        url = f"{gateway.base_url}/chat/completions"
        leading = asyncio.create_task(ask(url, chat_call("kept", stream=True), key=CLIENT_KEY))
        assert await soon(lambda: bool(server.requests), 5)
        for _ in range(5):
            line = await dial(gateway.url)
            await line.send("/v1/chat/completions", packed(chat_call("kept")), HEADERS)
            await asyncio.sleep(0.02)
            line.hang_up()
        late = await ask(url, chat_call("kept"), key=CLIENT_KEY, headers={"x-intertie-deadline-ms": "100"})
        return await leading, late

    leader, late = asyncio.run(play())
    assert leader.finished
    assert (late.status, late.json["error"]["code"]) == (504, "deadline_exceeded")
    assert len(server.requests) == 1
    found = books(gateway)
    assert sorted(entry["state"] for entry in found.requests()) == [*["cancelled"] * 5, "failed", "ok"]


@pytest.mark.parametrize("stream", [False, True])
def test_f52_a_key_is_paid_once_through_retries_and_kill_9(
    gateway: Gateway, server: ScriptedUpstream, stream: bool
) -> None:
    first = say(gateway, "plain", idem("order-1"), stream=stream)
    second = say(gateway, "plain", idem("order-1"), stream=stream)
    gateway.kill()
    gateway.start()
    third = say(gateway, "plain", idem("order-1"), stream=stream)
    assert [one.headers.get("idempotent-replayed") for one in (first, second, third)] == [None, "true", "true"]
    assert first.body == second.body == third.body
    assert len({one.headers["x-request-id"] for one in (first, second, third)}) == 3
    assert len(server.requests) == 1
    other = say(gateway, "plain", idem("order-1"), stream=stream, temperature=0)
    assert (other.status, other.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert gateway.cli("usage")[0]["cost_micros"] == COST


def test_f52_a_hundred_calls_with_one_key_are_one_upstream_request(gateway: Gateway, server: ScriptedUpstream) -> None:
    async def all_at_once() -> list[Heard]:
        url = f"{gateway.base_url}/chat/completions"
        call = chat_call("plain", stream=True)
        return await asyncio.gather(*(ask(url, call, key=CLIENT_KEY, headers=idem("k")) for _ in range(100)))

    heard = asyncio.run(all_at_once())
    assert len({one.body for one in heard}) == 1
    assert len(server.requests) == 1


def test_a_key_whose_client_hung_up_is_free_for_its_retry(gateway: Gateway, server: ScriptedUpstream) -> None:
    async def play() -> Heard:
        line = await dial(gateway.url)
        call = packed(chat_call("plain", stream=True))
        heard = await line.send("/v1/chat/completions", call, {**HEADERS, **idem("k")})
        await line.hear(heard, until=b"Gr")
        line.hang_up()
        url = f"{gateway.base_url}/chat/completions"
        return await ask(url, chat_call("plain", stream=True), key=CLIENT_KEY, headers=idem("k"))

    assert asyncio.run(play()).finished
    assert len(server.requests) == 2


def test_kill_9_in_the_middle_leaves_a_usable_cache(gateway: Gateway, server: ScriptedUpstream) -> None:
    def prompt(number: int) -> dict[str, object]:
        return chat_call("kept", stream=number % 2 > 0, seed=number)

    async def busy() -> None:
        url = f"{gateway.base_url}/chat/completions"
        tasks = [asyncio.create_task(ask(url, prompt(n), key=CLIENT_KEY)) for n in range(200)]
        await asyncio.sleep(0.6)
        gateway.kill()
        await asyncio.gather(*tasks, return_exceptions=True)

    for number in range(20):
        say(gateway, stream=number % 2 > 0, seed=number)
    asyncio.run(busy())
    gateway.start()
    asked = len(server.requests)
    again = [say(gateway, stream=number % 2 > 0, seed=number) for number in range(20)]
    assert {one.headers["x-intertie-cache"] for one in again} == {"hit"}
    assert len(server.requests) == asked
    found = gateway.cli("cache", "status")
    assert (found["resets"], found["failure"]) == (0, "")
    assert say(gateway, seed=10_000).headers["x-intertie-cache"] == "miss"
    assert gateway.cli("ledger", "verify")["problems"] == []


def test_a_damaged_file_stops_nothing(gateway: Gateway) -> None:
    say(gateway)
    gateway.stop()
    (gateway.data / "answers.db").write_bytes(b"garbage" * 10_000)
    gateway.start()
    assert say(gateway).headers["x-intertie-cache"] == "miss"
    assert say(gateway).headers["x-intertie-cache"] == "hit"
    assert gateway.cli("cache", "status")["resets"] == 1


def test_clearing_is_asked_for_by_route_key_and_prefix_and_is_recorded(gateway: Gateway) -> None:
    key = say(gateway).headers["x-intertie-cache-key"]
    assert gateway.cli("cache", "clear", "--route", "other") == {"cleared": 0}
    assert gateway.cli("cache", "clear", "--prefix", "ke") == {"cleared": 1}
    say(gateway)
    assert gateway.cli("cache", "clear", "--key", key) == {"cleared": 1}
    assert say(gateway).headers["x-intertie-cache"] == "miss"
    say(gateway, "plain", idem("k"))
    assert gateway.cli("cache", "clear") == {"cleared": 1}
    assert say(gateway, "plain", idem("k")).headers["idempotent-replayed"] == "true"
    assert gateway.cli("cache", "clear", "--idempotency") == {"cleared": 1}
    recorded = gateway.cli("audit", "list", "--action", "cache.clear")
    assert [row["detail"] for row in recorded] == [{}, {}, {"key": key}, {"prefix": "ke"}, {"route": "other"}]


def test_nothing_of_an_answer_or_a_prompt_is_readable_on_the_disk(gateway: Gateway) -> None:
    say(gateway, user="CANARY-1", stop="CANARY-2")
    say(gateway, "plain", idem("CANARY-3"))
    gateway.stop()
    stored = b"".join(path.read_bytes() for path in gateway.data.glob("answers.db*"))
    assert stored
    assert b"CANARY" not in stored
    assert b"plainly" not in stored
