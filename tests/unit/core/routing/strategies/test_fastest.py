"""Measured speed decides, and a few calls keep the measurements fresh."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.strategies.fastest import EXPLORED, STALE, STRATEGY
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


def test_a_few_calls_explore() -> None:
    """About four in a hundred, evenly among the others, and never beyond the first tier."""
    made = taught(a=0.1, b=0.5, c=0.6, far=0.1)
    given = [candidate("a"), candidate("b"), candidate("c"), candidate("far", tier=1)]
    rng = Random(5)
    counts = Counter(order(given, made, rng, exploring=True)[0] for _ in range(20_000))
    assert counts["a"] / 20_000 == pytest.approx(1 - EXPLORED, abs=0.01)
    assert counts["b"] / 20_000 == pytest.approx(EXPLORED / 2, abs=0.005)
    assert counts["far"] == 0


def test_what_was_not_asked_for_long_gets_the_next_call_and_says_so() -> None:
    """The one idle for longest; once it has been asked, the others' turn comes."""
    made = taught(a=0.1)
    given = [candidate("a"), candidate("b"), candidate("c")]
    told = known(traffic=made, now=NOW)
    first = STRATEGY.order(given, call(), told, Random(1))[0]
    assert (first.upstream.id, first.why) == ("b", "asked to keep its figures fresh; not measured yet")
    made.begin(("b", MODEL), NOW, 10, stream=True)
    assert order(given, made, exploring=True)[0] == "c"
    made.begin(("c", MODEL), NOW, 10, stream=True)
    assert order(given, made, Random(1), exploring=True)[0] == "a"
    later = known(traffic=made, now=NOW + STALE)
    assert STRATEGY.order(given, call(), later, Random(1))[0].upstream.id in {"b", "c"}


def test_a_node_without_room_is_not_explored() -> None:
    """Its call would have to wait."""
    full = replace(candidate("full"), room=room(0))
    assert order([candidate("a"), full], taught(a=0.1), exploring=True) == ["a", "full"]
