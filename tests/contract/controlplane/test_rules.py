"""Rules in the database: ordered, applied as often as one likes, checked against what there is, and in the trail."""

from __future__ import annotations

import pytest

from intertie.controlplane import audit, rules, snapshot
from intertie.controlplane.apply import Changes, apply
from intertie.controlplane.config import ConfigProblems
from intertie.controlplane.control import Control
from intertie.controlplane.rule_entries import RuleEntry, WishEntry
from intertie.core.routing.rules import Hours, Rule, When, Wish
from intertie.core.terms import StrategyName, Trust
from tests.contract.controlplane.documents import WHOLE, document

RULES = """
rules:
  - {name: private-stays, when: {tag: private, project: web, key: dev}, require: {trust: own}}
  - {when: {hours: "mon-fri 08:00-18:00", zone: Europe/Berlin, header: {x-team: "red*"}}, forbid: {upstream: acme}}
  - {name: cheap, prefer: {price: 2.5, region: eu}}
"""
EXPECTED = (
    Rule("private-stays", When(tag=("private",), project=("web",), key=("dev",)), require=Wish(trust=Trust.OWN)),
    Rule(
        "rule-2",
        When(header={"x-team": "red*"}, hours=Hours(480, 1080, frozenset(range(5)), "Europe/Berlin")),
        forbid=Wish(upstream=("acme",)),
    ),
    Rule("cheap", prefer=Wish(price=2_500_000, region=("eu",))),
)


def _apply(control: Control, text: str) -> Changes:
    return apply(control, "default", document(text))


def test_rules_come_back_as_they_were_written_and_in_order(control: Control) -> None:
    """Through SQL into the snapshot that the data plane has."""
    changes = _apply(control, WHOLE + RULES)
    assert [name for name in changes.created if name.startswith("rule")] == [
        "rule private-stays",
        "rule rule-2",
        "rule cheap",
    ]
    assert snapshot.build(control).rules == {"default": EXPECTED}
    views = rules.list_(control, "default")
    assert (views[0].name, views[0].origin) == ("private-stays", "config")
    assert views[1].says == (
        "when header x-team red* and hours mon,tue,wed,thu,fri 08:00-18:00 Europe/Berlin: forbid upstream acme"
    )


def test_twice_is_as_good_as_once(control: Control) -> None:
    """No row, no revision."""
    _apply(control, WHOLE + RULES)
    revision = snapshot.revision(control)
    again = _apply(control, WHOLE + RULES)
    assert (again.created, again.updated, again.removed) == ((), (), ())
    assert snapshot.revision(control) == revision


def test_order_is_part_of_a_rule_and_what_is_not_listed_is_removed(control: Control) -> None:
    """The last becomes the first; the nameless one goes."""
    _apply(control, WHOLE + RULES)
    first, _, last = (line for line in RULES.splitlines() if line.startswith("  -"))
    changes = _apply(control, f"{WHOLE}\nrules:\n{last}\n{first}\n")
    assert changes.updated == ("rule cheap", "rule private-stays")
    assert changes.removed == ("rule rule-2",)
    assert snapshot.build(control).rules["default"] == (EXPECTED[2], EXPECTED[0])
    assert _apply(control, WHOLE).removed == ("rule cheap", "rule private-stays")
    assert snapshot.build(control).rules == {}


def test_a_rule_about_what_is_not_there_is_refused_whole_with_the_nearest_name(control: Control) -> None:
    """Every reference at once, and nothing of the document is applied."""
    with pytest.raises(ConfigProblems) as caught:
        _apply(
            control,
            WHOLE
            + """
rules:
  - {when: {project: wbe, key: dve}, require: {upstream: acmee}}
  - {prefer: {upstream: [open, nowhere]}}
""",
        )
    assert {one.path: one.hint for one in caught.value.problems} == {
        "rules[0].when.project": "did you mean web?",
        "rules[0].when.key": "did you mean dev?",
        "rules[0].require.upstream": "did you mean acme?",
        "rules[1].prefer.upstream": "there is acme, open",
    }
    assert snapshot.build(control).upstreams == {}


def test_a_draft_is_checked_and_changes_nothing(control: Control) -> None:
    """As if it were applied."""
    _apply(control, WHOLE + RULES)
    revision = snapshot.revision(control)
    (made,) = rules.drafted(control, "default", [RuleEntry(forbid=WishEntry(upstream=["acme"]))])
    assert made == Rule("rule-1", forbid=Wish(upstream=("acme",)))
    with pytest.raises(ConfigProblems):
        rules.drafted(control, "default", [RuleEntry(forbid=WishEntry(upstream=["acmee"]))])
    assert snapshot.revision(control) == revision


def test_every_change_of_a_rule_is_in_the_trail(control: Control) -> None:
    """In words."""
    _apply(control, WHOLE + RULES)
    _apply(control, WHOLE)
    deeds = [(row.action, row.subject) for row in audit.list_(control, "default", limit=100) if "rule." in row.action]
    assert set(deeds) == {
        (f"rule.{deed}", name) for deed in ("create", "remove") for name in ("private-stays", "rule-2", "cheap")
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("prefer: {price: 123.4567}", "prefer: {price: 123.4568}"),
        ("prefer: {latency: 10.00001}", "prefer: {latency: 10.00002}"),
        (
            'when: {header: {x-a: "b", x-c: "d"}}, forbid: {trust: vendor}',
            'when: {header: {x-a: "b and header x-c d"}}, forbid: {trust: vendor}',
        ),
    ],
)
def test_two_rules_that_read_alike_are_two_rules_in_the_trail(control: Control, before: str, after: str) -> None:
    """Words round and run together; what changed is recorded all the same."""
    for rule in (before, after):
        _apply(control, f"{WHOLE}\nrules:\n  - {{name: r, {rule}}}\n")
    newest = next(row for row in audit.list_(control, "default") if row.action.startswith("rule."))
    assert newest.action == "rule.update"
    assert newest.detail["before"] != newest.detail["after"]


def test_routes_keep_their_options_and_upstreams_their_region(control: Control) -> None:
    """Strategy, sticky and fallback reach the snapshot; applying again changes nothing."""
    text = WHOLE.replace("company, enabled", "company, region: eu-west, enabled").replace(
        "    strategy: weighted\n",
        "    strategy: cheapest\n    sticky: true\n"
        "    fallback: {context_length_exceeded: [big], content_filter: [a, b]}\n",
    )
    _apply(control, text)
    assert _apply(control, text).updated == ()
    built = snapshot.build(control)
    route = built.routes["default", "gpt-4o-mini"]
    assert (route.strategy, route.sticky) == (StrategyName.CHEAPEST, True)
    assert route.fallback == {"context_length_exceeded": ("big",), "content_filter": ("a", "b")}
    assert {one.name: one.region for one in built.upstreams.values()} == {"acme": "", "open": "eu-west"}
