"""The simulator against recorded traffic: the same rules reproduce it, a draft's price is what it then costs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from tests.support.caller import Heard, ask
from tests.support.gateway import Gateway, configuration, running, upstream
from tests.support.replies import chat, error, event, finished, packed, text_chunks, usage_chunk, whole
from tests.support.scripted import Named, Recorded, ScriptedUpstream
from tests.support.steps import Script

pytestmark = pytest.mark.slow

PRICES: dict[str, Any] = {
    "own": "free",
    "cheap": {"input": 1, "output": 2},
    "twin": {"input": 1, "output": 2},
    "dear": {"input": 10, "output": 30},
    "flaky": {"input": 0.5, "output": 1},
}
RULES: list[dict[str, Any]] = [
    {"name": "private-stays", "when": {"tag": "private"}, "require": {"trust": "own"}},
    {"name": "batch-cheap", "when": {"tag": "batch"}, "prefer": {"price": 2}},
    {"name": "large-away", "when": {"larger_than": 400}, "forbid": {"trust": "own"}},
]
DRAFT: list[dict[str, Any]] = [
    {"name": "private-stays", "when": {"tag": "private"}, "require": {"trust": "own"}},
    {"name": "no-twin", "forbid": {"upstream": "twin"}},
    {"name": "reports", "when": {"tag": "report"}, "prefer": {"upstream": "dear"}},
    {"name": "batch-eu", "when": {"tag": "batch"}, "require": {"region": "eu"}},
]
TAGS = ("", "private", "batch", "report", "batch, report")


def counted(request: Recorded) -> Script:
    """Usage that follows from the call alone, so that it is the same wherever it goes."""
    words = request.call["messages"][-1]["content"]
    number = int(words.split()[0])
    usage = {"prompt_tokens": len(words) // 4, "completion_tokens": 5 + number % 90, "total_tokens": 0}
    if request.streamed:
        return finished([event(one) for one in (*text_chunks(), usage_chunk(usage))])
    return whole(packed(chat({"content": "fine"}, usage=usage)))


def flaky(request: Recorded) -> Script:
    """Every eleventh call fails, always the same ones."""
    if int(request.call["messages"][-1]["content"].split()[0]) % 11 == 0:
        return whole(packed(error("no")), 500)
    return counted(request)


def calls(seed: int, count: int, models: Sequence[str]) -> list[tuple[dict[str, object], str]]:
    """Bodies and tags, the same for the same seed."""
    rng = Random(seed)
    made = []
    for number in range(count):
        words = f"{number} " + "x" * rng.choice((20, 200, 2400))
        body = {
            "model": rng.choice(models),
            "messages": [{"role": "user", "content": words}],
            "stream": rng.random() < 0.5,
        }
        made.append((body, rng.choice(TAGS)))
    return made


async def send(gateway: Gateway, some: Sequence[tuple[dict[str, object], str]]) -> list[Heard]:
    """Eight at a time, in order."""
    turn = asyncio.Semaphore(8)

    async def one(body: dict[str, object], tags: str) -> Heard:
        headers = {"x-intertie-tags": tags} if tags else {}
        async with turn:
            return await ask(f"{gateway.base_url}/chat/completions", body, key=gateway.key, headers=headers)

    return list(await asyncio.gather(*(one(*each) for each in some)))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    replies = {name: flaky if name == "flaky" else counted for name in PRICES}
    with ScriptedUpstream(Named(dict(replies))).running() as scripted:
        upstreams = [
            upstream(
                name,
                scripted.base_url(name),
                trust="own" if name == "own" else "vendor",
                region="eu" if name in {"cheap", "own"} else "us",
                models=[{"name": "m", "price": price}],
            )
            for name, price in PRICES.items()
        ]

        def route(model: str, strategy: str, *names: str, **more: object) -> dict[str, object]:
            return {
                "model": model,
                "strategy": strategy,
                "targets": [{"upstream": n, "model": "m"} for n in names],
                **more,
            }

        routes = [
            route("quick", "fastest", "dear", "cheap", "own"),
            route("busy", "least_busy", "cheap", "twin", "dear"),
            route("talk", "weighted", "own", "dear", "cheap", sticky=True),
            route("listed", "priority", "flaky", "dear", "own"),
            route("saving", "cheapest", "dear", "cheap", "own", "flaky"),
            route("even", "weighted", "cheap", "twin"),
            route("single", "priority", "dear"),
        ]
        with running(tmp_path_factory.mktemp("simulation"), configuration(upstreams, routes, rules=RULES)) as made:
            yield made


def simulated(gateway: Gateway, rules: Sequence[object], since: float) -> dict[str, Any]:
    draft = gateway.folder / "draft.yaml"
    draft.write_text(json.dumps({"rules": list(rules)}), encoding="utf-8")
    moment = datetime.fromtimestamp(since, UTC).isoformat()
    found: dict[str, Any] = gateway.cli("rules", "simulate", "-f", str(draft), "--since", moment)
    return found


async def test_the_same_rules_reproduce_every_placement(gateway: Gateway) -> None:
    """All strategies, tags, sizes, streams, failover, an ejected target and refusals."""
    began = time.time()
    heard = await send(gateway, calls(1, 600, ["quick", "busy", "talk", "listed", "saving", "even", "single"]))
    found = simulated(gateway, RULES, began)
    assert found["requests"] == found["unchanged"] == 600
    assert found["cost_was"] == found["cost_now"] > 0
    assert (found["moves"], found["blind"], found["complete"]) == ([], [], True)
    refused = [one for one in heard if one.status == 503 and one.json["error"]["code"] == "no_eligible_target"]
    assert 5 < len(refused) < 100
    assert all(b"ule private-stays" in one.body or b"ule large-away" in one.body for one in refused)


async def test_a_drafts_predicted_cost_is_what_it_then_costs(gateway: Gateway) -> None:
    """The same calls under the draft in force, on the same upstreams: within one percent, and placed as foretold."""
    some = calls(2, 600, ["listed", "saving", "even", "single"])
    began = time.time()
    await send(gateway, some)
    found = simulated(gateway, DRAFT, began)
    assert found["moved"] > 50
    assert found["unknown_cost"] == 0
    assert found["cost_now"] != found["cost_was"]
    assert any("no-twin" in move["why"] for move in found["moves"])

    file = gateway.folder / "intertie.yaml"
    document = {**gateway.configuration, "rules": DRAFT}
    file.write_text(json.dumps(document), encoding="utf-8")
    changes = gateway.cli("apply", "-f", str(file))
    assert "rule no-twin" in changes["created"]
    assert "rule large-away" in changes["removed"]
    assert gateway.cli("apply", "-f", str(file))["created"] == []
    applied = time.time()
    await send(gateway, some)
    after = simulated(gateway, DRAFT, applied)
    assert after["unchanged"] == after["requests"] == 600
    assert found["cost_now"] == pytest.approx(after["cost_was"], rel=0.01)
