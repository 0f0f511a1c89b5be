"""Copies for shadow targets over real sockets: whatever these do, no client sees it, and the books keep them apart."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import books
from tests.support.caller import Heard, ask, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, running, upstream
from tests.support.replies import Healthy, chunked, delta, error, event, packed, whole
from tests.support.scripted import Named, Recorded, ScriptedUpstream, soon
from tests.support.steps import Reset, Script, Stall, Wait

pytestmark = pytest.mark.slow

SECOND = ("a ", "second ", "opinion")
PRICE = {"input": 1000, "output": 1000}
MOST = 16
"""Copies to one shadow target under way at a time."""
_HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
_MOODS: dict[str, Script] = {
    "hangs": (Stall(),),
    "breaks": (Reset(),),
    "refuses": whole(packed(error("no")), 500),
    "breaks_midway": (*chunked([event(delta({"content": "tick "}))]), Reset()),
}


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Shadowed:
    """A gateway whose every call is copied, one route per kind of shadow target."""

    def __init__(self, gateway: Gateway, server: ScriptedUpstream) -> None:
        self.gateway, self.server = gateway, server

    async def call(self, model: str, *, stream: bool = True, tags: str = "") -> Heard:
        headers = {"x-intertie-tags": tags} if tags else {}
        url = f"{self.gateway.base_url}/chat/completions"
        return await ask(url, chat_call(model, stream=stream), key=CLIENT_KEY, headers=headers)

    def outcomes(self, model: str) -> Counter[str]:
        """What became of the copies of a route's calls, as `/metrics` has it."""
        return outcomes(self.gateway, model)

    async def settled(self, model: str, copies: int) -> bool:
        """Whether so many copies have ended, after a while."""
        return await soon(lambda: self.outcomes(model).total() >= copies, 10, every=0.05)


def outcomes(gateway: Gateway, model: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in gateway.get("/metrics").splitlines():
        if line.startswith("intertie_shadows_total{") and f'route="{model}"' in line:
            found[line.partition('outcome="')[2].partition('"')[0]] = int(float(line.rpartition(" ")[2]))
    return found


def entries_for(server: ScriptedUpstream) -> dict[str, Any]:
    """A route per mood of its shadow target, all answered by the same well upstream."""
    models = [{"name": "m", "price": PRICE}]
    names = ("well", "second", *_MOODS)
    places = [upstream(name, server.base_url(name), models=models) for name in names]
    places.append(upstream("down", f"http://127.0.0.1:{closed_port()}/v1", models=models))
    routes: list[dict[str, Any]] = [{"model": "plain", "targets": [{"upstream": "well", "model": "m"}]}]
    for name in ("second", "down", *_MOODS):
        shadow = {"targets": [{"upstream": name, "model": "m"}], "share": 1}
        routes.append({"model": f"to-{name}", "targets": [{"upstream": "well", "model": "m"}], "shadow": shadow})
    rules = [{"name": "private-stays", "when": {"tag": "private"}, "forbid": {"upstream": "second"}}]
    entries = configuration(places, routes, rules=rules, organisation={"budgets": [{"amount": 1000, "per": "total"}]})
    entries["projects"][0] |= {"budgets": [{"amount": 1000, "per": "total"}], "limits": {"rpm": 100_000}}
    return entries


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    replies: dict[str, Any] = {"well": Healthy(), "second": Healthy(SECOND), **_MOODS}
    with ScriptedUpstream(Named(replies)).running() as server:
        yield server


@pytest.fixture(scope="module")
def bed(server: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shadowed]:
    with running(tmp_path_factory.mktemp("shadow"), entries_for(server)) as gateway:
        yield Shadowed(gateway, server)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_copy_is_sent_and_booked_and_compared(bed: Shadowed, stream: bool) -> None:
    """The copied target was sent the same body; `usage --shadow` has its requests, tokens, cost and times."""
    before = len(bed.server.to("second"))
    heard = await bed.call("to-second", stream=stream)
    assert heard.text != "".join(SECOND)
    assert heard.headers["x-intertie-target"] == "well/m"
    assert await soon(lambda: len(bed.server.to("second")) > before, 5)
    assert json.loads(bed.server.to("second")[-1].body) == json.loads(bed.server.to("well")[-1].body)
    assert await soon(lambda: bed.server.to("second")[-1].answered_at is not None, 5)

    request_id = heard.headers["x-request-id"]
    assert await soon(lambda: len(_copies(bed, request_id)) == 2, 5, every=0.2)
    attempt, copy = _copies(bed, request_id)
    assert (copy["kind"], copy["id"], copy["state"], copy["stream"]) == ("shadow", f"{request_id}.s1", "ok", stream)
    assert (attempt["kind"], attempt["upstream"], attempt["cost_micros"]) == ("attempt", "second", copy["cost_micros"])
    assert (attempt["ttft_ms"] is not None) == stream
    (row,) = bed.gateway.cli("usage", "--by", "target", "--shadow")
    assert (row["name"], row["errors"]) == ("second/m", 0)
    assert row["cost_micros"] > 0
    assert row["duration_ms"] is not None
    assert all(row["name"] != "second/m" for row in bed.gateway.cli("usage", "--by", "target"))


def _copies(bed: Shadowed, request_id: str) -> list[dict[str, Any]]:
    return [one for one in bed.gateway.cli("ledger", "entries", "--limit", "10000") if one["shadow_of"] == request_id]


@pytest.mark.parametrize("mood", ["hangs", "breaks", "refuses", "breaks_midway", "down"])
async def test_whatever_a_shadow_target_does_no_client_sees_it(bed: Shadowed, mood: str) -> None:
    """Status, bytes, headers and times are those of a route without one; the same connection takes the next call."""
    times: dict[str, list[float]] = {"plain": [], f"to-{mood}": []}
    bodies: dict[str, set[bytes]] = {name: set() for name in times}
    for name, took in times.items():
        line = await dial(bed.gateway.url)
        for n in range(60):
            began = time.monotonic()
            body = packed(chat_call(name, stream=n % 2 == 0))
            heard = await line.hear(await line.send("/v1/chat/completions", body, _HEADERS))
            took.append(time.monotonic() - began)
            assert heard.status == 200
            assert heard.headers["x-intertie-attempts"] == "1"
            bodies[name].add(heard.body)
        line.hang_up()
    assert bodies["plain"] == bodies[f"to-{mood}"]
    plain, copied = (sorted(took)[len(took) // 2] for took in times.values())
    assert copied < plain + 0.05
    health = {one["name"]: one for one in bed.gateway.cli("usage", "--by", "route")}
    assert (health[f"to-{mood}"]["requests"], health[f"to-{mood}"]["errors"]) == (60, 0)


async def test_copies_that_hang_are_no_more_than_so_many(bed: Shadowed) -> None:
    """The others are dropped and counted; nobody waits for a place."""
    before = bed.outcomes("to-hangs")["dropped"]
    for _ in range(3):
        heard = await asyncio.gather(*(bed.call("to-hangs") for _ in range(40)))
        assert {one.status for one in heard} == {200}
    hanging = [one for one in bed.server.to("hangs") if one.answered_at is None and one.left_at is None]
    assert len(hanging) <= MOST
    assert bed.outcomes("to-hangs")["dropped"] - before >= 120 - MOST


async def test_a_forbidden_copy_is_not_sent(bed: Shadowed) -> None:
    """By a rule for the call's tag; `route explain` says so before. Other copies that hang are no hindrance."""
    before = len(bed.server.to("second"))
    for _ in range(10):
        assert (await bed.call("to-second", tags="private")).status == 200
    assert await soon(lambda: bed.outcomes("to-second")["no_eligible_target"] == 10, 5, every=0.1)
    assert len(bed.server.to("second")) == before
    told = bed.gateway.cli("route", "explain", "--model", "to-second", "--tag", "private")["shadow"]
    assert [(one["upstream"], one["allowed"]) for one in told] == [("second", False)]
    assert "private-stays" in told[0]["why"]


async def test_accounts_and_books_agree_to_the_unit(bed: Shadowed) -> None:
    """The project's budget has what callers were answered with, the organisation's the copies, too."""
    entries = bed.gateway.cli("ledger", "entries", "--limit", "10000")
    rows = {row["level"]: row for row in json.loads(bed.gateway.get("/api/limits")) if row["measure"] == "money"}
    answered = sum(one["cost_micros"] for one in entries if one["kind"] == "request")
    copied = sum(one["cost_micros"] for one in entries if one["kind"] == "shadow")
    assert copied > 0
    assert rows["project"]["spent"] == answered
    assert rows["project"]["reserved"] == 0
    assert rows["organisation"]["spent"] == answered + copied
    assert bed.gateway.cli("ledger", "verify")["problems"] == []
    assert sum(row["cost_micros"] for row in bed.gateway.cli("usage", "--by", "project")) == answered
    assert sum(row["cost_micros"] for row in bed.gateway.cli("usage", "--by", "project", "--shadow")) == copied


# -- money -----------------------------------------------------------------------------------------------------------

USED = 6 * 1000 + 11 * 1000
"""Micro-units of one answer, as the scripted upstream counts it."""


async def test_a_budget_of_the_shadow_target_is_not_passed_and_no_caller_notices(tmp_path: Path) -> None:
    """Two hundred calls in parallel, of which copies fit the budget for ten: never more is held and spent than that."""
    rng = random.Random(3)

    def sometime(request: Recorded) -> Script:
        return (Wait(rng.uniform(0.0, 0.05)), *Healthy(SECOND)(request))

    with ScriptedUpstream(Named({"well": Healthy(), "second": sometime})).running() as server:
        models = [{"name": "m", "price": {"input": 0, "output": 1000}}]
        cap = 10 * 6 * 1000
        budget = {"amount": cap / 1e6, "per": "total"}
        places = [upstream("well", server.base_url("well"), models=models)]
        places.append(upstream("second", server.base_url("second"), models=models, budgets=[budget]))
        shadow = {"targets": [{"upstream": "second", "model": "m"}], "share": 1}
        routes = [{"model": "model", "targets": [{"upstream": "well", "model": "m"}], "shadow": shadow}]
        with running(tmp_path, configuration(places, routes)) as gateway:
            bed, seen = Shadowed(gateway, server), list[int]()

            async def looking() -> None:
                while True:
                    (row,) = json.loads(await asyncio.to_thread(gateway.get, "/api/limits"))
                    seen.append(row["spent"] + row["reserved"])
                    await asyncio.sleep(0.005)

            async def one(n: int) -> Heard:
                url = f"{gateway.base_url}/chat/completions"
                return await ask(url, chat_call("model", stream=n % 2 == 0, max_tokens=6), key=CLIENT_KEY)

            watcher = asyncio.create_task(looking())
            for _ in range(10):
                heard = await asyncio.gather(*(one(n) for n in range(20)))
                assert {each.status for each in heard} == {200}
            assert await bed.settled("model", 200)
            watcher.cancel()
            (row,) = json.loads(gateway.get("/api/limits"))
            assert max(seen) <= cap
            assert (row["spent"], row["reserved"]) == (cap, 0)
            assert bed.outcomes("model")["ok"] == 10
            assert bed.outcomes("model")["targets_at_limit"] > 0
            assert len(server.to("second")) == 10


# -- the end ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(server: ScriptedUpstream, tmp_path: Path) -> Iterator[Shadowed]:
    """A gateway of its own with five copies that hang."""
    with running(tmp_path / "hanging", entries_for(server)) as gateway:
        bed = Shadowed(gateway, server)
        before = len(server.to("hangs"))

        async def five() -> None:
            await asyncio.gather(*(bed.call("to-hangs") for _ in range(5)))
            assert await soon(lambda: len(server.to("hangs")) == before + 5, 5)

        asyncio.run(five())
        yield bed


def test_a_stop_does_not_wait_for_copies_and_books_them(hanging: Shadowed) -> None:
    """They are cancelled; each is settled once, with the input that the vendor may bill."""
    began = time.monotonic()
    assert hanging.gateway.stop() == 0
    assert time.monotonic() - began < 5
    hanging.gateway.start()
    copies = [one for one in books(hanging.gateway).entries if one["kind"] == "shadow"]
    assert [(one["state"], one["error"]) for one in copies] == [("failed", "server_shutdown")] * 5
    assert all(one["input_tokens"] > 0 for one in copies)
    assert hanging.gateway.cli("ledger", "verify")["problems"] == []


def test_after_kill_9_copies_are_recovered_as_copies(hanging: Shadowed) -> None:
    """And cost the project nothing; the organisation's account has their estimate."""
    hanging.gateway.kill()
    hanging.gateway.start()
    found = books(hanging.gateway)
    copies = [one for one in found.entries if one["kind"] == "shadow"]
    assert [one["state"] for one in copies] == ["recovered"] * 5
    rows = {row["level"]: row for row in json.loads(hanging.gateway.get("/api/limits")) if row["measure"] == "money"}
    answered = sum(one["cost_micros"] for one in found.requests())
    assert rows["project"]["spent"] == answered
    assert rows["organisation"]["spent"] == answered + sum(one["cost_micros"] for one in copies)
    assert hanging.gateway.cli("ledger", "verify")["problems"] == []
