"""Rules in the database: ordered, applied as often as one likes, checked against what there is, and in the trail."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.controlplane import audit, rules, snapshot
from intertie.controlplane.apply import Changes, apply
from intertie.controlplane.config import ConfigProblems
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.outcome import Outcome
from intertie.controlplane.rule_entries import MOST_RULES, DraftEntry, RuleEntry, WishEntry
from intertie.controlplane.rules import Spot
from intertie.core.errors import BadCall
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
    (made,) = rules.drafted(control, "default", DraftEntry(rules=[RuleEntry(forbid=WishEntry(upstream=["acme"]))]))
    assert made == Rule("rule-1", forbid=Wish(upstream=("acme",)))
    with pytest.raises(ConfigProblems):
        rules.drafted(control, "default", DraftEntry(rules=[RuleEntry(forbid=WishEntry(upstream=["acmee"]))]))
    assert snapshot.revision(control) == revision


def _entry(name: str | None, **more: Any) -> RuleEntry:
    return RuleEntry.model_validate({"name": name, "prefer": {"region": "eu"}, **more})


def _order(control: Control) -> list[str]:
    return [rule.name for rule in snapshot.build(control).rules.get("default", ())]


def test_one_rule_at_a_time(control: Control) -> None:
    """Made at the end or at a place, replaced where it is, moved, removed; twice is as good as once."""
    _apply(control, WHOLE + RULES)
    assert rules.put(control, "default", _entry("last")) is Outcome.CREATED
    assert rules.put(control, "default", _entry("first"), Spot(before="private-stays")) is Outcome.CREATED
    assert rules.put(control, "default", _entry("last", when={"tag": "x"})) is Outcome.UPDATED
    assert _order(control) == ["first", "private-stays", "rule-2", "cheap", "last"]
    revision = snapshot.revision(control)
    assert rules.put(control, "default", _entry("last", when={"tag": "x"})) is Outcome.UNCHANGED
    assert rules.move(control, "default", "first", Spot(before="private-stays")).place == 1
    assert snapshot.revision(control) == revision

    assert rules.move(control, "default", "first", Spot(after="rule-2")).place == 3
    assert rules.put(control, "default", _entry("last", when={"tag": "x"}), Spot(after="first")) is Outcome.UPDATED
    assert _order(control) == ["private-stays", "rule-2", "first", "last", "cheap"]
    rules.remove(control, "default", "rule-2")
    view = rules.show(control, "default", "last")
    assert (view.place, view.origin, view.says) == (3, "api", "when tag x: prefer region eu")
    assert view.entry == {"name": "last", "when": {"tag": "x"}, "prefer": {"region": "eu"}}
    assert [view.place for view in rules.list_(control, "default")] == [1, 2, 3, 4]
    assert rules.list_(control, "other") == []


def test_rules_made_by_command_stay_where_they_are_under_a_file(control: Control) -> None:
    """Behind the rule that they followed; a file with the section, without it, or with fewer rules in it."""
    _apply(control, WHOLE + RULES)
    rules.put(control, "default", _entry("front"), Spot(before="private-stays"))
    rules.put(control, "default", _entry("second"), Spot(after="rule-2"))
    rules.put(control, "default", _entry("third"), Spot(after="second"))
    revision = snapshot.revision(control)
    again = _apply(control, WHOLE + RULES)
    assert (again.created, again.updated, again.removed) == ((), (), ())
    assert snapshot.revision(control) == revision
    assert _order(control) == ["front", "private-stays", "rule-2", "second", "third", "cheap"]

    first, _, last = (line for line in RULES.splitlines() if line.startswith("  -"))
    assert _apply(control, f"{WHOLE}\nrules:\n{last}\n{first}\n").removed == ("rule rule-2",)
    assert _order(control) == ["front", "cheap", "private-stays", "second", "third"]
    assert _apply(control, WHOLE).removed == ("rule private-stays", "rule cheap")[::-1]
    assert _order(control) == ["front", "second", "third"]


def test_a_file_takes_over_what_it_lists_and_takes_back_what_was_changed(control: Control) -> None:
    """As with routes and limits: the last to write it owns it."""
    rules.put(control, "default", RuleEntry.model_validate({"name": "cheap", "prefer": {"price": 2.5, "region": "eu"}}))
    last = RULES.splitlines()[-1]
    assert "rule cheap" in _apply(control, f"{WHOLE}\nrules:\n{last}\n").unchanged
    _apply(control, WHOLE + RULES)
    assert [view.origin for view in rules.list_(control, "default")] == ["config"] * 3

    rules.put(control, "default", _entry("cheap"))
    assert rules.show(control, "default", "cheap").origin == "api"
    rules.move(control, "default", "rule-2", Spot(before="private-stays"))
    assert rules.show(control, "default", "rule-2").origin == "config"
    assert set(_apply(control, WHOLE + RULES).updated) == {"rule private-stays", "rule rule-2", "rule cheap"}
    assert snapshot.build(control).rules == {"default": EXPECTED}

    rules.put(control, "default", _entry("cheap"))
    assert "rule cheap" not in _apply(control, WHOLE).removed
    assert _order(control) == ["cheap"]


def test_a_rule_by_command_is_checked_like_one_of_a_file(control: Control) -> None:
    """What it names, its own name, its place, and how many there are."""
    _apply(control, WHOLE + RULES)
    revision = snapshot.revision(control)
    with pytest.raises(ConfigProblems) as caught:
        rules.put(control, "default", _entry("x", when={"project": "wbe"}, forbid={"upstream": "acmee"}))
    assert {one.path: one.hint for one in caught.value.problems} == {
        "when.project": "did you mean web?",
        "forbid.upstream": "did you mean acme?",
    }
    with pytest.raises(ConfigProblems, match="is required"):
        rules.put(control, "default", _entry(None))
    with pytest.raises(BadCall, match="take another name"):
        rules.put(control, "default", _entry("rule-9"))
    with pytest.raises(BadCall, match="by itself"):
        rules.move(control, "default", "cheap", Spot(after="cheap"))
    for attempt in (
        lambda: rules.put(control, "default", _entry("x"), Spot(before="chaep")),
        lambda: rules.move(control, "default", "chaep", Spot(before="cheap")),
        lambda: rules.remove(control, "default", "chaep"),
        lambda: rules.show(control, "default", "chaep"),
    ):
        with pytest.raises(Unknown, match=r"did you mean cheap\?"):
            attempt()
    assert snapshot.revision(control) == revision
    assert rules.put(control, "default", _entry("rule-2")) is Outcome.UPDATED

    for number in range(MOST_RULES - 3):
        rules.put(control, "default", _entry(f"r{number}"))
    with pytest.raises(Conflict, match="200 rules already"):
        rules.put(control, "default", _entry("one-more"))


def test_a_change_is_drafted_on_what_is_in_force(control: Control) -> None:
    """One rule put, at its place, or removed; nothing changes."""
    _apply(control, WHOLE + RULES)
    revision = snapshot.revision(control)
    put = {"put": {"name": "new", "forbid": {"upstream": "acme"}}, "before": "rule-2"}
    made = rules.drafted(control, "default", DraftEntry.model_validate(put))
    assert [rule.name for rule in made] == ["private-stays", "new", "rule-2", "cheap"]
    assert made[1].forbid == Wish(upstream=("acme",))
    made = rules.drafted(control, "default", DraftEntry.model_validate({"remove": "rule-2"}))
    assert made == (EXPECTED[0], EXPECTED[2])
    with pytest.raises(Unknown):
        rules.drafted(control, "default", DraftEntry.model_validate({"remove": "rule-3"}))
    assert snapshot.revision(control) == revision


def test_what_commands_do_to_rules_is_in_the_trail(control: Control) -> None:
    """One record per deed, also when places of others shift."""
    _apply(control, WHOLE + RULES)
    rules.put(control, "default", _entry("x"), Spot(before="private-stays"))
    rules.move(control, "default", "x", Spot(after="cheap"))
    rules.remove(control, "default", "x")
    removed, moved, made = audit.list_(control, "default", limit=3)
    assert [row.action for row in (made, moved, removed)] == ["rule.create", "rule.move", "rule.remove"]
    assert moved.detail == {"before": {"position": 1}, "after": {"position": 4}}
    assert made.detail["after"]["says"] == "always: prefer region eu"


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
