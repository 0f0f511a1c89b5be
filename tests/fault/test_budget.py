"""A budget under everything at once: a thousand calls in parallel, failing upstreams, leaving clients, and `kill -9`.

It is never passed at any look, what it says is spent is what the entries say, and nothing stays reserved.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import books
from tests.support.caller import Heard, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, upstream
from tests.support.replies import chat, delta, error, event, finished, packed, usage_chunk, whole
from tests.support.scripted import Recorded, ScriptedUpstream
from tests.support.steps import Reset, Script, Wait

pytestmark = pytest.mark.slow

SEED = 20_261_123
CALLS = 1000
KILLS = 3
OUTPUT = 10
"""Tokens of every answer, and the project's bound."""
PRICE = 10_000
"""Micro-units of one call: ten tokens at 1,000 per million."""
CAP = 100 * PRICE
USED = {"prompt_tokens": 11, "completion_tokens": OUTPUT, "total_tokens": 11 + OUTPUT}
HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}


@dataclass
class Moody:
    """An upstream that answers well, breaks, breaks midway or takes its time, by chance; or only well."""

    rng: random.Random = field(default_factory=lambda: random.Random(SEED))
    kind: bool = False

    def __call__(self, request: Recorded) -> Script:
        assert json.loads(request.body)["max_tokens"] == OUTPUT  # nobody's call was sent without its bound
        mood = 0.99 if self.kind else self.rng.random()
        pause = Wait(0.0 if self.kind else self.rng.uniform(0.0, 0.2))
        if mood < 0.10:
            return (pause, *whole(packed(error("broke")), 500))
        if mood < 0.20:
            return (pause, Reset())
        if not request.streamed:
            return (pause, *whole(packed(chat({"content": "ten words"}, usage=USED))))
        frames = [event(delta({"content": f"w{n} "})) for n in range(OUTPUT)]
        if mood < 0.30:
            half = finished(frames[: OUTPUT // 2], every=0.01)[:-3]
            return (pause, *half, Reset())
        ending = [event(delta({}, finish="length")), event(usage_chunk(USED))]
        return (pause, *finished([*frames, *ending], every=0.0 if self.kind else 0.01))


@dataclass
class Looks:
    """What the budget said of itself, as often as it could be asked."""

    seen: list[tuple[int, int]] = field(default_factory=list)

    @contextmanager
    def looking(self, gateway: Gateway) -> Iterator[None]:
        """Ask all the time while the block runs."""
        over = threading.Event()

        def look() -> None:
            while not over.is_set():
                try:
                    budget = budget_of(gateway)
                except (OSError, ValueError):  # killed
                    time.sleep(0.01)
                    continue
                self.seen.append((budget["spent"], budget["reserved"]))
                time.sleep(0.005)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def budget_of(gateway: Gateway) -> dict[str, Any]:
    """The project's budget as the admin API shows it."""
    rows: list[dict[str, Any]] = json.loads(gateway.get("/api/limits"))
    return next(row for row in rows if row["measure"] == "money")


async def _call(gateway: Gateway, rng: random.Random, heard: list[Heard]) -> None:
    try:
        line = await dial(gateway.url)
    except ConnectionError:
        return
    try:
        call = packed(chat_call("model", stream=rng.random() < 0.5))
        answer = await line.send("/v1/chat/completions", call, HEADERS)
        heard.append(answer)
        if rng.random() < 0.15:  # this client leaves
            await asyncio.wait_for(line.hear(answer, until=b"w2"), rng.uniform(0.0, 0.3))
        else:
            await line.hear(answer)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        line.hang_up()


async def _life(gateway: Gateway, rng: random.Random, heard: list[Heard], kill_after: float | None) -> None:
    calls = [
        asyncio.create_task(_call(gateway, random.Random(rng.random()), heard)) for _ in range(CALLS // (KILLS + 1))
    ]
    if kill_after is not None:
        await asyncio.sleep(kill_after)
        gateway.kill()
    await asyncio.gather(*calls)


@dataclass
class Aftermath:
    """What is left when all is quiet."""

    gateway: Gateway
    upstream: Moody
    looks: Looks
    heard: list[Heard]


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """A thousand calls over four lives of the gateway, three of which end by `kill -9`."""
    rng = random.Random(SEED)
    mood = Moody()
    looks, heard = Looks(), list[Heard]()
    with ScriptedUpstream(mood).running() as server:
        models = [{"name": "m", "price": {"input": 0, "output": 1000}}]
        places = [upstream(name, server.base_url(name), models=models) for name in ("acme", "other")]
        entries = configuration(places, [route("model", "acme", "other")])
        budget = {"amount": CAP / 1e6, "per": "total", "zone": "Europe/Berlin"}
        entries["projects"][0] |= {"budgets": [budget], "max_output": OUTPUT}
        gateway = Gateway(tmp_path_factory.mktemp("budget"), entries)
        for life in range(KILLS + 1):
            gateway.start()
            with looks.looking(gateway):
                kill_after = rng.uniform(0.15, 0.6) if life < KILLS else None
                asyncio.run(_life(gateway, rng, heard, kill_after))
        try:
            yield Aftermath(gateway, mood, looks, heard)
        finally:
            gateway.stop()


def _spent_by_entries(gateway: Gateway) -> int:
    return sum(entry["cost_micros"] for entry in books(gateway).attempts())


def test_the_budget_is_not_passed_at_any_look(aftermath: Aftermath) -> None:
    """What is spent and what is held for calls under way is together never more than there is."""
    assert len(aftermath.looks.seen) > 20
    assert max(reserved for _, reserved in aftermath.looks.seen) > 0
    assert max(spent + reserved for spent, reserved in aftermath.looks.seen) <= CAP


def test_what_is_spent_is_the_sum_of_the_entries_and_nothing_is_held(aftermath: Aftermath) -> None:
    """After the last call has ended, account and books agree to the unit."""
    budget = budget_of(aftermath.gateway)
    assert budget["reserved"] == 0
    assert 0 < budget["spent"] == _spent_by_entries(aftermath.gateway) <= CAP


def test_refusals_say_whether_waiting_helps(aftermath: Aftermath) -> None:
    """A call beyond the budget is refused with 429; one that others' ends may make room for, may come back."""
    refused = [heard for heard in aftermath.heard if heard.status == 429]
    assert refused
    codes = {(heard.json["error"]["code"], heard.headers["x-should-retry"]) for heard in refused}
    assert codes <= {("quota_reserved", "true"), ("insufficient_quota", "false")}


def test_all_of_the_budget_can_be_used_afterwards_and_a_restart_changes_nothing(aftermath: Aftermath) -> None:
    """No reservation outlives its call, so what is left is spent to the last whole call, by this life or the next."""
    gateway = aftermath.gateway
    aftermath.upstream.kind = True
    asyncio.run(_until_refused(gateway))
    before = budget_of(gateway)
    assert CAP - PRICE < before["spent"] <= CAP
    assert gateway.stop() == 0
    gateway.start()
    after = budget_of(gateway)
    assert (after["spent"], after["reserved"]) == (before["spent"], 0)
    assert after["spent"] == _spent_by_entries(gateway)


async def _until_refused(gateway: Gateway) -> None:
    line = await dial(gateway.url)
    status, answered, heard = 200, 0, Heard()
    while status == 200 and answered <= CAP // PRICE:
        heard = await line.hear(await line.send("/v1/chat/completions", packed(chat_call("model")), HEADERS))
        status, answered = heard.status, answered + 1
    line.hang_up()
    assert status == 429, heard.body
    assert heard.json["error"]["code"] == "insufficient_quota"


def test_a_limit_set_while_calls_run_counts_them_to_the_unit(tmp_path: Path) -> None:
    """A budget that comes into force under load says what the entries say, though it was not there when they began."""
    mood = Moody()
    with ScriptedUpstream(mood).running() as server:
        models = [{"name": "m", "price": {"input": 0, "output": 1000}}]
        entries = configuration([upstream("acme", server.base_url("acme"), models=models)], [route("model", "acme")])
        entries["projects"][0] |= {"quotas": [{"tokens": 10**9, "per": "total"}], "max_output": OUTPUT}
        gateway = Gateway(tmp_path, entries)
        gateway.start()
        try:
            asyncio.run(_while_it_is_set(gateway))
            budget = budget_of(gateway)
            assert budget["reserved"] == 0
            assert budget["spent"] == _spent_by_entries(gateway) > 0
        finally:
            gateway.stop()


async def _while_it_is_set(gateway: Gateway) -> None:
    rng, heard = random.Random(SEED), list[Heard]()
    calls = []
    for _ in range(300):
        calls.append(asyncio.create_task(_call(gateway, random.Random(rng.random()), heard)))
        await asyncio.sleep(0.01)
        if len(calls) == 100:
            words = ("limits", "set", "project:tests", "--budget", "100", "--per", "total")
            calls.append(asyncio.create_task(asyncio.to_thread(gateway.cli, *words)))
    await asyncio.gather(*calls)
