"""Upstreams and routes over a real database."""

from __future__ import annotations

import msgspec
import pytest

from intertie.controlplane import config, routes, snapshot, upstreams
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.entries import RouteEntry, UpstreamEntry
from intertie.core.errors import BadCall
from intertie.core.terms import Price, Timeouts, Trust
from tests.contract.controlplane.applicants import actions, enrolled


def _upstream(**fields: object) -> UpstreamEntry:
    return config.receive_entry(UpstreamEntry, {"name": "acme", "provider": "openai", **fields})


def _route(model: str, *targets: dict[str, object]) -> RouteEntry:
    return config.receive_entry(RouteEntry, {"model": model, "targets": list(targets)})


def test_an_upstream_is_listed_without_its_secrets(control: Control) -> None:
    """Labels and header names only; prices with where they come from."""
    entry = _upstream(
        credentials=[{"env": "ACME", "value": "canary-1"}, {"value": "canary-2"}],
        headers={"X-Api-Key": {"value": "canary-3"}},
        models=[
            "m",
            {"name": "own", "price": {"input": 1, "output": "2.5"}},
            {"name": "gratis", "price": "free"},
            "odd",
        ],
        timeouts={"connect": 1},
        trust="company",
    )
    assert upstreams.put(control, "default", entry) == "created"
    view = upstreams.list_(control, "default")[0]

    assert b"canary" not in msgspec.json.encode(view)
    assert [credential.label for credential in view.credentials] == ["env ACME", "given"]
    assert view.headers == ("x-api-key",)
    assert view.timeouts == Timeouts(connect=1)
    assert (view.trust, view.origin, view.enabled) == (Trust.COMPANY, "api", True)
    assert {model.name: model.price for model in view.models} == {
        "m": Price(2_000_000, 8_000_000, source="catalogue"),
        "own": Price(1_000_000, 2_500_000),
        "gratis": Price(0, 0),
        "odd": None,
    }


def test_putting_the_same_again_is_unchanged(control: Control) -> None:
    """Secrets are compared too, so nothing is sealed anew."""
    entry = _upstream(credentials=[{"value": "canary-1"}], headers={"X-Api-Key": {"value": "canary-3"}})
    upstreams.put(control, "default", entry)
    revision = snapshot.revision(control)

    assert upstreams.put(control, "default", entry) == "unchanged"
    assert snapshot.revision(control) == revision
    assert upstreams.put(control, "default", _upstream()) == "updated"
    assert snapshot.revision(control) == revision + 1
    assert upstreams.list_(control, "default")[0].credentials == ()


def test_a_provider_without_an_address_needs_one(control: Control) -> None:
    """Also when the entry was not checked as part of a document."""
    entry = UpstreamEntry.model_validate({"name": "a", "provider": "openai_compatible"})

    with pytest.raises(BadCall, match="needs a base_url"):
        upstreams.put(control, "default", entry)


def test_an_upstream_in_use_is_not_removed(control: Control) -> None:
    """First its routes, then itself."""
    upstreams.put(control, "default", _upstream())
    routes.put(control, "default", _route("r", {"upstream": "acme"}))

    with pytest.raises(Conflict, match="acme is a target of r"):
        upstreams.remove(control, "default", "acme")
    routes.remove(control, "default", "r")
    upstreams.remove(control, "default", "acme")
    assert upstreams.list_(control, "default") == []


@pytest.mark.parametrize("noun", [upstreams, routes])
def test_removing_nothing_says_so(control: Control, noun: object) -> None:
    """And counts as no change."""
    revision = snapshot.revision(control)

    with pytest.raises(Unknown, match="gone"):
        noun.remove(control, "default", "gone")  # type: ignore[attr-defined]
    assert snapshot.revision(control) == revision


def test_a_route_is_listed_with_names(control: Control) -> None:
    """Of upstreams, not their ids; the model defaults to the route's."""
    upstreams.put(control, "default", _upstream())
    upstreams.put(control, "default", _upstream(name="b"))
    entry = _route("r", {"upstream": "b", "weight": 2}, {"upstream": "acme", "model": "m", "tier": 1})
    assert routes.put(control, "default", entry) == "created"
    view = routes.list_(control, "default")[0]

    assert [(t.upstream, t.model, t.weight, t.tier) for t in view.targets] == [("b", "r", 2, 0), ("acme", "m", 1, 1)]
    assert routes.put(control, "default", entry) == "unchanged"
    assert routes.put(control, "default", _route("r", {"upstream": "b"})) == "updated"


def test_a_target_must_name_an_upstream_of_the_organisation(control: Control) -> None:
    """With the nearest one as a hint."""
    upstreams.put(control, "default", _upstream())

    with pytest.raises(Unknown, match="did you mean acme"):
        routes.put(control, "default", _route("r", {"upstream": "acmee"}))


@pytest.mark.parametrize(("model", "target"), [("r", "*"), ("*", "m")])
def test_only_pass_through_routes_pass_through(control: Control, model: str, target: str) -> None:
    """A star on one side without the other means nothing."""
    upstreams.put(control, "default", _upstream())

    with pytest.raises(BadCall, match=r"route \*"):
        routes.put(control, "default", _route(model, {"upstream": "acme", "model": target}))


def test_what_is_paused_stays_so_whatever_a_file_says_until_it_is_resumed(control: Control) -> None:
    """In the snapshot, on lists and over a start with a file; each has its record."""
    entry = _upstream(models=["m", "n"])
    upstreams.put(control, "default", entry)
    assert upstreams.pause(control, "default", "acme", "m").paused == ("m",)
    assert upstreams.put(control, "default", entry) == "unchanged"
    assert upstreams.put(control, "default", _upstream(models=["m", "n", "o"])) == "updated"
    assert upstreams.list_(control, "default")[0].paused == ("m",)
    (held,) = snapshot.build(control).upstreams.values()
    assert held.paused == frozenset({"m"})

    assert upstreams.pause(control, "default", "acme", "*").paused == ("*", "m")
    with pytest.raises(Conflict, match="intertie upstreams resume acme"):
        upstreams.resume(control, "default", "acme", "m")
    assert upstreams.resume(control, "default", "acme", "*").paused == ()
    revision = snapshot.revision(control)
    assert upstreams.resume(control, "default", "acme", "n").paused == ()
    assert snapshot.revision(control) == revision, "nothing was paused, so nothing changed"
    assert actions(control, "upstream.pause") == [{"name": "acme", "model": "*"}, {"name": "acme", "model": "m"}]
    assert actions(control, "upstream.resume") == [{"name": "acme", "model": "*"}]


def test_a_pause_that_would_do_nothing_is_refused(control: Control) -> None:
    """A mistyped model would go on getting calls. Models of routes count, and where nothing is known anything does."""
    upstreams.put(control, "default", _upstream(models=["m"]))
    with pytest.raises(Unknown, match="not known to serve mm"):
        upstreams.pause(control, "default", "acme", "mm")
    routes.put(control, "default", _route("r", {"upstream": "acme", "model": "unlisted"}))
    assert upstreams.pause(control, "default", "acme", "unlisted").paused == ("unlisted",)
    upstreams.put(control, "default", _upstream(name="any"))
    assert upstreams.pause(control, "default", "any", "whatever").paused == ("whatever",)
    with pytest.raises(Unknown, match="no upstream is named nobody"):
        upstreams.pause(control, "default", "nobody", "*")
    enrolled(control)
    with pytest.raises(Conflict, match="intertie nodes drain rig"):
        upstreams.pause(control, "default", "rig", "*")
