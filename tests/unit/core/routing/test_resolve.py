"""From the model asked for to a route."""

from __future__ import annotations

import pytest

from intertie.core.errors import UnknownModel
from intertie.core.routing.resolve import resolve, visible
from intertie.core.terms import Route, Target, Trust
from tests.unit.core.routing.grid import call, caller, route, snapshot, upstream

ACME = upstream("acme", models=["big", "small"])
BARE = upstream("bare")
NAMED = route(Target("acme", "big"), model="chat")
ANY = route(Target("acme", "*", weight=3, tier=1), Target("bare", "*"), model="*")
SNAP = snapshot([ACME, BARE], [NAMED, ANY])


def models(one: Route) -> list[tuple[str, str]]:
    return [(target.upstream, target.model) for target in one.targets]


def test_the_exact_name_comes_first_and_is_returned_as_it_is() -> None:
    """No copy on the hot path."""
    assert resolve(call("chat"), caller(), SNAP) is NAMED


def test_a_star_route_serves_what_its_upstreams_list_or_anything_if_they_list_nothing() -> None:
    """Targets become concrete; weight and tier stay; the route keeps its name for books and metrics."""
    found = resolve(call("small"), caller(), SNAP)
    assert found.model == "*"
    assert found.targets == (Target("acme", "small", 3, 1), Target("bare", "small"))
    assert models(resolve(call("org/unheard-of"), caller(), SNAP)) == [("bare", "org/unheard-of")]


def test_a_target_with_a_model_of_its_own_in_a_star_route_answers_for_any_name() -> None:
    """A catch-all."""
    snap = snapshot([ACME], [route(Target("acme", "big"), model="*")])
    assert models(resolve(call("whatever"), caller(), snap)) == [("acme", "big")]


@pytest.mark.parametrize("asked", ["nothing", "*", ""])
def test_an_unknown_model_is_a_404(asked: str) -> None:
    """Also the star itself, which is no model."""
    snap = snapshot([ACME], [NAMED, route(Target("acme", "*"), model="*")])
    with pytest.raises(UnknownModel) as caught:
        resolve(call(asked), caller(), snap)
    assert (caught.value.status, caught.value.param) == (404, "model")


def test_a_hidden_model_and_one_that_does_not_exist_look_alike() -> None:
    """The text does not tell whether the name exists."""
    restricted = caller(models=["other"])
    texts = []
    for asked in ("chat", "gone"):
        with pytest.raises(UnknownModel) as caught:
            resolve(call(asked), restricted, SNAP)
        texts.append(caught.value.public.replace(asked, "X"))
    assert texts[0] == texts[1]


def test_a_restricted_key_reaches_passed_through_models_by_name_or_by_the_star() -> None:
    """And a route of its own is never entered through the star."""
    assert models(resolve(call("small"), caller(models=["small"]), SNAP))
    assert models(resolve(call("small"), caller(models=["*"]), SNAP))
    with pytest.raises(UnknownModel):
        resolve(call("chat"), caller(models=["*"]), SNAP)


def test_another_organisations_route_does_not_exist() -> None:
    """Same name, other tenant."""
    with pytest.raises(UnknownModel):
        resolve(call("chat"), caller("other"), SNAP)


def test_a_long_name_is_cut_in_the_error() -> None:
    """A megabyte of model name must not come back as a megabyte of error."""
    with pytest.raises(UnknownModel) as caught:
        resolve(call("x" * 1_000_000), caller(models=["a"]), SNAP)
    assert len(caught.value.public) < 300


def test_visible_lists_routes_and_the_listed_models_behind_the_star() -> None:
    """Sorted, without the star itself; models of upstreams that list none are unknown and not shown."""
    assert visible(caller(), SNAP) == ["big", "chat", "small"]
    assert visible(caller(models=["chat", "small"]), SNAP) == ["chat", "small"]
    assert visible(caller(models=["*"]), SNAP) == ["big", "small"]
    assert visible(caller("other"), SNAP) == []


def test_visible_leaves_out_what_only_disabled_or_too_exposed_upstreams_serve() -> None:
    """A key restricted to own machines does not see vendors' models."""
    snap = snapshot(
        [upstream("lab", trust=Trust.OWN), upstream("cloud"), upstream("off", trust=Trust.OWN, enabled=False)],
        [route("lab", model="mine"), route("cloud", model="theirs"), route("off", model="idle")],
    )
    assert visible(caller(trust=Trust.OWN), snap) == ["mine"]


def test_visible_hides_a_passed_through_model_behind_a_route_of_that_name() -> None:
    """Asking for it would reach the route, which this key may not use."""
    snap = snapshot([ACME], [route(Target("acme", "big"), model="small"), route(Target("acme", "*"), model="*")])
    assert visible(caller(models=["*"]), snap) == ["big"]
