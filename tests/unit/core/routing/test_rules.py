"""Rules: conditions, filters that hold, preferences that order, and words that say why."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.ledger import CallFacts
from intertie.core.routing.rules import Hours, Rule, TargetFacts, When, Wish, applying, holds, judge, unmet
from intertie.core.terms import Operation, Price, Trust

HEADERS = {"x-team": "blue", "x-groups": "sales, hr, [internal] lab"}
CALL = CallFacts("dev", "web", "gpt-4o", Operation.CHAT, frozenset({"private"}), HEADERS,
                 frozenset({"tools"}), 1000, None, frozenset({"card"}), member="eve@example.com")  # fmt: skip
OWN = TargetFacts("rig", Trust.OWN, "eu", frozenset({"gpu"}), Price(0, 0), 0.4)
VENDOR = TargetFacts("acme", Trust.VENDOR, "us", frozenset(), Price(1_000_000, 9_000_000), 1.5)


@pytest.mark.parametrize(
    ("when", "met"),
    [
        (When(), True),
        (When(tag=("private", "x")), True),
        (When(tag=("public",)), False),
        (When(key=("dev",), project=("web",)), True),
        (When(key=("dev",), project=("api",)), False),
        (When(member=("anna@example.com", "eve@example.com")), True),
        (When(member=("anna@example.com",)), False),
        (When(header={"x-team": "bl*"}), True),
        (When(header={"x-other": "?*"}), False),
        (When(model=("gpt-*",)), True),
        (When(model=("GPT-4O",)), True),
        (When(header={"x-groups": "[internal]*"}), True),
        (When(header={"x-groups": "hr"}), True),
        (When(header={"x-groups": "sales, hr, [internal] lab"}), True),
        (When(header={"x-groups": "sale"}), False),
        (When(operation=(Operation.EMBEDDING,)), False),
        (When(needs=("vision",)), False),
        (When(larger_than=999), True),
        (When(larger_than=1000), False),
        (When(smaller_than=1000), False),
        (When(content=("card",)), True),
    ],
)
def test_all_conditions_hold_any_of_a_list(when: When, met: bool) -> None:
    assert holds(when, CALL) is met


@pytest.mark.parametrize(
    ("hours", "moment", "met"),
    [
        (Hours(8 * 60, 18 * 60), "2026-11-22T08:00:00+00:00", True),
        (Hours(8 * 60, 18 * 60), "2026-11-22T18:00:00+00:00", False),
        (Hours(22 * 60, 6 * 60, frozenset({4})), "2026-11-21T05:59:00+00:00", True),
        (Hours(22 * 60, 6 * 60, frozenset({5})), "2026-11-21T05:59:00+00:00", False),
        (Hours(0, 60, zone="Asia/Kolkata"), "2026-11-21T18:30:00+00:00", True),
    ],
)
def test_hours_are_local_and_may_run_over_midnight(hours: Hours, moment: str, met: bool) -> None:
    assert hours.holds(datetime.fromisoformat(moment).timestamp()) is met


def test_a_requirement_excludes_and_says_so() -> None:
    rules = (Rule("private-at-home", When(tag=("private",)), require=Wish(trust=Trust.OWN)),)
    assert judge(rules, OWN).allowed
    verdict = judge(rules, VENDOR)
    assert (verdict.allowed, verdict.why) == (False, "rule private-at-home requires trust own, and this is vendor")


def test_a_prohibition_is_met_by_any_of_its_parts() -> None:
    rules = (Rule("not-there", forbid=Wish(region=("us",), upstream=("other",))),)
    assert not judge(rules, VENDOR).allowed
    assert judge(rules, OWN).allowed


def test_regions_are_the_same_in_capitals_and_an_unknown_one_is_none() -> None:
    """A prohibition must not fail for a capital letter; nobody knows that a place is where it must not be."""
    rules = (Rule("not-there", forbid=Wish(region=("US-East", "US"))),)
    assert not judge(rules, VENDOR).allowed
    assert judge(rules, TargetFacts("x", Trust.VENDOR)).allowed
    assert not unmet(Wish(region=("EU",)), OWN)
    assert unmet(Wish(region=("EU",)), TargetFacts("x", Trust.VENDOR))


def test_an_earlier_preference_weighs_more_than_all_later_ones() -> None:
    rules = (
        Rule("a", prefer=Wish(region=("us",))),
        Rule("b", prefer=Wish(trust=Trust.OWN)),
        Rule("c", prefer=Wish(node_label=("gpu",))),
    )
    assert judge(rules, VENDOR).preferred > judge(rules, OWN).preferred > 0
    assert judge(rules, OWN).why == "rule b prefers trust own"


def test_an_unknown_price_is_over_any_ceiling_and_an_unmeasured_target_is_not_slow() -> None:
    unknown = TargetFacts("x", Trust.VENDOR)
    assert unmet(Wish(price=10**12), unknown) == "a known price"
    assert unmet(Wish(price=1), VENDOR) == "a lower price"
    assert unmet(Wish(latency=0.1), unknown) == ""
    assert "took 1.50 s" in unmet(Wish(latency=1.0), VENDOR)


def test_only_rules_whose_conditions_hold_apply_in_their_order() -> None:
    rules = (Rule("a", When(tag=("no",))), Rule("b"), Rule("c", When(key=("dev",))))
    assert [rule.name for rule in applying(rules, CALL)] == ["b", "c"]


wishes = st.builds(
    Wish,
    trust=st.none() | st.sampled_from(Trust),
    region=st.sampled_from([(), ("eu",), ("us", "eu")]),
    upstream=st.sampled_from([(), ("rig",), ("acme",)]),
    node_label=st.sampled_from([(), ("gpu",)]),
)
rules_ = st.lists(
    st.builds(
        Rule, name=st.just("r"), require=st.none() | wishes, prefer=st.none() | wishes, forbid=st.none() | wishes
    ),
    max_size=5,
)
targets = st.builds(
    TargetFacts,
    upstream=st.sampled_from(["rig", "acme", "x"]),
    trust=st.sampled_from(Trust),
    region=st.sampled_from(["", "eu", "us"]),
    labels=st.sampled_from([frozenset(), frozenset({"gpu"})]),
)


@given(rules_, targets)
def test_whatever_else_is_said_no_requirement_is_ever_broken(rules: list[Rule], target: TargetFacts) -> None:
    if judge(rules, target).allowed:
        assert all(rule.require is None or not unmet(rule.require, target) for rule in rules)
        ceilings = [rule.require.trust for rule in rules if rule.require and rule.require.trust]
        assert all(target.trust.within(ceiling) for ceiling in ceilings)
    else:
        assert judge(rules, target).why


@given(rules_, targets, st.integers(0, 5))
def test_one_more_rule_never_allows_what_was_excluded(rules: list[Rule], target: TargetFacts, place: int) -> None:
    fewer = rules[:place] + rules[place + 1 :]
    assert judge(fewer, target).allowed or not judge(rules, target).allowed
