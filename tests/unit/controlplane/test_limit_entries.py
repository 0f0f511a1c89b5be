"""What a configuration may say of limits, and what it is told when it is wrong."""

from __future__ import annotations

import pytest

from intertie.controlplane import config
from intertie.controlplane.config import ConfigProblems, receive_entry
from intertie.controlplane.limit_entries import LimitEntry
from intertie.core.policy.limits import AtCap, Level, Limit, Measure
from intertie.core.policy.windows import Per

FILE = """
organisation: {budgets: [{amount: 1000, per: month}]}
upstreams:
  - {name: acme, provider: openai, quotas: [{tokens: 1000000, per: day}]}
routes:
  - {model: fast, targets: [{upstream: acme}], limits: {rpm: 60}}
models:
  big-model: {limits: {concurrency: 3}}
projects:
  - name: web
    max_output: 500
    limits: {rpm: 600, tpm: 200000, concurrency: 50, wait: 10}
    budgets: [{amount: 50.10, per: month, zone: Europe/Berlin, at_cap: cheaper, alert: [90, 50, 90]}]
    keys: [{name: dev, quotas: [{requests: 5, per: hour}, {requests: 50, per: day}]}]
members:
  - {email: anna@example.com, budgets: [{amount: 20, per: month}]}
"""


def test_every_noun_may_have_limits() -> None:
    """Each with whom it limits, and money to the micro-unit."""
    made = config.parse(FILE)
    project = made.projects[0]
    rpm, tpm, places, budget = project.held(Level.PROJECT, "web")

    assert (rpm.measure, rpm.amount, rpm.per, rpm.id) == (Measure.REQUESTS, 600, None, "project:web:requests:rate")
    assert (tpm.measure, tpm.amount) == (Measure.TOKENS, 200_000)
    assert (places.measure, places.amount, places.wait) == (Measure.CONCURRENCY, 50, 10.0)
    assert budget == Limit(
        "project:web:money:month",
        Level.PROJECT,
        "web",
        Measure.MONEY,
        50_100_000,
        Per.MONTH,
        "Europe/Berlin",
        AtCap.CHEAPER,
        (50, 90),
    )
    assert project.max_output == 500
    assert [one.per for one in project.keys[0].held(Level.KEY, "key_1")] == [Per.HOUR, Per.DAY]
    assert made.organisation is not None
    assert [one.name for one in made.models] == ["big-model"]
    (own,) = made.members[0].held(Level.MEMBER, made.members[0].email)
    assert own.id == "member:anna@example.com:money:month"


def test_the_way_to_the_admin_api_loses_nothing() -> None:
    """A document that is dumped and received again holds the same limits."""
    made = config.parse(FILE)
    again = config.receive(config.dump(config.resolve(made, {}, lambda _: "")))

    assert again.projects[0].held(Level.PROJECT, "web") == made.projects[0].held(Level.PROJECT, "web")
    assert again.models == made.models


@pytest.mark.parametrize(
    ("project", "path", "message", "hint"),
    [
        ("budgets: [{amount: 5, per: month, zone: Europe/Berlim}]", "budgets[0].zone", "no time zone", "Europe/Berlin"),
        ("budgets: [{amount: 5, per: month, zone: ../etc}]", "budgets[0].zone", "no time zone", "UTC"),
        ("budgets: [{amount: 5, per: fortnight}]", "budgets[0].per", "must be 'minute'", ""),
        ("budgets: [{amount: -5, per: month}]", "budgets[0].amount", "between 0", ""),
        ("budgets: [{amount: 0.0000001, per: month}]", "budgets[0].amount", "six decimals", ""),
        ("budgets: [{amount: .inf, per: month}]", "budgets[0].amount", "must be a number", ""),
        ("budgets: [{amount: 5, per: month, at_cap: stop}]", "budgets[0].at_cap", "must be 'refuse'", ""),
        ("budgets: [{amount: 5, per: month, alert: [0]}]", "budgets[0].alert", "1 to 100", ""),
        ("budgets: [{amount: 5, per: day}, {amount: 6, per: day}]", "", "two budgets per day", "keep one"),
        ("quotas: [{requests: 5, tokens: 5, per: day}]", "quotas[0]", "either `requests` or `tokens`", ""),
        ("quotas: [{per: day}]", "quotas[0]", "either `requests` or `tokens`", ""),
        ("limits: {rpm: 0}", "limits.rpm", "greater than or equal to 1", ""),
        ("limits: {rps: 5}", "limits.rps", "unknown key", "rpm"),
        ("limits: {wait: 5}", "limits", "`wait` without `concurrency`", ""),
        ("max_output: 0", "max_output", "greater than or equal to 1", ""),
    ],
)
def test_mistakes_are_named(project: str, path: str, message: str, hint: str) -> None:
    """With where they are and what to write instead."""
    with pytest.raises(ConfigProblems) as caught:
        config.parse(f"projects: [{{name: web, {project}}}]")
    found = caught.value.problems[0]

    assert found.path == f"projects[0].{path}".removesuffix(".")
    assert message in found.message
    assert hint in found.hint


def test_calls_do_not_wait_at_upstreams() -> None:
    """They go on to the next target."""
    with pytest.raises(ConfigProblems, match="cannot have `wait`"):
        config.parse("upstreams: [{name: a, provider: openai, limits: {concurrency: 1, wait: 5}}]")


@pytest.mark.parametrize(
    ("alerts", "message"),
    [
        ("{webhook: http://alerts.example.com/x, secret: {env: S}}", "must begin with https://"),
        ("{webhook: https://u:p@x.example.com, secret: {env: S}}", "must not carry a user"),
        ("{webhook: https://x.example.com}", "is required"),
        ("{webhook: https://x.example.com, secret: {value: abc}}", "secrets do not belong in the file"),
    ],
)
def test_whom_alerts_may_go_to(alerts: str, message: str) -> None:
    """Over TLS, without a secret in the address, and signed."""
    with pytest.raises(ConfigProblems, match=message):
        config.parse(f"alerts: {alerts}")


@pytest.mark.parametrize("secret", ["", "short"])
def test_a_weak_signature_is_refused(secret: str) -> None:
    """An empty secret would sign for everybody."""
    made = config.parse("alerts: {webhook: https://x.example.com, secret: {env: S}}")
    with pytest.raises(ConfigProblems, match=r"empty|less than 16"):
        config.resolve(made, {"S": secret}, lambda _: "")


def test_one_limit_from_the_admin_api() -> None:
    """Money in currency units, counts as they are."""
    budget = receive_entry(LimitEntry, {"level": "organisation", "measure": "money", "amount": "9.5", "per": "week"})
    assert budget.limit("default").amount == 9_500_000
    rate = receive_entry(LimitEntry, {"level": "key", "holder": "k", "measure": "tokens", "amount": 7})
    assert rate.limit("k").is_rate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": "membre"}, "did you mean member"),
        ({"holder": None}, "names a `holder`"),
        ({"per": None}, "a budget needs `per`"),
        ({"measure": "concurrency", "amount": 5}, "has no `per`"),
        ({"measure": "requests", "amount": "5"}, "whole number"),
        ({"wait": 5}, "only calls under a limit of concurrency wait"),
        ({"amount": "much"}, "must be a number"),
    ],
)
def test_one_limit_that_is_none(change: dict[str, object], message: str) -> None:
    """Refused with what is wrong."""
    content = {"level": "project", "holder": "web", "measure": "money", "amount": 5, "per": "day", **change}
    with pytest.raises(ConfigProblems, match=message):
        receive_entry(LimitEntry, content)
