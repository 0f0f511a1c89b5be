"""Recorded requests, from SQL, under a draft of rules: how many, whereto, for how much."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from msgspec.structs import replace

from intertie.controlplane import simulation
from intertie.controlplane.control import Control
from intertie.controlplane.simulation import Simulation, simulate
from intertie.core.ledger import CallFacts, Considered, Settlement, State
from intertie.core.routing.rules import Rule, Wish
from intertie.core.terms import Operation, Price, Snapshot, Upstream, Usage
from intertie.store import ledger
from tests.support.accounts import STARTED, attempt, settlement

NAMES = ("acme", "backup")
SNAPSHOT = Snapshot(
    upstreams={
        name: Upstream(name, "default", name, "openai", "https://x.test", models={"m": Price(1_000_000, price)})
        for name, price in zip(NAMES, (2_000_000, 8_000_000), strict=True)
    }
)
FACTS = CallFacts("dev", "web", "chat", Operation.CHAT, tokens=10, at=STARTED)
PLAN = tuple(Considered(name, "m", base=float(place)) for place, name in enumerate(NAMES))
AWAY = (Rule("away", forbid=Wish(upstream=("acme",))),)


def placed(number: int, state: State = State.OK, *, output: int = 20) -> Settlement:
    """A request that went to acme."""
    well = state is State.OK
    one = attempt(
        1, upstream="acme", model="m", state=state, usage=Usage(10, output if well else 0), cost=10 + 2 * output * well
    )
    return replace(settlement(f"req_{number}", one), started_at=STARTED + number, plan=PLAN, facts=FACTS, state=state)


def replayed(control: Control, some: Sequence[Settlement], rules: Sequence[Rule] = AWAY) -> Simulation:
    ledger.load(control.database, [msgspec.json.encode(one) for one in some])
    return simulate(control, "default", SNAPSHOT, rules)


def test_what_failed_then_costs_what_is_usual_where_it_would_have_gone(control: Control) -> None:
    """Nothing was used at acme; under the draft backup would have answered, and been paid."""
    found = replayed(control, [placed(1), placed(2, State.FAILED), placed(3, State.INTERRUPTED)])
    assert (found.requests, found.moved) == (3, 3)
    assert found.cost_now == 3 * (10 + 8 * 20)


def test_it_says_so_when_there_was_more_than_it_replays(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers from the cache, which are not replayed, do not count as traffic that was."""
    monkeypatch.setattr(simulation, "LIMIT", 10)
    hits = [replace(settlement(f"hit_{n}"), attempts=(), cache="hit") for n in range(12)]
    found = replayed(control, [*map(placed, range(9)), *hits])
    assert (found.requests, found.complete) == (9, True)
    found = replayed(
        control, [*map(placed, range(20, 28)), *[replace(one, request_id=one.request_id + "b") for one in hits]]
    )
    assert (found.requests, found.complete) == (10, False)


@pytest.mark.parametrize(("seconds", "moved"), [(0.05, 5), (0.2, 0)])
def test_latency_is_the_spans_own_where_no_rule_asked_then(control: Control, seconds: float, moved: int) -> None:
    """The median of what acme took, 80 ms; backup was never measured, so it is not over the ceiling."""
    found = replayed(control, [placed(n) for n in range(5)], [Rule("quick", prefer=Wish(latency=seconds))])
    assert found.moved == moved
