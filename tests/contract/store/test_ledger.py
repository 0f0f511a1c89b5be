"""Settlements in SQL: exactly once, sums right, and every contradiction is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intertie.core.ledger import AttemptRecord, Settlement, State
from intertie.core.pricing import MAX_COST, MAX_TOKENS
from intertie.core.terms import Usage
from intertie.store import ledger
from intertie.store.database import Database
from intertie.store.ledger import Entry, Problem
from intertie.store.schema import attempts, requests
from tests.support.accounts import STARTED, attempt, settlement


def _load(database: Database, *settlements: Settlement) -> int:
    new, refused = ledger.load(database, [msgspec.json.encode(each) for each in settlements])
    assert refused == []
    return new


def _entries(database: Database, organisation: str = "default", **named: Any) -> list[Entry]:
    with database.read() as connection:
        return ledger.entries(connection, organisation, **{"limit": 1000, **named})


def _request(database: Database) -> Entry:
    (found,) = (entry for entry in _entries(database) if entry.kind == "request")
    return found


def _problems(database: Database) -> list[Problem]:
    with database.read() as connection:
        return list(ledger.problems(connection))


def test_a_settlement_becomes_one_entry_per_attempt_and_one_per_request(database: Database) -> None:
    failed = attempt(
        1, state=State.FAILED, status=503, error="upstream_unavailable", usage=Usage(), cost=0, ttft_ms=None
    )
    served = attempt(2, upstream="lab", model="llama3:8b", credential="", usage=Usage(10, 20, 4, 3, 2), cost=7)
    _load(database, settlement("req_1", failed, served))

    shared: dict[str, Any] = {
        "request_id": "req_1",
        "started_at": STARTED,
        "project": "web",
        "key_id": "key_1",
        "key_name": "dev",
        "route": "gpt-4o-mini",
        "operation": "chat",
        "stream": True,
        "estimated": False,
    }
    nothing: dict[str, Any] = dict.fromkeys(
        ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "cost_micros"), 0
    )
    used: dict[str, Any] = {
        "input_tokens": 10,
        "output_tokens": 20,
        "cached_tokens": 4,
        "cache_write_tokens": 3,
        "reasoning_tokens": 2,
        "cost_micros": 7,
    }
    assert _entries(database) == [
        Entry(
            id="req_1/1", kind="attempt", n=1, upstream="acme", node="", model="big-model", credential="cred_1",
            state=State.FAILED, status=503, error="upstream_unavailable", duration_ms=900, ttft_ms=None,
            **nothing, **shared,
        ),
        Entry(
            id="req_1/2", kind="attempt", n=2, upstream="lab", node="", model="llama3:8b", credential="",
            state=State.OK, status=200, error="", duration_ms=900, ttft_ms=80,
            **used, **shared,
        ),
        Entry(
            id="req_1", kind="request", attempts=2, overhead_ms=1.5, cache="",
            state=State.OK, status=200, error="", duration_ms=1000, ttft_ms=90,
            **used, **shared,
        ),
    ]  # fmt: skip


def test_a_request_without_attempts_is_an_entry_of_its_own(database: Database) -> None:
    _load(database, settlement(attempts=(), state=State.OK, cache="hit"))

    entry = _request(database)
    assert (entry.attempts, entry.cache, entry.cost_micros, entry.input_tokens) == (0, "hit", 0, 0)
    assert _problems(database) == []


def test_loading_again_changes_nothing(database: Database) -> None:
    assert _load(database, settlement("req_1"), settlement("req_2")) == 2
    before = _entries(database)

    assert _load(database, settlement("req_2"), settlement("req_3")) == 1
    assert _load(database, settlement("req_1"), settlement("req_1")) == 0
    assert _entries(database)[: len(before)] == before
    assert _problems(database) == []


def test_the_first_account_of_a_request_wins_whole(database: Database) -> None:
    """A later one with other attempts, as an estimate after a crash may be, must not be mixed in."""
    _load(database, settlement("req_1", attempt(1)))
    _load(database, settlement("req_1", attempt(1), attempt(2), state=State.RECOVERED))

    assert [entry.id for entry in _entries(database)] == ["req_1/1", "req_1"]
    assert _problems(database) == []


def test_two_organisations_may_use_one_request_id_and_see_only_their_own(database: Database) -> None:
    _load(database, settlement("req_1"), settlement("req_1", organisation="other", project="theirs"))

    assert [entry.project for entry in _entries(database)] == ["web", "web"]
    assert [entry.project for entry in _entries(database, "other")] == ["theirs", "theirs"]
    assert _entries(database, "third") == []


def test_T61_an_unknown_cost_of_one_attempt_makes_the_cost_of_the_request_unknown(database: Database) -> None:
    _load(database, settlement("req_1", attempt(1, cost=5), attempt(2, cost=None)))

    assert _request(database).cost_micros is None
    assert _problems(database) == []


def test_an_unknown_price_of_nothing_costs_nothing(database: Database) -> None:
    _load(database, settlement("req_1", attempt(1, cost=5), attempt(2, cost=None, usage=Usage())))

    assert _request(database).cost_micros == 5


def test_T63_a_forged_report_cannot_break_the_sums(database: Database) -> None:
    forged = attempt(1, usage=Usage(input=10**25, output=-7, cached=2**63), cost=10**25)
    _load(database, settlement("req_1", forged), settlement("req_2"))

    entry = _entries(database)[1]
    assert (entry.input_tokens, entry.output_tokens, entry.cached_tokens) == (MAX_TOKENS, 0, MAX_TOKENS)
    assert entry.cost_micros == MAX_COST
    assert _problems(database) == []


def test_one_record_that_the_tables_refuse_keeps_no_other_out(database: Database) -> None:
    good = [msgspec.json.encode(settlement(f"req_{number}")) for number in range(20)]
    bad = b'{"type":"settle","request_id":"req_bad","organisation":"default"}'

    new, refused = ledger.load(database, [*good[:13], bad, *good[13:]])

    assert (new, refused) == (20, [bad])
    assert len(_entries(database)) == 40


def test_entries_are_paged_without_gap_or_repetition_from_any_place(database: Database) -> None:
    _load(database, *(settlement(f"req_{n}", *(attempt(k) for k in range(1, n % 4 + 1))) for n in range(30)))
    everything = [entry.id for entry in _entries(database)]

    for limit in (1, 2, 7, 100):
        found: list[str] = []
        while page := _entries(database, limit=limit, after=found[-1] if found else ""):
            assert len(page) <= limit
            found += [entry.id for entry in page]
        assert found == everything


def test_entries_that_are_loaded_later_come_later(database: Database) -> None:
    """A long stream is settled long after it began; who follows the books by `after` must not miss it."""
    _load(database, settlement("req_new", started_at=STARTED + 100))
    last = _entries(database)[-1].id
    _load(database, settlement("req_old", started_at=STARTED))

    assert [entry.id for entry in _entries(database, after=last)] == ["req_old/1", "req_old"]


@pytest.mark.parametrize("after", ["req_unknown", "req_unknown/1", "/", "req_1/x"])
def test_an_unknown_place_in_the_books_yields_nothing(database: Database, after: str) -> None:
    _load(database, settlement("req_1"))

    assert _entries(database, after=after) == []


def test_paging_needs_no_sorting(database: Database) -> None:
    with database.read() as connection:
        query = "SELECT * FROM requests WHERE organisation = 'a' AND seq >= 5 ORDER BY seq LIMIT 10"
        (step,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()

    assert "ix_requests_seq (organisation=? AND seq>?)" in step[3]


BREAKS: list[tuple[str, sa.Update | sa.Delete, tuple[str, str]]] = [
    ("an attempt is gone", sa.delete(attempts).where(attempts.c.n == 2), ("count", "req_1")),
    ("the request is gone", sa.delete(requests).where(requests.c.request_id == "req_1"), ("orphan", "req_1/1")),
    ("tokens differ", sa.update(attempts).values(output_tokens=51).where(attempts.c.n == 2), ("sum", "req_1")),
    ("the cost differs", sa.update(requests).values(cost_micros=1), ("sum", "req_1")),
    ("the cost became unknown", sa.update(requests).values(cost_micros=None), ("sum", "req_1")),
    ("an attempt's became unknown", sa.update(attempts).values(cost_micros=None), ("sum", "req_1")),
    ("a request's state is none", sa.update(requests).values(state="open"), ("state", "req_1")),
    ("an attempt's state is none", sa.update(attempts).values(state="x"), ("state", "req_1/2")),
]


@pytest.mark.parametrize(("change", "found"), [each[1:] for each in BREAKS], ids=[each[0] for each in BREAKS])
def test_S11_every_contradiction_is_found_and_named(
    database: Database, change: sa.Update | sa.Delete, found: tuple[str, str]
) -> None:
    _load(database, settlement("req_1", attempt(1), attempt(2)))
    assert _problems(database) == []
    with database.write() as connection:
        connection.execute(change)

    assert found in [(problem.kind, problem.id) for problem in _problems(database)]
    assert {problem.organisation for problem in _problems(database)} == {"default"}


def test_the_same_entry_twice_is_impossible(database: Database) -> None:
    _load(database, settlement("req_1"))
    for table in (requests, attempts):
        columns = [column.name for column in table.columns if column.name != "seq"]
        names = ", ".join(columns)
        with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
            connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {table.name}")


def test_totals_count_the_organisation_only(database: Database) -> None:
    _load(database, settlement("req_1", attempt(1), attempt(2)), settlement("req_2", organisation="other"))
    with database.read() as connection:
        assert ledger.totals(connection, "default") == ledger.Totals(requests=1, attempts=2)


def test_a_copy_is_an_entry_of_its_own_kind(database: Database) -> None:
    """It names the request of which it is one, and so do its attempts; nothing of it is in the request."""
    _load(database, settlement("req_1"), settlement("req_1.s1", attempt(1, upstream="lab"), shadow_of="req_1"))

    told = [(entry.id, entry.kind, entry.shadow_of) for entry in _entries(database)]
    assert told == [
        ("req_1/1", "attempt", None),
        ("req_1", "request", None),
        ("req_1.s1/1", "attempt", "req_1"),
        ("req_1.s1", "shadow", "req_1"),
    ]
    with database.read() as connection:
        assert ledger.totals(connection, "default") == ledger.Totals(requests=1, attempts=2, shadows=1)
        after = ledger.entries(connection, "default", limit=10, after="req_1.s1/1")
    assert [entry.id for entry in after] == ["req_1.s1"]
    with database.write() as connection:
        connection.execute(sa.update(attempts).values(shadow_of=None))
    assert [(problem.kind, problem.id) for problem in _problems(database)] == [("sum", "req_1.s1")]


TOKENS = st.integers(0, 10**7)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, st.booleans())
ENDS = st.sampled_from((State.OK, State.FAILED, State.BEATEN))
TRIES = st.lists(st.tuples(USAGES, st.none() | st.integers(0, 10**9), ENDS), max_size=4)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(TRIES, min_size=1, max_size=20))
def test_T63_the_books_are_the_sums_of_their_parts(database: Database, calls: Sequence[Sequence[Any]]) -> None:
    """One database for all examples, so each has its own organisation. Beaten attempts are of no request's sum."""
    with database.read() as connection:
        organisation = f"org_{connection.scalar(sa.select(sa.func.count()).select_from(requests))}"
    accounts = [
        settlement(f"req_{number}", attempts=_tried(tries), organisation=organisation)
        for number, tries in enumerate(calls)
    ]
    _load(database, *accounts)

    found = {entry.request_id: entry for entry in _entries(database, organisation) if entry.kind == "request"}
    for account in accounts:
        counting = [each for each in account.attempts if each.state is not State.BEATEN]
        costs = [each.cost for each in counting]
        entry = found[account.request_id]
        assert entry.attempts == len(account.attempts)
        assert entry.input_tokens == sum(each.usage.input for each in counting)
        assert entry.output_tokens == sum(each.usage.output for each in counting)
        assert entry.estimated == any(each.usage.estimated for each in counting)
        assert entry.cost_micros == (None if None in costs else sum(cost or 0 for cost in costs))
    assert _problems(database) == []


def _tried(tries: Sequence[Any]) -> tuple[AttemptRecord, ...]:
    return tuple(
        attempt(n, usage=usage, state=state, cost=0 if cost is None and not usage.input + usage.output else cost)
        for n, (usage, cost, state) in enumerate(tries, 1)
    )
