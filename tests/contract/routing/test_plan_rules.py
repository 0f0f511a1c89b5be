"""Rules in plans: filters that nothing undoes, preferences that only order, and what is written down of both."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.errors import NoEligibleTarget, NoTarget, UpstreamFailed, UpstreamUnreachable
from intertie.core.ledger import CallFacts, Considered
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.rules import Rule, When, Wish, applying
from intertie.core.terms import (
    NODE,
    Caller,
    Node,
    Operation,
    Price,
    Route,
    Snapshot,
    StrategyName,
    Target,
    Trust,
    Upstream,
)
from tests.unit.core.routing.grid import AWAY, MODEL, World, call, caller, fail, room, route, snapshot, upstream

NOW = 1000.0
CASES = 100_000
TRUSTS = list(Trust)
EXPOSED = {Trust.OWN: 0, Trust.COMPANY: 1, Trust.COMMUNITY: 2, Trust.VENDOR: 3}
NAMES = "abcd"
REGIONS = ("", "eu", "us")
TAGS = ("private", "public", "batch")
LABELS = ("gpu", "lab")
PRICES = (None, Price(0, 0), Price(1_000_000, 2_000_000), Price(3_000_000, 10_000_000))
BROKEN = UpstreamFailed("x")
DEAD = UpstreamUnreachable("x")


def facts(**more: Any) -> CallFacts:
    return CallFacts(**{"key": "k", "project": "p", "model": "chat", "operation": Operation.CHAT, "at": 0.0, **more})


def docket(rules: tuple[Rule, ...], **more: Any) -> Docket:
    made = facts(**more)
    return Docket(made, applying(rules, made))


def ups(*ones: Upstream) -> Snapshot:
    return snapshot(list(ones))


# -- the generated table ---------------------------------------------------------------------------------------------


def _wish(rng: Random) -> Wish:
    kind = rng.randrange(5)
    if kind == 0:
        return Wish(trust=rng.choice(TRUSTS))
    if kind == 1:
        return Wish(region=tuple(rng.sample(REGIONS[1:], rng.randint(1, 2))))
    if kind == 2:
        return Wish(upstream=tuple(rng.sample(NAMES, 2)))
    if kind == 3:
        return Wish(node_label=(rng.choice(LABELS),))
    return Wish(price=rng.choice((0, 2_000_000, 9_000_000)), trust=rng.choice((None, Trust.COMPANY)))


def _rule(rng: Random, number: int) -> Rule:
    when = rng.choice((When(), When(tag=(rng.choice(TAGS),)), When(larger_than=500), When(needs=("tools",))))
    demand = rng.choice(("require", "require", "forbid", "prefer"))
    return Rule(f"r{number}", when, **{demand: _wish(rng)})


def _may(rule: Rule, one: Upstream, labels: frozenset[str], made: CallFacts) -> bool:
    """The meaning of one rule, written down a second time and differently."""
    when = rule.when
    if when.tag and not set(when.tag) & made.tags:
        return True
    if (when.larger_than is not None and made.tokens <= when.larger_than) or (when.needs and "tools" not in made.needs):
        return True
    price = one.models[MODEL]
    if (wish := rule.require) is not None:
        checks = [
            wish.trust is None or EXPOSED[one.trust] <= EXPOSED[wish.trust],
            not wish.region or one.region in wish.region,
            not wish.upstream or one.name in wish.upstream,
            not wish.node_label or bool(labels & set(wish.node_label)),
            wish.price is None or (price is not None and price.output <= wish.price),
        ]
        return all(checks)
    if (wish := rule.forbid) is not None:
        hits = [
            wish.trust is not None and one.trust == wish.trust,
            bool(wish.region) and one.region in wish.region,
            one.name in wish.upstream,
            bool(labels & set(wish.node_label)),
            wish.price is not None and (price is None or price.output > wish.price),
        ]
        return not any(hits)
    return True


class Gridded:
    """Two hundred worlds of four upstreams, some of them nodes, in all states of health and room."""

    def __init__(self, rng: Random) -> None:
        self.worlds = [self._made(rng) for _ in range(200)]
        self.rules = [tuple(_rule(rng, n) for n in range(rng.randint(1, 4))) for _ in range(300)]
        self.callers = [caller(trust=one) for one in TRUSTS]
        self.facts = [
            facts(tags=frozenset(tags), tokens=tokens, needs=frozenset(needs))
            for tags in ((), ("private",), ("public", "batch"), TAGS)
            for tokens in (0, 1000)
            for needs in ((), ("tools",))
        ]

    def _made(self, rng: Random) -> tuple[World, Snapshot, Route, dict[str, frozenset[str]]]:
        world = World(rng.randrange(1 << 30))
        ones, nodes = [], {}
        for name in NAMES:
            one = upstream(name, trust=rng.choice(TRUSTS), provider=rng.choice(("openai_compatible", NODE)))
            one = replace(one, region=rng.choice(REGIONS), models={MODEL: rng.choice(PRICES)})
            if one.provider == NODE:
                labels = frozenset(rng.sample(LABELS, rng.randint(0, 2)))
                nodes["org", name] = Node(name, "org", name, labels)
                world.rooms[name] = rng.choice((AWAY, room(0), room(3), room(1, warm=False)))
            ones.append(one)
            if rng.random() < 0.4:
                fail(world, name, rng.choice((DEAD, BROKEN)), NOW - rng.choice((1.0, 14.0, 40.0)), rng.randint(1, 6))
        targets = tuple(Target(name, MODEL, rng.randint(1, 3), rng.randint(0, 2)) for name in NAMES)
        snap = replace(snapshot(ones), nodes=nodes)
        labels_of = {name: nodes["org", name].labels if ("org", name) in nodes else frozenset() for name in NAMES}
        return world, snap, route(*targets, strategy=rng.choice(list(StrategyName))), labels_of


def test_no_rule_and_no_ceiling_is_ever_broken_whatever_fails() -> None:
    """100,000 cases of rules, trust classes, strategies, health, room and failover: every target that a plan holds, so
    every one that failover could reach, is allowed by all rules that apply and within the caller's ceiling; and when a
    call is refused by rules, there really is no target they allow."""
    rng = Random(11)
    table = Gridded(rng)
    asked = refused = 0
    for _ in range(CASES):
        world, snap, one, labels = rng.choice(table.worlds)
        rules, made, who = rng.choice(table.rules), rng.choice(table.facts), rng.choice(table.callers)
        planned = _planned(world, snap, one, (rules, made, who))
        if planned is None:
            refused += 1
            assert not any(_allowed(each, rules, labels, made, who) for each in snap.upstreams.values())
            continue
        asked += len(planned)
        for target in planned:  # failover walks exactly this list
            assert _allowed(target.upstream, rules, labels, made, who)
    assert asked > CASES / 2
    assert refused > CASES / 100


def _planned(
    world: World, snap: Snapshot, one: Route, drawn: tuple[tuple[Rule, ...], CallFacts, Caller]
) -> tuple[Candidate, ...] | None:
    rules, made, who = drawn
    try:
        return plan(call(), who, one, snap, world, NOW, Docket(made, applying(rules, made), noting=False))
    except NoEligibleTarget:
        return None
    except NoTarget:
        return ()


def _allowed(
    one: Upstream, rules: tuple[Rule, ...], labels: dict[str, frozenset[str]], made: CallFacts, who: Caller
) -> bool:
    within = EXPOSED[one.trust] <= EXPOSED[who.trust]
    return within and all(_may(rule, one, labels[one.name], made) for rule in rules)


# -- one by one ------------------------------------------------------------------------------------------------------

PRIVATE = Rule("private-stays", When(tag=("private",)), require=Wish(trust=Trust.OWN))
EU = Rule("eu", When(tag=("eu",)), prefer=Wish(region=("eu",)))


def test_a_refusal_names_the_rule() -> None:
    """Or nobody could tell what to change; and retrying is no use."""
    snap = ups(upstream("a"), upstream("b"))
    with pytest.raises(NoEligibleTarget) as caught:
        plan(call(), caller(), route("a", "b"), snap, World(), NOW, docket((PRIVATE,), tags=frozenset({"private"})))
    assert caught.value.public == (
        "No target of this model may answer this request. Rule private-stays requires trust own, and this is vendor."
    )
    assert caught.value.client_may_retry is False


def test_rules_hold_when_everything_else_is_down() -> None:
    """The only own machine is dead, the vendor is well: the call waits rather than leaves."""
    world = World()
    fail(world, "own", DEAD, NOW, 3)
    snap = ups(upstream("own", trust=Trust.OWN), upstream("vendor"))
    for _ in range(50):
        try:
            found = plan(
                call(),
                caller(),
                route("own", "vendor"),
                snap,
                world,
                NOW,
                docket((PRIVATE,), tags=frozenset({"private"})),
            )
        except NoTarget:
            continue
        assert [one.upstream.id for one in found] == ["own"]


def test_preferences_order_before_the_strategy_and_across_tiers() -> None:
    """What meets an earlier preference comes before what meets later ones; nothing is left out."""
    near = replace(upstream("near"), region="eu")
    snap = ups(upstream("far"), near, upstream("named"))
    named = Rule("named", prefer=Wish(upstream=("named",)))
    one = route(Target("far", MODEL), Target("named", MODEL), Target("near", MODEL, tier=1))
    made = docket((EU, named), tags=frozenset({"eu"}))
    found = plan(call(), caller(), one, snap, World(), NOW, made)
    assert [each.upstream.id for each in found] == ["near", "named", "far"]
    assert made.considered[0].why == "rule eu prefers region eu; listed at 3"
    assert [each.base for each in made.considered] == [2, 1, 0]


def test_a_preferred_node_without_room_is_passed_by() -> None:
    """A preference is a wish: the call does not wait for a slot while another has room."""
    world = World()
    world.rooms["rig"] = room(0)
    snap = ups(upstream("rig", provider=NODE), upstream("vendor"))
    made = docket((Rule("rig", prefer=Wish(upstream=("rig",))),))
    found = plan(call(), caller(), route("rig", "vendor"), snap, world, NOW, made)
    assert [one.upstream.id for one in found] == ["vendor", "rig"]
    assert made.considered[1].setback == 2


def test_everything_is_written_down_with_its_reason() -> None:
    """Asked in order; then what could have been asked under other rules, with its place; then the rest."""
    world = World()
    fail(world, "dead", DEAD, NOW, 3)
    world.rooms["gone"] = AWAY
    snap = ups(
        upstream("own", trust=Trust.OWN),
        upstream("dead", trust=Trust.OWN),
        upstream("spare", trust=Trust.OWN),
        upstream("gone", trust=Trust.OWN, provider=NODE),
        upstream("off", enabled=False),
        upstream("vendor"),
    )
    made = docket((PRIVATE,), tags=frozenset({"private"}))
    plan(call(), caller(), route("vendor", "own", "dead", "spare", "gone", "off"), snap, world, NOW, made)
    told = {one.upstream: (one.allowed, one.base, one.why) for one in made.considered}
    assert told == {
        "own": (True, 0, "listed at 2"),
        "spare": (True, 1, "listed at 4"),
        "vendor": (False, -0.5, "rule private-stays requires trust own, and this is vendor"),
        "dead": (False, None, "open: 3 connection failures in a row"),
        "gone": (False, None, "offline since 12:03"),
        "off": (False, None, "disabled"),
    }


def test_another_organisations_upstream_is_not_named() -> None:
    """A plan shows only what the caller's own organisation owns."""
    snap = ups(upstream("mine"), replace(upstream("theirs", organisation="other"), name="secret-name"))
    made = docket(())
    plan(call(), caller(), route("mine", "theirs"), snap, World(), NOW, made)
    assert made.considered[1] == Considered("theirs", MODEL, "unknown", allowed=False)


def test_nothing_is_written_down_when_nobody_reads_it() -> None:
    """A route with one target and no rules costs nothing more."""
    made = Docket(facts(), noting=False)
    plan(call(), caller(), route("a"), ups(upstream("a")), World(), NOW, made)
    assert made.considered == ()
