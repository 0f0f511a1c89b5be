"""Explanations answer as the plan would, before anything is sent."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from intertie.core.errors import BadCall, UpstreamDenied
from intertie.core.routing.room import Room
from intertie.core.routing.rules import Rule, When, Wish
from intertie.core.terms import Hedge, Shadow, Target, Trust
from intertie.dataplane.explain import Copied, Question, Second, explain
from tests.support.playbook import Playbook

PRIVATE = Rule("private-stays", When(tag=("private",)), require=Wish(trust=Trust.OWN))


def book() -> Playbook:
    play = Playbook([], [])
    rows = dict(play.current.upstreams)
    rows["up1"] = replace(rows["up1"], trust=Trust.OWN)
    play.current = replace(play.current, upstreams=rows, rules={"org": (PRIVATE,)})
    return play


def test_each_candidate_is_told_with_its_reason() -> None:
    """In the order of asking, with the rules that apply."""
    found = explain(book().dataplane, "org", Question("m", tags=("private",), tokens=1000))
    assert (found.route, found.strategy, found.error) == ("m", "priority", None)
    assert found.rules == ("private-stays: when tag private: require trust own",)
    assert [(one.upstream, one.allowed, one.why) for one in found.candidates] == [
        ("name-up1", True, "listed at 2"),
        ("name-up0", False, "rule private-stays requires trust own, and this is vendor"),
    ]


def test_each_candidate_is_told_with_what_rules_may_ask_about_it() -> None:
    """Of a node its labels, too."""
    play = Playbook([], [], rooms={"up1": Room(open=True, slots=1)})
    rows = {name: replace(one, region={"up0": "us", "up1": "eu"}[name]) for name, one in play.current.upstreams.items()}
    ((place, node),) = play.current.nodes.items()
    near = Rule("near", require=Wish(region=("eu",)))
    nodes = {place: replace(node, labels=frozenset({"lab", "gpu"}))}
    play.current = replace(play.current, upstreams=rows, nodes=nodes, rules={"org": (near,)})
    found = explain(play.dataplane, "org", Question("m"))
    assert [(one.upstream, one.allowed, one.region, one.labels) for one in found.candidates] == [
        ("name-up1", True, "eu", ("gpu", "lab")),
        ("name-up0", False, "us", ()),
    ]
    assert found.candidates[1].why == "rule near requires region eu, and this is us"
    assert found.candidates[1].trust is Trust.VENDOR


def test_the_error_is_told_that_the_caller_would_get() -> None:
    """For a key that may not see the model, and for rules that leave nothing."""
    play = book()
    unknown = explain(play.dataplane, "org", Question("nothing"))
    assert unknown.error is not None
    assert (unknown.error.status, unknown.error.code) == (404, "model_not_found")
    never = Rule("never", forbid=Wish(upstream=("name-up0", "name-up1")))
    play.current = replace(play.current, rules={"org": (never,)})
    refused = explain(play.dataplane, "org", Question("m"))
    assert refused.error is not None
    assert refused.error.code == "no_eligible_target"
    assert "Rule never forbids" in refused.error.message


def test_a_keys_own_ceiling_counts() -> None:
    """By name, or by project and name."""
    play = book()
    callers = {hashed: replace(who, trust=Trust.OWN) for hashed, who in play.current.callers.items()}
    play.current = replace(play.current, callers=callers)
    for name in ("dev", "project/dev"):
        found = explain(play.dataplane, "org", Question("m", key=name))
        assert [(one.upstream, one.allowed) for one in found.candidates] == [("name-up1", True), ("name-up0", False)]
    with pytest.raises(BadCall, match="is not the name of a key"):
        explain(play.dataplane, "org", Question("m", key="other/dev"))


def test_a_lower_ceiling_can_be_asked_about() -> None:
    """As `x-intertie-trust` would set it."""
    found = explain(book().dataplane, "org", Question("m", trust=Trust.COMPANY))
    assert [one.upstream for one in found.candidates if one.allowed] == ["name-up1"]


def test_a_target_without_a_usable_credential_says_so() -> None:
    """It would be skipped when its turn comes."""
    play = book()
    up0 = play.current.upstreams["up0"]
    play.dataplane.credentials.failure(up0, up0.credentials[0], UpstreamDenied("x"), play.dataplane.monotonic())
    found = explain(play.dataplane, "org", Question("m"))
    assert found.candidates[0].why == "skipped: all its credentials are set aside; listed at 1"


def test_nothing_is_sent_and_nothing_learned() -> None:
    """Asking is free."""
    play = book()
    explain(play.dataplane, "org", Question("m"))
    assert play.asked == []
    assert play.dataplane.traffic.in_flight(("up0", "inner")) == 0


def test_who_would_be_asked_beside_the_first_is_told_with_the_time() -> None:
    """The next one at another address; nobody if there is none that rules allow."""
    play = book()
    assert explain(play.dataplane, "org", Question("m")).hedge is None
    play.amend(hedge=Hedge(after=2.0))
    assert explain(play.dataplane, "org", Question("m")).hedge == Second(2.0, "name-up1", "inner")
    assert explain(play.dataplane, "org", Question("m", tags=("private",))).hedge == Second(2.0)


def test_who_would_get_a_copy_is_told_and_what_forbids_it() -> None:
    """By the plan that a copy would get."""
    play = book()
    play.amend(shadow=Shadow((Target("up0", "inner"), Target("up1", "inner"), Target("gone", "x")), 0.1))
    told = explain(play.dataplane, "org", Question("m", tags=("private",))).shadow
    assert told == (
        Copied("name-up0", "inner", 0.1, False, "rule private-stays requires trust own, and this is vendor"),
        Copied("name-up1", "inner", 0.1, True),
        Copied("gone", "x", 0.1, False, "unknown"),
    )
