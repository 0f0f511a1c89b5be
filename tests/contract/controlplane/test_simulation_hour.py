"""An hour of mixed traffic in a time of its own, through the real pipeline into real books, and what the simulator
makes of it: under the same rules the traffic itself, under others what they then cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from intertie.controlplane.control import Control
from intertie.controlplane.simulation import simulate
from intertie.core.ledger import Settlement
from intertie.core.routing.rules import Hours, Rule, When, Wish
from intertie.core.terms import (
    NODE,
    Caller,
    Credential,
    Node,
    Price,
    Route,
    Secret,
    Snapshot,
    StrategyName,
    Target,
    Trust,
    Upstream,
)
from intertie.store import ledger
from tests.contract.controlplane.conftest import opened
from tests.support.playbook import hash_key
from tests.support.rehearsal import Player, Rehearsal, Spell, Visit

HOUR = 3600.0
CALLS = 7200
ORG = "default"


def vendor(name: str, price: Price | None, region: str = "us", trust: Trust = Trust.VENDOR, keys: int = 1) -> Upstream:
    credentials = tuple(Credential(f"{name}-{n}", Secret(f"secret-{name}-{n}")) for n in range(keys))
    return Upstream(
        name, ORG, name, "openai_compatible", f"https://{name}.test/v1", credentials, trust, region, {"m": price}
    )  # fmt: skip


def rig(name: str) -> Upstream:
    return Upstream(name, ORG, name, NODE, "", trust=Trust.OWN, models={"m": Price(0, 0)})


UPSTREAMS = (
    vendor("own", Price(0, 0), "eu", Trust.OWN),
    vendor("lab", Price(200_000, 200_000), "eu", Trust.COMPANY),
    vendor("cheap", Price(1_000_000, 2_000_000, cached_input=250_000), "eu", keys=2),
    vendor("twin", Price(1_000_000, 2_000_000)),
    vendor("dear", Price(2_500_000, 7_500_000, cached_input=600_000)),
    vendor("flaky", Price(500_000, 1_000_000)),
    vendor("short", Price(300_000, 600_000)),
    rig("rig-1"),
    rig("rig-2"),
)


def route(model: str, strategy: StrategyName, *names: str | tuple[str, int], **more: Any) -> Route:
    places = [(one, 0) if isinstance(one, str) else one for one in names]
    target = "*" if model == "*" else "m"
    return Route(ORG, model, tuple(Target(name, target, tier=tier) for name, tier in places), strategy, **more)


ROUTES = (
    route("quick", StrategyName.FASTEST, "dear", "cheap", "own"),
    route("busy", StrategyName.LEAST_BUSY, "cheap", "twin", "dear"),
    route("talk", StrategyName.WEIGHTED, "own", "dear", "cheap", sticky=True),
    route("listed", StrategyName.PRIORITY, "flaky", "cheap", "own"),
    route("saving", StrategyName.CHEAPEST, "dear", "cheap", "lab", "flaky", sticky=True),
    route("even", StrategyName.WEIGHTED, "cheap", "twin"),
    route("single", StrategyName.PRIORITY, "dear"),
    route("rigs", StrategyName.PRIORITY, "rig-1", "rig-2", ("cheap", 1)),
    route("brief", StrategyName.PRIORITY, "short", fallback={"context_length_exceeded": ("long", "even")}),
    route("long", StrategyName.WEIGHTED, "cheap", "twin", "lab"),
    route("*", StrategyName.PRIORITY, "twin", "cheap"),
)
MODELS = (*(one.model for one in ROUTES if one.model not in {"*", "long"}), "m", "rigs", "quick")

RULES = (
    Rule("private-stays", When(tag=("private",)), require=Wish(trust=Trust.OWN)),
    Rule("cards-stay", When(content=("card",)), forbid=Wish(trust=Trust.VENDOR)),
    Rule("large-away", When(larger_than=400), forbid=Wish(trust=Trust.OWN)),
    Rule("batch-cheap", When(tag=("batch",)), prefer=Wish(price=2_000_000)),
    Rule("long-twin", When(model=("long",)), prefer=Wish(upstream=("twin",))),
    Rule("tools-near", When(needs=("tools",)), prefer=Wish(region=("eu",))),
    Rule("soon", When(model=("quick", "busy"), key=("dev",)), prefer=Wish(latency=0.5)),
    Rule("labelled", When(model=("rigs",), tag=("report",)), require=Wish(node_label=("gpu",))),
    Rule("red", When(header={"x-team": "red*"}), forbid=Wish(upstream=("twin",))),
    Rule("morning", When(hours=Hours(8 * 60 + 20, 8 * 60 + 40)), forbid=Wish(upstream=("flaky",))),
)
DRAFT = (
    Rule("private-stays", When(tag=("private",)), require=Wish(trust=Trust.OWN)),
    Rule("no-twin", When(), forbid=Wish(upstream=("twin",))),
    Rule("reports", When(tag=("report",)), prefer=Wish(upstream=("dear",))),
    Rule("large-away", When(larger_than=400), forbid=Wish(trust=Trust.OWN)),
    Rule("batch-eu", When(tag=("batch",)), require=Wish(region=("eu",))),
    Rule("tools-home", When(needs=("tools",)), prefer=Wish(trust=Trust.COMPANY)),
    Rule("morning", When(hours=Hours(8 * 60 + 20, 8 * 60 + 40)), forbid=Wish(upstream=("flaky",))),
)

KEYS = {
    "sk-dev": Caller(ORG, "web", "key_1", "dev"),
    "sk-ops": Caller(ORG, "ops", "key_2", "ops"),
    "sk-careful": Caller(ORG, "web", "key_3", "careful", trust=Trust.COMPANY),
}
TAGS = (*[""] * 8, "private", "batch", "report", "batch, report")


def world(rules: Sequence[Rule]) -> Snapshot:
    return Snapshot(
        revision=1,
        callers={hash_key(key): caller for key, caller in KEYS.items()},
        routes={(ORG, one.model): one for one in ROUTES},
        upstreams={one.id: one for one in UPSTREAMS},
        nodes={
            (ORG, name): Node(name, ORG, name, frozenset({"gpu"} if name == "rig-1" else ()))
            for name in ("rig-1", "rig-2")
        },
        rules={ORG: tuple(rules)},
    )


def players() -> dict[str, Player]:
    """The flaky one fails most of the time, everybody some time, and the dear one is slow for a quarter of the hour."""
    return {
        "own": Player(0.5, spells=[Spell(1500, 1600, "refused")]),
        "lab": Player(0.7, spells=[Spell(300, 330, "failing"), Spell(2700, 2760, "busy")]),
        "cheap": Player(0.9, spells=[Spell(2000, 2040, "failing"), Spell(3100, 3104, "denied")]),
        "twin": Player(0.6, spells=[Spell(900, 1000, "failing"), Spell(2500, 2510, "breaking")]),
        "dear": Player(0.2, spells=[Spell(1800, 1830, "refused"), Spell(2900, 2915, "hanging")]),
        "flaky": Player(0.4, fails=11, spells=[Spell(1200, 1300, "failing"), Spell(3400, 3420, "refused")]),
        "short": Player(0.3, context=250, spells=[Spell(3300, 3330, "failing")]),
        "rig-1": Player(0.5, 0.02, slots=2, spells=[Spell(600, 700, "away")]),
        "rig-2": Player(0.8, 0.04, slots=1, spells=[Spell(650, 900, "away"), Spell(2200, 2230, "failing")]),
    }  # fmt: skip


def visits(seed: int) -> list[Visit]:
    """The same for the same seed: every kind of call, two a second, in bursts and lulls."""
    rng, at, made = Random(seed), 0.0, []
    for number in range(CALLS):
        at += rng.expovariate(CALLS / HOUR)
        made.append(_visit(rng, number, at))
    return made


def _visit(rng: Random, number: int, at: float) -> Visit:
    model = rng.choice(MODELS)
    words = f"{number} " + "x" * rng.choice((20, 200, 1200, 2400))
    if rng.random() < 0.03:
        words += " 4111 1111 1111 1111"
    messages = [{"role": "user", "content": words}]
    if model in {"talk", "saving"} and rng.random() < 0.8:
        first = {"role": "user", "content": f"{rng.randrange(400)} tell me about it" + " and that" * 40}
        messages = [first, {"role": "assistant", "content": "well"}, *messages]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": rng.random() < 0.5}
    if rng.random() < 0.1:
        body["tools"] = [{"type": "function", "function": {"name": "f"}}]
    if rng.random() < 0.2:
        body["max_tokens"] = 40
    headers = {"x-intertie-tags": tags} if (tags := rng.choice(TAGS)) else {}
    if rng.random() < 0.1:
        headers["x-team"] = rng.choice(("red-1", "blue"))
    if rng.random() < 0.05:
        headers["x-intertie-trust"] = rng.choice(("own", "company"))
    node = "rig-1" if model == "m" and rng.random() < 0.2 else None
    leaves = rng.uniform(0.05, 1.0) if rng.random() < 0.02 else None
    return Visit(at, rng.choice((*KEYS, "sk-dev")), body, headers, node, leaves)


def played(control: Control, rules: Sequence[Rule], *, seed: int) -> list[Settlement]:
    """The hour under these rules, also in the control plane's books. The same visits come whatever the seed."""
    some = Rehearsal(world(rules), players(), seed).run(visits(1))
    for at in range(0, len(some), 2000):
        ledger.load(control.database, [msgspec.json.encode(one) for one in some[at : at + 2000]])
    return some


def spent(some: Iterable[Settlement]) -> int:
    """Micro-units over all attempts."""
    return sum(attempt.cost or 0 for one in some for attempt in one.attempts)


def signs(some: Iterable[Settlement]) -> Counter[str]:
    """What was in the hour, counted in calls."""
    found: Counter[str] = Counter()
    for one in some:
        whys = [each.why for each in one.plan]
        found.update({str(one.state), one.error, one.route})
        found["went elsewhere"] += len(one.attempts) > 1
        found["fell back"] += any(each.via and one.attempts[-1].upstream == each.upstream for each in one.plan)
        for sign in (
            "has this conversation",
            "asked to keep",
            "no free slot",
            "just came back",
            "offline",
            "in trouble",
        ):
            found[sign] += any(sign in why for why in whys)
        found["ejected"] += any(why.startswith(("open:", "half-open:")) for why in whys)
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_rules_reproduce_every_placement_and_a_drafts_cost_is_what_it_then_costs(
    tmp_path: Path, seed: int
) -> None:
    """7,200 calls of all routes, strategies, tags, sizes and keys, while targets fail, hang and come back, nodes leave
    and fill up, and clients hang up. Then the same clients once more, with the draft in force and other chances."""
    before, after = opened(tmp_path / "before"), opened(tmp_path / "after")
    some = played(before, RULES, seed=seed)
    found = simulate(before, ORG, world(RULES), RULES)
    assert (len(some), found.requests, found.moves, found.blind) == (CALLS, found.unchanged, (), ())
    assert found.requests > 0.98 * CALLS  # the rest found no target on a route of one target, or left before
    assert found.cost_was == found.cost_now == spent(some)
    seen = signs(some)
    least = {
        "went elsewhere": 100,
        "fell back": 100,
        "has this conversation": 100,
        "asked to keep": 15,
        "in trouble": 5,
    }
    least |= {"no free slot": 50, "just came back": 15, "offline": 30, "ejected": 100, "cancelled": 50}
    least |= {"no_eligible_target": 100, "no_healthy_target": 10, "nodes/rig-1": 50, "*": 300, "interrupted": 1}
    assert {sign: seen[sign] for sign, count in least.items() if seen[sign] < count} == {}

    foretold = simulate(before, ORG, world(RULES), DRAFT)
    then = played(after, DRAFT, seed=seed + 100)
    assert simulate(after, ORG, world(DRAFT), DRAFT).moves == ()
    assert min(foretold.moved, foretold.refused, foretold.answered) > 100
    assert foretold.unknown_cost == 0
    assert abs(foretold.cost_now - foretold.cost_was) > 0.02 * foretold.cost_was
    assert foretold.cost_now == pytest.approx(spent(then), rel=0.01)
    for each in (before, after):
        each.database.close()
