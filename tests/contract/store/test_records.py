"""Recorded requests come back with their plan, facts and attempts."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from intertie.core.ledger import CallFacts, Considered, State
from intertie.core.terms import Operation, Usage
from intertie.store import ledger, records
from intertie.store.database import Database
from tests.support.accounts import STARTED, attempt, settlement

FACTS = CallFacts(
    key="dev",
    project="web",
    model="gpt-4o-mini",
    operation=Operation.CHAT,
    tags=frozenset({"private"}),
    headers={"x-team": "red"},
    needs=frozenset({"tools"}),
    tokens=12,
    at=STARTED,
)
PLAN = (Considered("acme", "big", "cheap", 1.5, base=0), Considered("lab", "m", "no", allowed=False, base=0.5))


def test_a_request_comes_back_as_it_was_placed(database: Database) -> None:
    """Facts and plan as they were; attempts in order; the sum of their costs."""
    failed = attempt(1, state=State.FAILED, usage=Usage(), cost=0, ttft_ms=None)
    served = attempt(2, upstream="lab", usage=Usage(10, 20, 4, 3, 2), cost=7)
    made = replace(settlement("req_1", failed, served), plan=PLAN, facts=FACTS)
    ledger.load(database, [msgspec.json.encode(made)])
    with database.read() as connection:
        found = records.one(connection, "default", "req_1")
        assert records.one(connection, "other", "req_1") is None
        assert list(records.past(connection, "default", None, None, limit=10)) == [found]
    assert found is not None
    assert (found.plan, found.facts, found.cost) == (PLAN, FACTS, 7)
    assert [(one.upstream, one.state, one.usage) for one in found.attempts][1] == (
        "lab",
        State.OK,
        Usage(10, 20, 4, 3, 2),
    )
    assert found.place == ("lab", served.model)


def test_a_plain_request_is_rebuilt_from_its_row(database: Database) -> None:
    """It had one target and no rules: key, project, model, size and time are in the books anyway."""
    ledger.load(database, [msgspec.json.encode(settlement("req_1", attempt(1, usage=Usage(30, 5))))])
    with database.read() as connection:
        (found,) = records.past(connection, "default", None, None, limit=10)
    assert found.plan == ()
    assert (found.facts.key, found.facts.project, found.facts.tokens) == ("dev", "web", 30)


def test_a_span_is_read_newest_first_in_pages_and_bounded(database: Database) -> None:
    """What nobody was asked for, such as an answer from the cache, is left out."""
    some = [replace(settlement(f"req_{n}", attempt(1)), started_at=STARTED + n) for n in range(1200)]
    some.append(replace(settlement("hit"), attempts=(), started_at=STARTED + 50.5, cache="hit"))
    ledger.load(database, [msgspec.json.encode(one) for one in some])
    with database.read() as connection:
        found = list(records.past(connection, "default", STARTED + 10, STARTED + 1100, limit=5000))
        newest = list(records.past(connection, "default", None, None, limit=700))
    assert [one.request_id for one in found] == [f"req_{n}" for n in range(1099, 9, -1)]
    assert len(newest) in (699, 700)
    assert newest[0].request_id == "req_1199"
