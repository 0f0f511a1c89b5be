"""F41: when every target is down, the gateway does not make it worse: few extra sends, quick and honest answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.caller import Heard, ask, chat_call
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy, error, packed, whole
from tests.support.scripted import Named, ScriptedUpstream

pytestmark = pytest.mark.slow

CALLS = 300
_AT_ONCE = 20
_DOWN = whole(packed(error("down")), 500)


async def ask_many(gateway: Gateway, count: int) -> list[Heard]:
    """So many calls to the one route, some at a time."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one() -> Heard:
        async with turns:
            return await ask(f"{gateway.base_url}/chat/completions", chat_call("model"), key=CLIENT_KEY)

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_f41_an_outage_is_not_amplified(tmp_path: Path) -> None:
    """At most a tenth more sends than calls, plus the saved-up budget and its trickle; then recovery by itself."""
    named = Named({"first": _DOWN, "second": _DOWN})
    with ScriptedUpstream(named).running() as server:
        entries = configuration(
            [upstream(name, server.base_url(name)) for name in named.replies], [route("model", "first", "second")]
        )
        with running(tmp_path, entries) as gateway:
            begun = time.monotonic()
            heard = await ask_many(gateway, CALLS)
            took = time.monotonic() - begun
            sends = len(server.requests)
            named.replies |= {"first": Healthy(), "second": Healthy()}
            await asyncio.sleep(1.2)
            after = await ask_many(gateway, 1)
    assert sends <= 1.1 * CALLS + 10 + 0.3 * took
    assert {one.status for one in heard} <= {502, 503}
    assert max((one.ended_at or 0) - one.asked_at for one in heard) < 3
    told = Counter(one.json["error"]["code"] for one in heard)
    assert set(told) <= {"upstream_failed", "no_healthy_target", "retry_budget_exhausted"}
    assert all(int(one.headers["retry-after"]) >= 1 for one in heard if one.status == 503)
    stops = [one for one in heard if one.json["error"]["code"] == "retry_budget_exhausted"]
    assert all(one.headers["x-should-retry"] == "false" for one in stops)
    assert [one.status for one in after] == [200]
