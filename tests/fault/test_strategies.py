"""`cheapest` and `fastest` on live traffic: a slow cheap upstream, a fast dear one, and a free machine of one's own."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import ask, chat_call
from tests.support.gateway import Gateway, configuration, running, upstream
from tests.support.replies import Healthy
from tests.support.scripted import Named, Recorded, ScriptedUpstream
from tests.support.steps import Script, Wait

pytestmark = pytest.mark.slow

ADAPTS = 30.0
"""Seconds within which routing must follow a change."""
PRICES = {"cheap": {"input": 1, "output": 2}, "dear": {"input": 10, "output": 30}, "own": "free"}


class Delayed:
    """Healthy answers after some seconds, which a test may change."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._healthy = Healthy()

    def __call__(self, request: Recorded) -> Script:
        """Wait, then answer."""
        return (Wait(self.seconds), *self._healthy(request))


class Bed:
    """The gateway, and how long each of its upstreams takes."""

    def __init__(self, gateway: Gateway, scripted: ScriptedUpstream, delays: dict[str, Delayed]) -> None:
        self.gateway = gateway
        self.scripted = scripted
        self.delays = delays

    async def load(self, model: str, seconds: float, *, every: float = 0.05, tags: str = "") -> Counter[str]:
        """Streamed calls at a constant rate; who answered how many of them."""
        headers = {"x-intertie-tags": tags} if tags else {}
        tasks = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            tasks.append(asyncio.create_task(self._one(model, headers)))
            await asyncio.sleep(every)
        return Counter(await asyncio.gather(*tasks))

    async def _one(self, model: str, headers: dict[str, str]) -> str:
        gateway = self.gateway
        url = f"{gateway.base_url}/chat/completions"
        heard = await ask(url, chat_call(model, stream=True), key=gateway.key, headers=headers)
        assert heard.status == 200, heard.body
        return heard.headers["x-intertie-target"].partition("/")[0]

    def explain(self, model: str, *options: str) -> list[dict[str, Any]]:
        """The candidates of an explanation."""
        found: list[dict[str, Any]] = self.gateway.cli("route", "explain", "--model", model, *options)["candidates"]
        return found


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    delays = {"cheap": Delayed(0.4), "dear": Delayed(0.02), "own": Delayed(0.15)}
    with ScriptedUpstream(Named(dict(delays))).running() as scripted:
        upstreams = [
            upstream(
                name,
                scripted.base_url(name),
                trust="own" if name == "own" else "vendor",
                models=[{"name": "m", "price": price}],
            )
            for name, price in PRICES.items()
        ]
        targets = [{"upstream": name, "model": "m"} for name in PRICES]
        routes = [{"model": name, "strategy": name, "targets": targets} for name in ("cheapest", "fastest")]
        rules = [{"name": "paid", "when": {"tag": "paid"}, "forbid": {"trust": "own"}}]
        folder: Path = tmp_path_factory.mktemp("strategies")
        with running(folder, configuration(upstreams, routes, rules=rules)) as gateway:
            yield Bed(gateway, scripted, delays)


async def test_cheapest_takes_the_free_machine_and_under_a_rule_the_cheaper_vendor(bed: Bed) -> None:
    """However slow: it knows prices only; and it says what each would have cost."""
    assert set(await bed.load("cheapest", 1.0)) == {"own"}
    assert set(await bed.load("cheapest", 1.0, tags="paid")) == {"cheap"}
    first, second, third = bed.explain("cheapest", "--tokens", "1000", "--max-output", "10")
    assert [one["upstream"] for one in (first, second, third)] == ["own", "cheap", "dear"]
    assert "for 1000 input and about" in third["why"]
    assert third["score"] > second["score"] > first["score"] == 0


async def test_fastest_follows_within_thirty_seconds_and_goes_on_exploring(bed: Bed) -> None:
    """The dear one is fastest, then becomes slow, then fast again; the others are asked now and then throughout."""
    await bed.load("fastest", 3.0)
    before = await bed.load("fastest", 6.0)
    assert before["dear"] > 0.85 * before.total()
    assert before["cheap"] + before["own"] > 0
    assert bed.explain("fastest")[0]["upstream"] == "dear"

    bed.delays["dear"].seconds = 1.0
    changed = time.monotonic()
    await bed.load("fastest", 8.0)
    slowed = await bed.load("fastest", 5.0)
    assert time.monotonic() - changed < ADAPTS
    assert slowed["own"] > 0.85 * slowed.total()
    why = {one["upstream"]: one for one in bed.explain("fastest")}
    assert why["own"]["score"] < why["dear"]["score"]

    bed.delays["dear"].seconds = 0.02
    changed = time.monotonic()
    while (mended := await bed.load("fastest", 3.0))["dear"] < 0.8 * mended.total():
        assert time.monotonic() - changed < ADAPTS, mended


def test_every_choice_is_in_the_books_with_its_reasons(bed: Bed) -> None:
    """Explored calls say so; each plan has all three targets, and the one asked is the first."""
    bed.gateway.cli("ledger", "verify")
    with sqlite3.connect(bed.gateway.data / "intertie.db") as books:
        rows = books.execute(
            "SELECT r.plan, a.upstream FROM requests r JOIN attempts a USING (organisation, request_id) "
            "WHERE r.route = 'fastest' AND a.n = 1"
        ).fetchall()
    plans = [(json.loads(plan), asked) for plan, asked in rows]
    assert len(plans) > 100
    assert all(len(plan) == 3 and plan[0]["upstream"] == asked for plan, asked in plans)
    explored = [plan for plan, _ in plans if plan[0]["why"].startswith("asked to keep its figures fresh")]
    assert 0.01 < len(explored) / len(plans) < 0.12
