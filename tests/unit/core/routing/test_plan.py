"""Whom a call may be sent to, and in which order."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from intertie.core.errors import NoEligibleTarget, NoTarget, UpstreamFailed, UpstreamNoModel, UpstreamUnreachable
from intertie.core.routing.plan import plan
from intertie.core.terms import StrategyName, Target, Trust
from tests.unit.core.routing.grid import MODEL, World, call, caller, come_back, fail, route, snapshot, upstream

NOW = 1000.0
FOUR = ["a", "b", "c", "d"]
DEAD = UpstreamUnreachable("x")
BROKEN = UpstreamFailed("x")
GONE = UpstreamNoModel("x")


def world(names: list[str], *dead: str) -> tuple[World, list[str]]:
    """A world in which the targets `dead` were ejected just now."""
    made = World()
    for name in dead:
        fail(made, name, DEAD, NOW, 3)
    return made, names


def planned(made: World, names: list[str], now: float = NOW) -> list[str]:
    return made.plan(snapshot([upstream(name) for name in names]), route(*names), now)


def flaky(made: World, name: str, now: float = NOW) -> None:
    """Every second attempt fails, until ejected: it still answers."""
    for _ in range(6):
        made.health.admit((name, MODEL), now)
        made.health.success((name, MODEL), now, None)
        made.health.admit((name, MODEL), now)
        made.health.failure((name, MODEL), BROKEN, now)


def test_healthy_targets_come_in_the_strategys_order() -> None:
    """Priority, by tier."""
    snap = snapshot([upstream("a"), upstream("b")])
    assert World().plan(snap, route(Target("a", MODEL, tier=1), "b"), NOW) == ["b", "a"]


def test_a_plan_holds_only_what_the_caller_may_reach() -> None:
    """Disabled, foreign, missing, too exposed and mute upstreams are left out."""
    snap = snapshot([
        upstream("off", enabled=False),
        upstream("foreign", organisation="other"),
        upstream("vendor", trust=Trust.VENDOR),
        upstream("mute", trust=Trust.OWN, provider="mute"),
        upstream("good", trust=Trust.COMPANY),
    ])  # fmt: skip
    one = route("off", "foreign", "missing", "vendor", "mute", "good")
    assert World(mute=frozenset({"mute"})).plan(snap, one, NOW, caller(trust=Trust.COMPANY)) == ["good"]


def test_nothing_allowed_says_that_retrying_is_no_use() -> None:
    """503 with a wait, told not to retry; the reasons are for the log only."""
    snap = snapshot([upstream("vendor"), upstream("off", enabled=False)])
    with pytest.raises(NoEligibleTarget) as caught:
        plan(call(), caller(trust=Trust.OWN), route("vendor", "off"), snap, World(), NOW)
    error = caught.value
    assert (error.status, error.client_may_retry, error.retry_after) == (503, False, 60)
    assert error.detail == "1 outside trust own, 1 disabled"
    assert "vendor" not in error.public


def test_a_route_without_targets_is_refused() -> None:
    """An empty route is no crash."""
    with pytest.raises(NoEligibleTarget):
        plan(call(), caller(), route(), snapshot([]), World(), NOW)


def test_s4_an_ejected_target_is_left_out() -> None:
    """One of two, one of three."""
    assert planned(*world(["a", "b"], "a")) == ["b"]
    assert planned(*world(["a", "b", "c"], "b")) == ["a", "c"]


def test_s4_at_most_half_of_a_group_is_ejected() -> None:
    """Three of four are in trouble: one of them stays, last and marked degraded."""
    made, names = world(FOUR, "a", "b", "c")
    snap = snapshot([upstream(name) for name in names])
    result = plan(call(), caller(), route(*names), snap, made, NOW)
    assert [one.degraded for one in result] == [False, True]
    assert result[0].upstream.id == "d"


def test_s4_of_the_ejected_the_one_that_still_answers_is_kept() -> None:
    """It beats one that is dead."""
    made, names = world(FOUR, "a", "b")
    flaky(made, "c")
    assert planned(made, names) == ["d", "c"]


def test_s4_the_last_target_is_never_ejected_while_it_answers_anything() -> None:
    """Half of its attempts fail: it is degraded, and all calls still go to it."""
    made = World()
    flaky(made, "a")
    snap = snapshot([upstream("a")])
    for _ in range(20):
        (only,) = plan(call(), caller(), route("a"), snap, made, NOW)
        assert only.degraded
        assert made.health.admit(only.key, NOW)
        made.health.success(only.key, NOW, None)
        flaky(made, "a")
    assert [entry.degraded for entry in made.health.view(NOW)] == [True]


def test_s4_two_that_fail_half_the_time_both_stay() -> None:
    """Nothing better is left."""
    made = World()
    flaky(made, "a")
    flaky(made, "b")
    assert sorted(planned(made, ["a", "b"])) == ["a", "b"]


def test_s5_if_nothing_answers_one_probe_per_second_goes_through() -> None:
    """The rest learn how long to wait; probes take turns among the targets."""
    made, names = world(["a", "b"], "a", "b")
    probes: list[list[str]] = []
    waits: list[float | None] = []
    for tenth in range(11, 60):
        now = NOW + tenth / 10
        try:
            probes.append(planned(made, names, now))
        except NoTarget as refused:
            waits.append(refused.retry_after)
            continue
        assert made.health.admit((probes[-1][0], MODEL), now)
        made.health.failure((probes[-1][0], MODEL), DEAD, now)
    assert probes == [["a"], ["b"], ["a"], ["b"], ["a"]]
    assert len(waits) == 44
    assert all(wait is not None and 6 <= wait <= 17 for wait in waits)


def test_s5_two_calls_planned_at_once_make_one_probe() -> None:
    """The second one's claim is refused."""
    made, names = world(["a"], "a")
    assert planned(made, names, NOW + 2) == planned(made, names, NOW + 2) == ["a"]
    assert made.health.admit(("a", MODEL), NOW + 2)
    assert not made.health.admit(("a", MODEL), NOW + 2)


def test_s5_failed_probes_do_not_prolong_the_ejection() -> None:
    """They were sent before the time was over."""
    made, names = world(["a"], "a")
    before = made.health.earliest([("a", MODEL)], NOW)
    for second in range(2, 10):
        planned(made, names, NOW + second)
        fail(made, "a", DEAD, NOW + second)
    assert made.health.earliest([("a", MODEL)], NOW) == before


def test_s5_a_half_open_target_takes_one_call_and_the_others_go_elsewhere() -> None:
    """Planned like any other while its trial is free, left out while one is in flight."""
    made, names = world(["a", "b"], "a")
    later = NOW + 20
    assert planned(made, names, later) == ["a", "b"]
    assert made.health.admit(("a", MODEL), later)
    assert planned(made, names, later) == ["b"]


def test_s4_a_target_that_came_back_gets_a_growing_share() -> None:
    """A tenth at first, all after thirty seconds; the rest of the calls keep it as second choice."""
    made, names = world(["a", "b"], "a")
    come_back(made, "a", NOW)
    shares = []
    for age in (0, 15, 30):
        orders = Counter(tuple(planned(made, names, NOW + age)) for _ in range(1000))
        assert set(orders) <= {("a", "b"), ("b", "a")}
        shares.append(orders["a", "b"] / 1000)
    assert shares == [pytest.approx(0.1, abs=0.04), pytest.approx(0.55, abs=0.06), 1.0]


def test_s4_the_only_target_left_needs_no_ramp() -> None:
    """Holding calls back would refuse them."""
    made, names = world(["a"], "a")
    come_back(made, "a", NOW)
    assert all(planned(made, names) == ["a"] for _ in range(50))


def test_s2_a_target_without_the_model_rests_while_others_serve_it() -> None:
    """For a minute."""
    made = World()
    fail(made, "a", GONE, NOW)
    assert planned(made, ["a", "b"], NOW + 59) == ["b"]
    assert planned(made, ["a", "b"], NOW + 60) == ["a", "b"]


def test_s2_if_no_target_serves_the_model_one_is_asked_so_that_the_client_gets_its_404() -> None:
    """The one whose verdict is oldest; not a 503, which would tell the client to wait."""
    made = World()
    fail(made, "b", GONE, NOW)
    fail(made, "a", GONE, NOW + 5)
    assert planned(made, ["a", "b"], NOW + 10) == ["b"]
    assert made.health.admit(("b", MODEL), NOW + 10)


def test_s2_a_missing_model_does_not_hide_that_another_target_is_only_down() -> None:
    """One says 404, the other is dead: the client shall wait, not give up."""
    made, names = world(["a", "b"], "b")
    fail(made, "a", GONE, NOW)
    with pytest.raises(NoTarget):
        planned(made, names, NOW + 0.5)


def test_s5_what_is_paused_gets_nothing() -> None:
    """Not even as the last one; a model of an upstream, or all of it. Whoever asks may come back."""
    made = World()
    one, two = replace(upstream("a"), paused=frozenset({"*"})), replace(upstream("b"), paused=frozenset({MODEL}))
    other = replace(upstream("c"), paused=frozenset({"another"}))
    assert made.plan(snapshot([one, two, other]), route("a", "b", "c"), NOW) == ["c"]
    with pytest.raises(NoTarget) as caught:
        made.plan(snapshot([one, two]), route("a", "b"), NOW)
    assert (caught.value.public, caught.value.retry_after) == ("Every target of this model is paused.", 30)
    assert caught.value.client_may_retry is not False
    assert caught.value.detail == "a: paused by an operator, b: paused by an operator"


def test_s5_a_paused_target_does_not_hide_that_another_one_is_down() -> None:
    """Both are said; the wait is that of the one which may come back by itself."""
    made, _ = world(["a"], "a")
    snap = snapshot([upstream("a"), replace(upstream("b"), paused=frozenset({"*"}))])
    assert made.plan(snap, route("a", "b"), NOW + 1) == ["a"], "the probe"
    assert made.health.admit(("a", MODEL), NOW + 1)
    with pytest.raises(NoTarget) as caught:
        made.plan(snap, route("a", "b"), NOW + 1.1)
    assert caught.value.public == "No target of this model is healthy. Every other target of this model is paused."
    assert caught.value.retry_after != 30


def test_s4_slowness_halves_a_weight_only_against_the_same_model() -> None:
    """Another model may be slower by nature; the operator's split between the two stands."""
    made = World()
    for n in range(40):
        made.health.admit(("a", MODEL), NOW)
        made.health.success(("a", MODEL), NOW + n / 10, 5.0)
        for name, model in (("b", MODEL), ("b", "tiny")):
            made.health.admit((name, model), NOW)
            made.health.success((name, model), NOW + n / 10, 0.3)
    snap = snapshot([upstream("a"), upstream("b")])

    def first(other: str) -> float:
        one = route("a", Target("b", other), strategy=StrategyName.WEIGHTED)
        return sum(made.plan(snap, one, NOW + 5)[0] == "a" for _ in range(1000)) / 1000

    assert first(MODEL) < 0.1
    assert first("tiny") == pytest.approx(0.5, abs=0.06)


def test_s5_if_nobody_is_in_full_use_a_due_trial_is_planned_beside_what_still_answers() -> None:
    """The one on trial may be the way back."""
    made, _ = world(["a", "b"], "a")
    later = NOW + 20
    flaky(made, "b", later)
    assert sorted(planned(made, ["a", "b"], later)) == ["a", "b"]


def test_s4_if_only_one_of_four_still_answers_half_of_them_stay_planned() -> None:
    """It comes first; the other one is probed at most once per second."""
    made, names = world(FOUR, "a", "b", "c")
    flaky(made, "d")
    order = planned(made, names)
    assert order[0] == "d"
    assert len(order) == 2
    assert not made.health.admit((order[1], MODEL), NOW + 0.5)
    assert made.health.admit((order[1], MODEL), NOW + 1)
