"""S8: a target that shows nothing is raced by a second one, over real sockets and over the link to a node.

The loser's connection closes within a second, both attempts are in the books, and the caller pays for the winner.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import books
from tests.support.caller import Heard, ask, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, running, upstream
from tests.support.node import enrolled, serving, until
from tests.support.replies import Healthy, packed
from tests.support.scripted import ByModel, Named, Recorded, ScriptedUpstream, soon
from tests.support.steps import Script, Stall, Wait

pytestmark = pytest.mark.slow

WARM = 60
"""Calls that earn the first hedge, at a fiftieth each, and say what is usual."""
SECOND = ("from ", "elsewhere")
_HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
BUDGETS = [{"amount": 1000, "per": "total"}]


class Slow:
    """Healthy, but silent for so many seconds before it says anything; forever if there is no number."""

    def __init__(self) -> None:
        self.seconds: float | None = 0.0
        self.healthy = Healthy()

    def __call__(self, request: Recorded) -> Script:
        if self.seconds is None:
            return (Stall(),)
        return (Wait(self.seconds), *self.healthy(request))


class Bed:
    """A gateway whose first upstream can be slowed down, and who else there is, each at an address of its own."""

    def __init__(self, gateway: Gateway, first: ScriptedUpstream, second: ScriptedUpstream, slow: Slow) -> None:
        self.gateway, self.first, self.second, self.slow = gateway, first, second, slow

    async def call(self, model: str, *, stream: bool = True) -> Heard:
        url = f"{self.gateway.base_url}/chat/completions"
        return await ask(url, chat_call(model, stream=stream), key=CLIENT_KEY)

    async def warm(self, model: str) -> None:
        """Quick calls, of both kinds."""
        self.slow.seconds = 0.0
        for n in range(WARM):
            assert (await self.call(model, stream=n % 2 == 0)).status == 200

    def hedges(self, model: str) -> Counter[str]:
        """Outcome -> how many, as `/metrics` has it."""
        found: Counter[str] = Counter()
        for line in self.gateway.get("/metrics").splitlines():
            if line.startswith("intertie_hedges_total{") and f'route="{model}"' in line:
                found[line.partition('outcome="')[2].partition('"')[0]] = int(float(line.rpartition(" ")[2]))
        return found

    def attempts(self, heard: Heard) -> list[dict[str, Any]]:
        return books(self.gateway).attempts(heard.headers["x-request-id"])


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    slow = Slow()
    with (
        ScriptedUpstream(Named({"first": slow})).running() as first,
        ScriptedUpstream(Named({"second": Healthy(SECOND)})).running() as second,
    ):
        price = [{"name": "m", "price": {"input": 1000, "output": 1000}}]
        places = [
            upstream("first", first.base_url("first"), models=price, budgets=BUDGETS),
            upstream("second", second.base_url("second"), models=price, budgets=BUDGETS),
        ]
        targets = [{"upstream": name, "model": "m", "tier": tier} for tier, name in enumerate(("first", "second"))]
        hedges: dict[str, Any] = {"usual": True, "quick": {"after": 0.3, "share": 0.5}, "stalled": {"after": 0.3}}
        routes = [{"model": name, "targets": targets, "hedge": hedge} for name, hedge in hedges.items()]
        routes.append({"model": "alone", "targets": targets})
        entries = configuration(places, routes, organisation={"budgets": BUDGETS})
        entries["projects"][0]["budgets"] = BUDGETS
        with running(tmp_path_factory.mktemp("hedging"), entries) as gateway:
            yield Bed(gateway, first, second, slow)


@pytest.mark.parametrize("stream", [True, False])
async def test_s8_after_a_second_of_silence_another_target_answers_and_the_first_is_hung_up_on(
    bed: Bed, stream: bool
) -> None:
    """By the defaults: after what is usual, and a second at least."""
    await bed.warm("usual")
    bed.slow.seconds = None
    began = time.monotonic()
    heard = await bed.call("usual", stream=stream)
    assert heard.head_at is not None
    took = heard.head_at - began

    assert (heard.finished, heard.text) == (True, "".join(SECOND))
    assert 0.95 < took < 2.5
    assert heard.headers["x-intertie-target"] == "second/m"
    assert heard.headers["x-intertie-attempts"] == "2"
    asked = bed.first.requests[-1]
    assert await soon(lambda: asked.left_at is not None, 2)
    assert asked.left_at is not None
    assert asked.left_at - heard.head_at < 1.0

    loser, winner = bed.attempts(heard)
    assert [(one["n"], one["upstream"], one["state"]) for one in (loser, winner)] == [
        (1, "first", "beaten"),
        (2, "second", "ok"),
    ]
    (request,) = books(bed.gateway).requests(heard.headers["x-request-id"])
    assert loser["cost_micros"] > 0
    assert loser["estimated"]
    assert request["cost_micros"] == winner["cost_micros"]
    assert request["input_tokens"] == winner["input_tokens"]
    if not stream:
        assert float(heard.headers["x-intertie-cost"]) * 1e6 == pytest.approx(winner["cost_micros"])
        assert float(heard.headers["x-intertie-overhead-ms"]) < 500


async def test_s8_the_first_may_win_and_then_the_second_is_hung_up_on(bed: Bed) -> None:
    """It answers half a second after the second was asked, which stalls."""
    replies = bed.second.reply
    await bed.warm("quick")
    bed.slow.seconds = 0.8
    bed.second.reply = lambda _: (Stall(),)
    try:
        heard = await bed.call("quick")
    finally:
        bed.second.reply = replies
    assert heard.headers["x-intertie-target"] == "first/m"
    assert heard.finished
    asked = bed.second.requests[-1]
    assert await soon(lambda: asked.left_at is not None, 2)
    assert [one["state"] for one in bed.attempts(heard)] == ["ok", "beaten"]


async def test_s8_a_client_that_leaves_while_both_run_cancels_both(bed: Bed) -> None:
    """Within a second, and it pays for one."""
    replies = bed.second.reply
    await bed.warm("quick")
    bed.slow.seconds = None
    bed.second.reply = lambda _: (Stall(),)
    before = len(bed.second.requests)
    try:
        line = await dial(bed.gateway.url)
        await line.send("/v1/chat/completions", packed(chat_call("quick", stream=True)), _HEADERS)
        assert await soon(lambda: len(bed.second.requests) > before, 5)
        left = line.hang_up()
        asked = [bed.first.requests[-1], bed.second.requests[-1]]
        assert await soon(lambda: all(one.left_at is not None for one in asked), 2)
    finally:
        bed.second.reply = replies
    assert max(one.left_at or 0 for one in asked) - left < 1.0
    last = books(bed.gateway).requests()[-1]
    states = [one["state"] for one in books(bed.gateway).attempts(last["request_id"])]
    assert (last["state"], states) == ("cancelled", ["cancelled", "beaten"])


async def test_s8_no_more_than_a_fiftieth_is_hedged_however_slow_all_are(bed: Bed) -> None:
    """A hundred calls to a first target that became slow: two hedges, and whatever the warming up left."""
    await bed.warm("stalled")
    bed.slow.seconds = 1.0
    sent = 0
    for _ in range(4):
        heard = await asyncio.gather(*(bed.call("stalled", stream=n % 2 == 0) for n in range(25)))
        assert {one.status for one in heard} == {200}
        sent += len(heard)
    assert 1 <= bed.hedges("stalled").total() <= (WARM + sent) // 50


async def test_a_route_that_does_not_ask_for_it_is_never_hedged(bed: Bed) -> None:
    await bed.warm("alone")
    bed.slow.seconds = 1.5
    before = len(bed.second.requests)
    heard = await bed.call("alone")
    assert heard.headers["x-intertie-target"] == "first/m"
    assert len(bed.second.requests) == before


def test_accounts_and_books_agree_to_the_unit(bed: Bed) -> None:
    """Of the caller: what was answered. Of the operator: every attempt. Nothing is held any more."""
    entries = books(bed.gateway).attempts()
    rows = {(row["level"], row["name"]): row for row in json.loads(bed.gateway.get("/api/limits"))}
    every = sum(one["cost_micros"] for one in entries)
    beaten = sum(one["cost_micros"] for one in entries if one["state"] == "beaten")
    assert beaten > 0
    assert rows["project", "tests"]["spent"] == every - beaten
    assert rows["project", "tests"]["spent"] == sum(one["cost_micros"] for one in books(bed.gateway).requests())
    assert sum(rows["upstream", name]["spent"] for name in ("first", "second")) == every
    assert next(row for (level, _), row in rows.items() if level == "organisation")["spent"] == every
    assert {row["reserved"] for row in rows.values()} == {0}
    assert bed.gateway.cli("ledger", "verify")["problems"] == []
    by = {name: bed.gateway.cli("usage", "--by", name) for name in ("project", "upstream")}
    assert sum(row["cost_micros"] for row in by["project"]) == every - beaten
    assert sum(row["cost_micros"] for row in by["upstream"]) == every


async def test_s8_a_node_that_shows_nothing_is_raced_and_its_lane_is_closed(tmp_path: Path) -> None:
    """So the machine stops working on it within a second."""
    slow = Slow()
    with (
        ScriptedUpstream(ByModel({"m": slow})).running() as machine,
        ScriptedUpstream(Healthy(SECOND)).running() as vendor,
        running(tmp_path / "gateway", configuration([], [])) as gateway,
        enrolled(gateway, tmp_path / "node", "rig", machine.origin, options=["--slots", "8"]) as node,
    ):
        until(lambda: serving(gateway, "rig", "m"), node.tail())
        entries = configuration([upstream("vendor", vendor.base_url("vendor"))], [])
        targets = [{"node": "rig", "model": "m"}, {"upstream": "vendor", "model": "m", "tier": 1}]
        entries["routes"] = [{"model": "safe", "targets": targets, "hedge": {"after": 0.3, "share": 1}}]
        file = gateway.folder / "more.yaml"
        file.write_bytes(packed(entries))
        assert gateway.run("apply", "-f", str(file)).returncode == 0
        bed = Bed(gateway, machine, vendor, slow)
        for _ in range(3):
            assert (await bed.call("safe")).headers["x-intertie-target"] == "rig/m"
        slow.seconds = None
        heard = await bed.call("safe")

        assert heard.text == "".join(SECOND)
        asked = next(one for one in reversed(machine.requests) if one.method == "POST")
        assert await soon(lambda: asked.left_at is not None, 2)
        assert heard.head_at is not None
        assert (asked.left_at or 0) - heard.head_at < 1.0
        assert [(one["node"], one["state"]) for one in bed.attempts(heard)] == [("rig", "beaten"), ("", "ok")]
