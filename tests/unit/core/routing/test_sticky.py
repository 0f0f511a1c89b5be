"""Conversations stay where they are, as long as that is a good place."""

from __future__ import annotations

import json
from collections import Counter

import msgspec
from msgspec.structs import replace

from intertie.core.ledger import CallFacts
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.sticky import chosen, conversation, kept
from intertie.core.routing.traffic import Held, Traffic
from intertie.core.terms import Call, Operation, StrategyName, Target
from tests.unit.core.routing.grid import MODEL, World, call, caller, candidate, route, snapshot, upstream

FACTS = CallFacts(key="k", project="p", model="chat", operation=Operation.CHAT)


def said(*messages: tuple[str, str], model: str = "chat") -> Call:
    content = json.dumps([{"role": role, "content": text} for role, text in messages]).encode()
    return replace(call(model), fields={"messages": msgspec.Raw(content)})


def test_turns_of_one_conversation_have_the_same_name() -> None:
    """Up to the first user's words; what follows does not matter."""
    begun = [("system", "be brief"), ("user", "hello")]
    first = conversation(said(*begun), "org")
    assert first is not None
    assert conversation(said(*begun, ("assistant", "hi"), ("user", "more")), "org") == first
    others = [
        conversation(said(*begun), "other"),
        conversation(said(*begun, model="else"), "org"),
        conversation(said(("system", "be long"), ("user", "hello")), "org"),
        conversation(said(("system", "be brief"), ("user", "goodbye")), "org"),
    ]
    assert first not in others
    assert len(set(others)) == 4


def test_what_has_no_messages_is_no_conversation() -> None:
    """Completions, and messages that are none."""
    assert conversation(call(), "org") is None
    assert conversation(replace(call(), fields={"messages": msgspec.Raw(b'"text"')}), "org") is None


def test_the_hash_chooses_by_weight_and_always_the_same() -> None:
    """Whichever order the targets come in."""
    given = [candidate("a", weight=3), candidate("b"), candidate("far", weight=9, tier=1)]
    names = [str(n).encode() for n in range(4000)]
    counts = Counter(chosen(given, name)[0] for name in names)
    assert 2850 < counts["a"] < 3150
    assert counts["far"] == 0
    assert all(chosen(given, name) == chosen(given[::-1], name) for name in names[:100])


def test_few_conversations_move_when_a_target_goes() -> None:
    """Only those that it had."""
    given = [candidate(name) for name in "abcd"]
    for n in range(500):
        name = str(n).encode()
        before = chosen(given, name)
        if before[0] != "d":
            assert chosen(given[:3], name) == before


def test_the_holder_comes_first_unless_slow_or_overloaded_or_of_a_later_tier() -> None:
    """A load of up to a quarter above the mean is kept."""
    order = [candidate("a"), candidate("b"), candidate("far", tier=1)]
    traffic = Traffic()
    assert [one.upstream.id for one in kept(order, ("b", MODEL), traffic)] == ["b", "a", "far"]
    assert kept(order, ("far", MODEL), traffic) is order
    assert kept(order, ("gone", MODEL), traffic) is order
    slow = [order[0], replace(order[1], pace=0.5)]
    assert kept(slow, ("b", MODEL), traffic) is slow
    for _ in range(5):
        traffic.begin(("b", MODEL), 0.0, 1, stream=True)
    assert kept(order, ("b", MODEL), traffic) is order
    for _ in range(5):
        traffic.begin(("a", MODEL), 0.0, 1, stream=True)
    assert kept(order, ("b", MODEL), traffic)[0].upstream.id == "b"


def test_a_sticky_route_keeps_a_conversation_and_spreads_many() -> None:
    """By hash at first and after a restart; by memory while there is one."""
    snap = snapshot([upstream("a"), upstream("b")])
    one = replace(route("a", "b", strategy=StrategyName.WEIGHTED), sticky=True)
    world = World()

    def first(docket: Docket) -> str:
        return plan(call(), caller(), one, snap, world, 0.0, docket)[0].upstream.id

    firsts = [{first(Docket(FACTS, conversation=str(n).encode())) for _ in range(5)} for n in range(40)]
    assert all(len(one) == 1 for one in firsts)
    assert {name for one in firsts for name in one} == {"a", "b"}
    for name in "ab":
        assert first(Docket(FACTS, conversation=b"x", held=Held((name, MODEL), 10, 0.0))) == name


def test_tiers_come_before_conversations() -> None:
    """A call that went to the spare while the first was down goes back."""
    snap = snapshot([upstream("main"), upstream("spare")])
    one = replace(route("main", Target("spare", MODEL, tier=1)), sticky=True)
    held = Docket(FACTS, conversation=b"x", held=Held(("spare", MODEL), 10, 0.0))
    assert plan(call(), caller(), one, snap, World(), 0.0, held)[0].upstream.id == "main"
