"""Measured speed decides, and a few calls keep the measurements fresh."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.strategies.fastest import EXPLORED, SPARING, STALE, STRATEGY
from intertie.core.routing.traffic import Traffic
from tests.unit.core.routing.grid import MODEL, call, candidate, known, room

NOW = 1000.0


def taught(**first: float) -> Traffic:
    """Streams of about a second's age, by upstream and seconds to the first output."""
    made = Traffic()
    for name, seconds in first.items():
        ticket = made.begin((name, MODEL), NOW - 1 - seconds, 10, stream=True)
        ticket.first = seconds
        made.end(ticket, NOW - 1, 1)
    return made


def answer(made: Traffic, name: str, now: float, first: float = 0.1) -> None:
    """It is asked now, and answers in time."""
    ticket = made.begin((name, MODEL), now, 10, stream=True)
    ticket.first = first
    made.end(ticket, now + first, 1)


def order(given: list[Candidate], made: Traffic, rng: Random | None = None, *, exploring: bool = False) -> list[str]:
    told = known(traffic=made, now=NOW, tokens=10, output=1, exploring=exploring)
    return [one.upstream.id for one in STRATEGY.order(given, call(), told, rng or Random(3))]


def test_the_fastest_comes_first_and_the_unmeasured_last_in_its_tier() -> None:
    """Unless they are explored; tiers stay tiers."""
    given = [candidate("new"), candidate("slow"), candidate("quick"), candidate("far", tier=1)]
    assert order(given, taught(slow=2.0, quick=0.1, far=0.01)) == ["quick", "slow", "new", "far"]


def test_long_answers_are_decided_by_tokens_per_second() -> None:
    """Late first output and quick tokens win for 1,000 tokens, lose for one."""
    made = Traffic()
    for name, first, took in (("late", 1.0, 2.0), ("early", 0.1, 10.1)):
        ticket = made.begin((name, MODEL), NOW - 20, 10, stream=True)
        ticket.first = first
        made.end(ticket, NOW - 20 + took, 101)
    given = [candidate("late"), candidate("early")]
    for output, best in ((1000, "late"), (1, "early")):
        told = known(traffic=made, now=NOW, output=output, exploring=False)
        assert STRATEGY.order(given, call(), told, Random(1))[0].upstream.id == best


def test_what_was_never_asked_gets_the_next_call_and_says_so() -> None:
    """Once it has been asked, the others' turn comes."""
    made = taught(a=0.1)
    given = [candidate("a"), candidate("b"), candidate("c")]
    told = known(traffic=made, now=NOW)
    first = STRATEGY.order(given, call(), told, Random(1))[0]
    assert first.why == "asked to keep its figures fresh; not measured yet"
    other = {"b": "c", "c": "b"}[first.upstream.id]
    made.begin(first.key, NOW, 10, stream=True)
    assert order(given, made, exploring=True)[0] == other
    made.begin((other, MODEL), NOW, 10, stream=True)
    assert order(given, made, Random(1), exploring=True)[0] == "a"


def test_what_was_not_asked_for_long_is_refreshed_between_calls_to_the_best() -> None:
    """However rare calls are, about one in five at most is for learning, and nobody is forgotten."""
    made = taught(a=0.1, b=0.5, c=0.6)
    given = [candidate("a"), candidate("b"), candidate("c")]
    rng, now, asked = Random(1), NOW, []
    for _ in range(600):
        now += 2 * STALE
        asked.append(STRATEGY.order(given, call(), known(traffic=made, now=now, tokens=10), rng)[0].upstream.id)
        answer(made, asked[-1], now, {"a": 0.1, "b": 0.5, "c": 0.6}[asked[-1]])
    assert asked.count("a") / 600 > 1 - 1 / SPARING - 2 * EXPLORED
    assert min(asked.count("b"), asked.count("c")) > 20


def test_a_target_that_never_gets_its_call_does_not_stop_the_others_from_being_refreshed() -> None:
    """Its credentials are set aside, say: it is chosen, passed over, and would be chosen for ever."""
    made = taught(a=0.1, mute=0.2, b=0.5)
    given = [candidate("a"), candidate("mute"), candidate("b")]
    rng, now, last, gaps = Random(2), NOW, NOW, []
    for _ in range(3000):
        now += 0.5
        first, second, *_ = STRATEGY.order(given, call(), known(traffic=made, now=now, tokens=10), rng)
        name = (second if first.upstream.id == "mute" else first).upstream.id
        answer(made, name, now, 0.5 if name == "b" else 0.1)
        if name == "b":
            gaps.append(now - last)
            last = now
    assert max(gaps) < 2 * STALE


def test_only_what_rules_prefer_is_explored_for_a_call_and_tiers_stay_tiers() -> None:
    """The others come behind it whatever a strategy says, so they would be chosen again and again for nothing."""
    made = taught(a=0.1, b=0.5, far=0.1)
    told = known(traffic=made, now=NOW + 2 * STALE, tokens=10)
    given = [candidate("a"), *(replace(candidate(name, tier=1), preferred=1) for name in "bcd")]
    orders = [[one.upstream.id for one in STRATEGY.order(given, call(), told, Random(n))] for n in range(50)]
    assert {one[0] for one in orders} == {"a"}
    assert {one[1] for one in orders} == {"c", "d"}


def test_a_node_without_room_is_not_explored() -> None:
    """Its call would have to wait."""
    full = replace(candidate("full"), room=room(0))
    assert order([candidate("a"), full], taught(a=0.1), exploring=True) == ["a", "full"]
