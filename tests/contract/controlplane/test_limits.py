"""Limits in the database: applied like everything else, and sums that agree with the entries they are made of."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from intertie.controlplane import audit, keys, limits, snapshot
from intertie.controlplane.apply import Changes, apply
from intertie.controlplane.control import Control, Unknown
from intertie.controlplane.limit_entries import LimitEntry
from intertie.controlplane.outcome import Outcome
from intertie.core.ledger import State
from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per, window
from intertie.core.terms import Usage
from intertie.dataplane.adoption import Opened, share_of
from intertie.store import ledger
from tests.contract.controlplane.documents import ENV, document
from tests.support.accounts import STARTED, attempt, settlement

FILE = """
organisation: {budgets: [{amount: 1000, per: month}]}
upstreams:
  - {name: acme, provider: openai, quotas: [{tokens: 1000000, per: day}]}
routes:
  - {model: fast, targets: [{upstream: acme, model: m}], limits: {rpm: 60}}
models: {m: {limits: {concurrency: 3}}}
projects:
  - name: web
    max_output: 500
    limits: {rpm: 600, concurrency: 50, wait: 10}
    budgets: [{amount: 50.10, per: month, zone: Europe/Berlin, at_cap: cheaper}]
    keys: [{name: dev, value: {env: WEB_KEY}, quotas: [{requests: 5, per: hour}]}]
alerts: {webhook: "https://alerts.example.com/hook", secret: {env: OTHER_KEY}}
"""


def _apply(control: Control, text: str) -> Changes:
    return apply(control, "default", document(text))


def test_a_file_is_in_the_snapshot_as_written(control: Control) -> None:
    """Each limit under its holder; a key's under its id, which a new value of the key does not change."""
    _apply(control, FILE)
    made = snapshot.build(control)
    (key,) = keys.list_(control, "default")

    assert sorted((level, holder) for _, level, holder in made.limits) == [
        ("key", key.id),
        ("model", "m"),
        ("organisation", "default"),
        ("project", "web"),
        ("route", "fast"),
        ("upstream", "acme"),
    ]
    rate, places, budget = made.limits["default", "project", "web"]
    assert {rate.measure, places.measure, budget.measure} == {"requests", "concurrency", "money"}
    assert {one.id.partition("/")[0] for held in made.limits.values() for one in held} == {"default"}
    assert made.max_output == {("default", "web"): 500}
    assert made.alerts["default"].url == "https://alerts.example.com/hook"
    assert made.alerts["default"].secret.reveal() == ENV["OTHER_KEY"]
    assert ENV["OTHER_KEY"] not in repr(made.alerts)


def test_applying_again_changes_nothing_and_what_is_gone_is_removed(control: Control) -> None:
    """Limits by another door stay."""
    first = _apply(control, FILE)
    revision = snapshot.revision(control)
    again = _apply(control, FILE)
    assert (again.created, again.updated, again.removed) == ((), (), ())
    assert snapshot.revision(control) == revision
    assert sum(one.startswith("limit ") for one in first.created) == 8

    entry = LimitEntry(level=Level.PROJECT, holder="web", measure=Measure.TOKENS, amount=9)
    limits.put(control, "default", entry)
    fewer = FILE.replace("limits: {rpm: 600, concurrency: 50, wait: 10}", "limits: {rpm: 700}").replace("500", "400")
    changed = _apply(control, fewer.partition("alerts:")[0])
    assert changed.updated == ("project web", "limit project:web:requests:rate")
    assert changed.removed == ("limit project:web:concurrency:rate", "alerts")
    assert "project:web:tokens:rate" in {view.id for view, _ in limits.list_(control, "default")}


def test_each_change_is_in_the_audit_trail_without_the_secret(control: Control) -> None:
    """Who raised a budget is what one asks a year later."""
    _apply(control, FILE)
    _apply(control, FILE.replace("amount: 50.10", "amount: 60"))
    records = audit.list_(control, "default")

    raised = next(row for row in records if row.action == "limit.update")
    assert raised.subject == "project:web:money:month"
    assert (raised.detail["before"]["amount"], raised.detail["after"]["amount"]) == (50_100_000, 60_000_000)
    assert any(row.action == "alerts.create" for row in records)
    assert ENV["OTHER_KEY"] not in repr(records)


def test_one_limit_at_a_time(control: Control) -> None:
    """A key by its name; nobody unknown; removing twice says so."""
    _apply(control, FILE)
    (key,) = keys.list_(control, "default")
    entry = LimitEntry(level=Level.KEY, holder="web/dev", measure=Measure.MONEY, amount="5", per=Per.DAY)
    assert limits.put(control, "default", entry) == (f"key:{key.id}:money:day", Outcome.CREATED)
    assert limits.put(control, "default", entry)[1] is Outcome.UNCHANGED
    view = next(view for view, _ in limits.list_(control, "default") if view.measure == "money" and view.level == "key")
    assert (view.name, view.amount) == ("web/dev", 5_000_000)

    limits.remove(control, "default", view.id)
    with pytest.raises(Unknown):
        limits.remove(control, "default", view.id)
    for level, holder in ((Level.KEY, "web/devv"), (Level.PROJECT, "wep"), (Level.UPSTREAM, "acne")):
        with pytest.raises(Unknown, match="did you mean"):
            limits.put(control, "default", LimitEntry(level=level, holder=holder, measure=Measure.TOKENS, amount=5))


# -- sums ------------------------------------------------------------------------------------------------------------

DAY = 86_400.0
ENTRIES = (
    settlement("req_1"),
    settlement("req_2", attempt(1, state=State.FAILED, usage=Usage(), cost=0), attempt(2, upstream="lab", model="x")),
    settlement("req_3", attempt(1, cost=None), project="api", key_id="key_2", member="anna@example.com"),
    settlement("req_4", attempt(1, started_at=STARTED + DAY), started_at=STARTED + DAY - 0.5),
    msgspec.structs.replace(settlement("req_5"), attempts=(), status=429, state=State.FAILED),
    msgspec.structs.replace(settlement("req_6"), attempts=(), cache="hit"),
    settlement("req_7", organisation="other", member="anna@example.com"),
    settlement("req_8", project="app", member="anna@example.com"),
    settlement("req_9", attempt(1, state=State.BEATEN, cost=33, usage=Usage(input=11)), attempt(2, upstream="lab")),
    settlement("req_1.s1", attempt(1, model="x", cost=70), shadow_of="req_1"),
)
HOLDERS = {
    Level.ORGANISATION: ("default", "other"),
    Level.PROJECT: ("web", "api"),
    Level.MEMBER: ("anna@example.com", "bob@example.com"),
    Level.KEY: ("key_1", "key_2"),
    Level.ROUTE: ("gpt-4o-mini", "none"),
    Level.MODEL: ("big-model", "x"),
    Level.UPSTREAM: ("acme", "lab"),
}


def _every_limit() -> list[Limit]:
    measures = (Measure.REQUESTS, Measure.TOKENS, Measure.MONEY)
    return [
        Limit(limit_id(level, holder, measure, per), level, holder, measure, 1, per, "Europe/Berlin")
        for level, holders in HOLDERS.items()
        for holder, measure, per in itertools.product(holders, measures, Per)
    ]


def _sum(control: Control, limit: Limit, at: float) -> int:
    with control.database.read() as connection:
        (opened,) = limits.spent(connection, [("default", limit)], at)
    return opened.spent


@pytest.mark.parametrize("at", [STARTED, STARTED + DAY])
def test_the_books_say_what_was_spent_of_each_limit(control: Control, at: float) -> None:
    """What SQL sums is what the accounts of the same requests add up to, for every level, measure and window."""
    ledger.load(control.database, [msgspec.json.encode(each) for each in ENTRIES])
    for limit in _every_limit():
        assert limit.per is not None
        opened = Opened(limit, "default", window(limit.per, limit.zone, at), 0)
        expected = sum(share_of(opened, each) for each in ENTRIES)
        assert _sum(control, limit, at) == expected, limit.id


def test_entries_that_are_dated_ahead_are_known_for_their_windows(control: Control) -> None:
    """A clock was ahead when they were made. When time comes into their window, it is spent as far as they say."""
    ledger.load(control.database, [msgspec.json.encode(each) for each in ENTRIES])
    budget = Limit("x", Level.PROJECT, "web", Measure.MONEY, 1, Per.DAY)
    quota = Limit("y", Level.PROJECT, "web", Measure.REQUESTS, 1, Per.HOUR)
    with control.database.read() as connection:
        before = limits.spent(connection, [("default", budget), ("default", quota)], STARTED - DAY)
        now = limits.spent(connection, [("default", budget)], STARTED + 2 * DAY)

    day, next_day = (window(Per.DAY, "UTC", at).id for at in (STARTED, STARTED + DAY))
    assert [one.spent for one in before] == [0, 0]
    assert before[0].later == {day: 3 * 750, next_day: 750}
    hour, next_hour = (window(Per.HOUR, "UTC", at).id for at in (STARTED, STARTED + DAY))
    assert before[1].later == {hour: 4, next_hour: 1}
    assert now[0].later == {}


def test_sums_by_hand(control: Control) -> None:
    """So that two equal mistakes do not agree with each other."""
    ledger.load(control.database, [msgspec.json.encode(each) for each in ENTRIES])

    def said(level: Level, holder: str, measure: Measure, per: Per) -> int:
        return _sum(control, Limit("x", level, holder, measure, 1, per), STARTED)

    # What no caller was answered with, a beaten attempt (33) and a copy (70), is for the operator alone.
    assert said(Level.ORGANISATION, "default", Measure.MONEY, Per.TOTAL) == 5 * 750 + 33 + 70
    assert said(Level.ORGANISATION, "default", Measure.REQUESTS, Per.TOTAL) == 6 + 1 + 1
    assert said(Level.ORGANISATION, "default", Measure.TOKENS, Per.TOTAL) == 7 * 150
    assert said(Level.PROJECT, "web", Measure.MONEY, Per.TOTAL) == 4 * 750
    assert said(Level.PROJECT, "web", Measure.TOKENS, Per.TOTAL) == 4 * 150
    assert said(Level.ROUTE, "gpt-4o-mini", Measure.REQUESTS, Per.TOTAL) == 6 + 1
    assert said(Level.MEMBER, "anna@example.com", Measure.REQUESTS, Per.TOTAL) == 2
    assert said(Level.MEMBER, "anna@example.com", Measure.MONEY, Per.TOTAL) == 750
    assert said(Level.UPSTREAM, "acme", Measure.REQUESTS, Per.TOTAL) == 5 + 1 + 1
    assert said(Level.UPSTREAM, "acme", Measure.TOKENS, Per.TOTAL) == 5 * 150 + 11
    assert said(Level.MODEL, "x", Measure.MONEY, Per.TOTAL) == 750 + 70
    # Begun in one day and paid in the next: the request counts here, the money there.
    assert said(Level.PROJECT, "web", Measure.MONEY, Per.DAY) == 3 * 750
