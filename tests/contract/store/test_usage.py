"""The books, summed: by what, for whom, and when."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from intertie.core.ledger import Settlement, State
from intertie.core.terms import Usage
from intertie.store import ledger, usage
from intertie.store.database import Database
from intertie.store.usage import Dimension, UsageRow
from tests.support.accounts import STARTED, attempt, settlement

DAY = 86_400


def _load(database: Database, *settlements: Settlement) -> None:
    ledger.load(database, [msgspec.json.encode(each) for each in settlements])


def _by(database: Database, dimension: Dimension, organisation: str = "default", **named: Any) -> list[UsageRow]:
    with database.read() as connection:
        span = named.get("since"), named.get("until")
        rows = usage.by(connection, organisation, dimension, *span, shadow=bool(named.get("shadow")))
    return (
        rows if named.get("times") else [msgspec.structs.replace(row, ttft_ms=None, duration_ms=None) for row in rows]
    )


def _row(name: str, **named: int | None) -> UsageRow:
    """One request of one good attempt, unless told otherwise."""
    one: dict[str, Any] = {
        "requests": 1,
        "input_tokens": 100,
        "output_tokens": 50,
        "cost_micros": 750,
        "unknown_cost_requests": 0,
        "errors": 0,
        "cache_hits": 0,
        "estimated": 0,
        "saved_micros": 0,
    }
    return UsageRow(name=name, **{**one, **named})


@pytest.fixture
def failover(database: Database) -> Database:
    """One request that failed over from acme to lab."""
    failed = attempt(1, state=State.FAILED, usage=Usage(), cost=0)
    _load(database, settlement("req_1", failed, attempt(2, upstream="lab", model="llama3:8b")))
    return database


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        ("route", [_row("gpt-4o-mini")]),
        ("project", [_row("web")]),
        ("key", [_row("web/dev")]),
        ("member", [_row("")]),
        ("day", [_row("2023-11-14")]),
        ("upstream", [_row("acme", input_tokens=0, output_tokens=0, cost_micros=0, errors=1), _row("lab")]),
        ("model", [_row("big-model", input_tokens=0, output_tokens=0, cost_micros=0, errors=1), _row("llama3:8b")]),
        (
            "target",
            [
                _row("acme/big-model", input_tokens=0, output_tokens=0, cost_micros=0, errors=1),
                _row("lab/llama3:8b"),
            ],
        ),
        ("node", []),
    ],
)
def test_each_dimension_has_its_rows(failover: Database, dimension: Dimension, expected: list[UsageRow]) -> None:
    assert _by(failover, dimension) == expected


def test_by_node_counts_what_machines_did_and_nothing_else(database: Database) -> None:
    """The vendor that took over is in none of the rows."""
    broke = attempt(1, upstream="rig", node="rig", state=State.FAILED, usage=Usage(), cost=0)
    _load(
        database,
        settlement("req_1", broke, attempt(2)),
        settlement("req_2", attempt(1, upstream="lab", node="lab", cost=0), route="nodes/lab"),
    )

    assert _by(database, "node") == [
        _row("lab", cost_micros=0),
        _row("rig", input_tokens=0, output_tokens=0, cost_micros=0, errors=1),
    ]
    assert {row.name for row in _by(database, "route")} == {"gpt-4o-mini", "nodes/lab"}


def test_by_member_every_request_is_in_one_row(database: Database) -> None:
    """Over all keys and projects; those of nobody together."""
    _load(
        database,
        settlement("req_1", member="anna@example.com"),
        settlement("req_2", member="anna@example.com", project="app", key_id="key_2"),
        settlement("req_3"),
    )

    assert _by(database, "member") == [
        _row("anna@example.com", requests=2, input_tokens=200, output_tokens=100, cost_micros=1500),
        _row(""),
    ]


def test_every_dimension_is_answered_for_empty_books(database: Database) -> None:
    assert [_by(database, dimension) for dimension in get_args(Dimension)] == [[]] * len(get_args(Dimension))


def test_T61_unknown_costs_are_counted_apart_and_never_as_zero(database: Database) -> None:
    _load(database, settlement("req_1"), settlement("req_2", attempt(1, cost=None)))

    assert _by(database, "route") == [
        _row("gpt-4o-mini", requests=2, input_tokens=200, output_tokens=100, cost_micros=750, unknown_cost_requests=1)
    ]


def test_T61_if_no_cost_is_known_there_is_no_sum(database: Database) -> None:
    _load(database, settlement("req_1", attempt(1, cost=None)))
    expected = {"cost_micros": None, "unknown_cost_requests": 1}

    assert _by(database, "route") == [_row("gpt-4o-mini", **expected)]
    assert _by(database, "upstream") == [_row("acme", **expected)]


def test_a_request_that_touched_an_upstream_twice_is_one_request_of_it(database: Database) -> None:
    _load(database, settlement("req_1", attempt(1, cost=None), attempt(2, cost=None)))

    assert _by(database, "upstream") == [
        _row("acme", input_tokens=200, output_tokens=100, cost_micros=None, unknown_cost_requests=1)
    ]


def test_failed_and_interrupted_requests_are_errors_and_a_client_that_left_is_none(database: Database) -> None:
    _load(database, *(settlement(f"req_{state}", state=state) for state in State))

    (row,) = _by(database, "route")
    assert (row.requests, row.errors) == (6, 2)


def test_cache_hits_and_estimates_are_counted(database: Database) -> None:
    _load(
        database,
        settlement("req_1", attempts=(), cache="hit", saved=750),
        settlement("req_2", cache="miss"),
        settlement("req_3", attempt(1, usage=Usage(1, 1, estimated=True))),
        settlement("req_4", attempts=(), cache="coalesced", saved=None),
        settlement("req_5", attempts=(), cache="coalesced", state=State.FAILED),
        settlement("req_6", attempts=(), cache="coalesced", saved=30),
    )

    (row,) = _by(database, "route")
    assert (row.requests, row.cache_hits, row.estimated, row.saved_micros) == (6, 3, 1, 780)
    assert {row.saved_micros for row in _by(database, "upstream")} == {0}


def test_a_span_includes_its_beginning_and_excludes_its_end(database: Database) -> None:
    _load(database, *(settlement(f"req_{n}", started_at=STARTED + n * DAY) for n in range(4)))

    rows = _by(database, "day", since=STARTED + DAY, until=STARTED + 3 * DAY)
    assert [row.name for row in rows] == ["2023-11-15", "2023-11-16"]


def test_days_change_at_midnight_utc(database: Database) -> None:
    midnight = 1_700_006_400.0
    _load(database, settlement("req_1", started_at=midnight - 0.001), settlement("req_2", started_at=midnight))

    assert [row.name for row in _by(database, "day")] == ["2023-11-14", "2023-11-15"]


def test_the_most_used_come_first(database: Database) -> None:
    _load(database, *(settlement(f"req_{n}", route="often" if n else "seldom") for n in range(3)))

    assert [row.name for row in _by(database, "route")] == ["often", "seldom"]


@pytest.mark.parametrize("dimension", get_args(Dimension))
def test_another_organisation_sees_nothing(failover: Database, dimension: Dimension) -> None:
    assert _by(failover, dimension, organisation="other") == []


def test_keys_of_the_same_name_in_two_projects_are_two_rows(database: Database) -> None:
    _load(database, settlement("req_1"), settlement("req_2", project="lab"))

    assert [row.name for row in _by(database, "key")] == ["lab/dev", "web/dev"]


def test_mean_times_are_of_what_streamed_and_of_what_ended_well(database: Database) -> None:
    """By target, those of attempts."""
    slow = attempt(1, duration_ms=1900, ttft_ms=None)
    failed = attempt(1, duration_ms=99_000, ttft_ms=None, state=State.FAILED, usage=Usage(), cost=0)
    _load(
        database,
        settlement("req_1", duration_ms=1000, ttft_ms=100),
        settlement("req_2", slow, duration_ms=2000, ttft_ms=None),
        settlement("req_3", failed, state=State.FAILED, duration_ms=99_000, ttft_ms=None),
    )

    (route,) = _by(database, "route", times=True)
    (target,) = _by(database, "target", times=True)
    assert (route.ttft_ms, route.duration_ms) == (100, 1500)
    assert (target.ttft_ms, target.duration_ms) == (80, 1400)


@pytest.mark.parametrize("dimension", get_args(Dimension))
def test_copies_for_shadow_targets_are_in_sums_of_their_own(database: Database, dimension: Dimension) -> None:
    """Whatever is asked by: neither sum has anything of the other."""
    copy = attempt(1, upstream="rig", node="rig", model="small", cost=7)
    real = attempt(1, upstream="rig", node="rig")
    _load(database, settlement("req_1", real), settlement("req_1.s1", copy, shadow_of="req_1", error="x"))

    (row,), (shadow,) = (_by(database, dimension, shadow=shadow) for shadow in (False, True))
    assert (row.requests, row.cost_micros) == (1, 750)
    assert (shadow.requests, shadow.cost_micros) == (1, 7)


def test_beaten_attempts_are_their_upstreams_and_not_their_callers(database: Database) -> None:
    """What was spent by upstream is more than what requests cost, by what the losers of hedges cost."""
    beaten = attempt(1, state=State.BEATEN, cost=100, usage=Usage(input=40, estimated=True))
    _load(database, settlement("req_1", beaten, attempt(2, upstream="lab")))

    assert _by(database, "project") == [_row("web")]
    assert _by(database, "upstream") == [
        _row("acme", input_tokens=40, output_tokens=0, cost_micros=100, estimated=1),
        _row("lab"),
    ]
