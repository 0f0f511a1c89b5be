"""What planning writes down."""

from __future__ import annotations

from msgspec.structs import replace

from intertie.core.ledger import CallFacts, Considered
from intertie.core.routing.docket import LONGEST, MOST, Docket
from intertie.core.terms import Operation
from tests.unit.core.routing.grid import MODEL, candidate

FACTS = CallFacts(key="k", project="p", model="chat", operation=Operation.CHAT)


def test_books_keep_a_bounded_part_of_a_plan() -> None:
    """A route may have a hundred targets, and reasons may quote what others wrote."""
    docket = Docket(FACTS)
    ones = [replace(candidate(f"u{n}"), why="x" * 1000) for n in range(100)]
    docket.place(ones, ones)
    assert len(docket.considered) == MOST
    assert all(len(one.why) <= LONGEST for one in docket.considered)


def test_the_rules_reason_comes_before_the_strategys() -> None:
    """Both in one line."""
    docket = Docket(FACTS)
    docket.place([replace(candidate("a"), rule="rule r prefers region eu", why="weight 1", score=0.5)], [])
    assert docket.considered == (Considered("a", MODEL, "rule r prefers region eu; weight 1", 0.5, base=0),)


def test_ruled_out_targets_get_the_place_they_would_have_had() -> None:
    """Between those with a better and those with a worse score, in their own order."""
    base = [replace(candidate(name), score=score) for name, score in (("a", 1.0), ("d", 4.0))]
    ruled = [replace(candidate(name), score=score, rule="no") for name, score in (("b", 2.0), ("c", 3.0), ("e", 9.0))]
    docket = Docket(FACTS)
    docket.place(base, base)
    docket.ruled_out(ruled, base)
    by_base = sorted(docket.considered, key=lambda one: one.base or 0.0)
    assert [one.upstream for one in by_base] == ["a", "b", "c", "d", "e"]
