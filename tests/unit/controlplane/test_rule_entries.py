"""Rules as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.controlplane import config, document
from intertie.controlplane.config import ConfigProblems
from intertie.controlplane.rule_entries import DraftEntry, MoveEntry, RuleEntry, parse_hours, written
from intertie.core.routing.rules import Hours, Rule, When, Wish
from intertie.core.terms import Operation, Trust


def rules(text: str) -> list[Rule]:
    return [entry.rule(place) for place, entry in enumerate(config.parse(f"rules:\n{text}").rules, start=1)]


def problems(text: str) -> dict[str, str]:
    with pytest.raises(ConfigProblems) as caught:
        config.parse(f"rules:\n{text}")
    return {one.path: f"{one.message} ({one.hint})" for one in caught.value.problems}


def test_a_whole_rule_is_read() -> None:
    """Every condition and every demand, single values and lists."""
    (rule,) = rules("""
- name: all
  when:
    key: dev
    project: [web, shop]
    member: Eve@Example.com
    tag: Private
    header: {X-Team: "red*"}
    model: "gpt-*"
    operation: chat
    needs: [tools, vision]
    larger_than: 100
    smaller_than: 1000
    content: card
    hours: mon-fri 08:00-18:00
    zone: Europe/Berlin
  require: {trust: company, region: eu, node_label: gpu, latency: 2}
  prefer: {upstream: acme}
  forbid: {price: 12.5}
""")
    assert rule == Rule(
        name="all",
        when=When(
            key=("dev",),
            project=("web", "shop"),
            member=("eve@example.com",),
            tag=("private",),
            header={"x-team": "red*"},
            model=("gpt-*",),
            operation=(Operation.CHAT,),
            needs=("tools", "vision"),
            larger_than=100,
            smaller_than=1000,
            content=("card",),
            hours=Hours(480, 1080, frozenset(range(5)), "Europe/Berlin"),
        ),
        require=Wish(trust=Trust.COMPANY, region=("eu",), node_label=("gpu",), latency=2.0),
        prefer=Wish(upstream=("acme",)),
        forbid=Wish(price=12_500_000),
    )


def test_a_rule_without_a_name_is_called_by_its_place() -> None:
    """So that errors can name it."""
    assert [rule.name for rule in rules("- forbid: {trust: vendor}\n- {name: b, prefer: {region: eu}}")] == [
        "rule-1",
        "b",
    ]


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("08:00-18:00", Hours(480, 1080)),
        ("22:00-06:00", Hours(1320, 360)),
        ("sat,sun 00:00-24:00", Hours(0, 1440, frozenset({5, 6}))),
        ("fri-mon 10:00-11:30", Hours(600, 690, frozenset({4, 5, 6, 0}))),
        ("Mon-Thu,sat 10:00-11:30", Hours(600, 690, frozenset({0, 1, 2, 3, 5}))),
    ],
)
def test_hours_are_read(text: str, hours: Hours) -> None:
    """With days or without, over midnight too."""
    assert parse_hours(text) == hours


@pytest.mark.parametrize(
    "text", ["8-18", "25:00-26:00", "08:00-08:00", "mo-fr 08:00-18:00", "08:61-09:00", "24:00-01:00"]
)
def test_hours_that_are_none_say_how_to_write_them(text: str) -> None:
    """One example is worth a grammar."""
    assert (
        "write 08:00-18:00"
        in problems(f"- {{when: {{hours: '{text}'}}, require: {{trust: own}}}}")["rules[0].when.hours"]
    )


def test_everything_wrong_is_told_at_once_with_the_nearest_name() -> None:
    """Fields, values, and what contradicts itself."""
    found = problems("""
- {when: {tga: x}, require: {trust: onw}}
- {when: {needs: tool, content: crad, operation: chatt}, prefer: {}}
- {when: {zone: Europe/Berlin}, forbid: {regoin: eu}}
- {when: {hours: 08:00-18:00, zone: Berlin}}
- {when: {larger_than: 10, smaller_than: 5}, require: {price: -1}}
- {when: {header: {authorization: x, "b c": y, x-intertie-tags: z}}, forbid: {trust: vendor}}
- {name: twice, forbid: {trust: vendor}}
- {name: twice, forbid: {trust: vendor}}
""")
    assert "did you mean tag?" in found["rules[0].when.tga"]
    assert "did you mean own?" in found["rules[0].require.trust"]
    assert "did you mean tools?" in found["rules[1].when.needs[0]"]
    assert "did you mean card?" in found["rules[1].when.content[0]"]
    assert "did you mean chat?" in found["rules[1].when.operation[0]"]
    assert "says nothing" in found["rules[1].prefer"]
    assert "did you mean region?" in found["rules[2].forbid.regoin"]
    assert "is no time zone" in found["rules[3].when.zone"]
    assert "must not be negative" in found["rules[4].require.price"]
    assert "is a secret" in found["rules[5].when.header"]
    assert "already the name" in found["rules[7].name"]


def test_no_rule_without_a_name_is_called_like_another() -> None:
    """Its name would be that of its place."""
    found = problems("- {name: rule-2, forbid: {trust: vendor}}\n- {prefer: {region: eu}}")
    assert found == {"rules[1].name": "'rule-2' is already the name of rules[0] (names must differ)"}


@pytest.mark.parametrize(
    "text",
    [
        "{name: a, when: {tag: x}, require: {trust: own}}",
        "{name: b, when: {tag: [x, y], header: {x-a: 'b*'}, needs: [tools, vision]}, forbid: {price: 0.000001}}",
        "{name: c, when: {hours: 'fri-mon 22:00-06:00', zone: Europe/Berlin}, prefer: {price: 12.5, region: [eu, us]}}",
        "{name: d, when: {hours: 'sat,sun 00:00-24:00'}, prefer: {latency: 0.5}, forbid: {node_label: gpu}}",
        "{name: e, when: {member: a@b.c, key: k, project: [p, q], model: 'gpt-*'}, require: {upstream: a}}",
        "{name: f, when: {larger_than: 0, smaller_than: 9, content: card, operation: chat}, forbid: {price: 0}}",
        "{name: g, prefer: {region: eu}}",
    ],
)
def test_what_is_written_again_says_the_same(text: str) -> None:
    """Rule to text and back, through YAML as people edit it."""
    (rule,) = rules(f"- {text}")
    again = document.read(document.write(written(rule)))
    assert RuleEntry.model_validate(again).rule(1) == rule
    if "hours" not in text:
        assert again == document.read(text)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "one of rules, put and remove"),
        ({"rules": [], "remove": "a"}, "one of rules, put and remove"),
        ({"put": {"name": "a", "prefer": {"region": "eu"}}, "before": "b", "after": "c"}, "keep one"),
        ({"put": {"name": "a", "prefr": {}}}, "did you mean prefer"),
    ],
)
def test_a_draft_is_one_thing(body: dict[str, Any], told: str) -> None:
    """All rules, or one change of those in force."""
    with pytest.raises(ConfigProblems, match=told):
        config.receive_entry(DraftEntry, body)


@pytest.mark.parametrize("body", [{}, {"before": "a", "after": "b"}])
def test_a_move_goes_to_one_place(body: dict[str, str]) -> None:
    """Next to one other rule."""
    with pytest.raises(ConfigProblems, match="either `before` or `after`"):
        config.receive_entry(MoveEntry, body)


def test_a_rule_must_demand_something() -> None:
    """Conditions alone do nothing."""
    assert "demands nothing" in problems("- {when: {tag: x}}")["rules[0]"]


def test_a_member_is_an_address() -> None:
    """A rule about anything else would never hold: it is refused."""
    assert "e-mail address" in problems("- {when: {member: eve}, forbid: {trust: vendor}}")["rules[0].when.member[0]"]
