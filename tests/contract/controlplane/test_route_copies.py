"""Hedges and shadow targets over a real database: written, listed, in the snapshot, and what names them stays."""

from __future__ import annotations

import pytest

from intertie.controlplane import audit, config, routes, snapshot, upstreams
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.entries import RouteEntry, UpstreamEntry
from intertie.controlplane.outcome import Outcome
from intertie.controlplane.routes import RouteView, ShadowTargetView, ShadowView
from intertie.core.errors import BadCall
from intertie.core.terms import Hedge, Price, Route


@pytest.fixture(autouse=True)
def places(control: Control) -> None:
    """Two upstreams."""
    for name in ("acme", "new"):
        entry = config.receive_entry(UpstreamEntry, {"name": name, "provider": "openai", "models": ["m", "x"]})
        upstreams.put(control, "default", entry)


def _put(control: Control, **more: object) -> Outcome:
    entry = {"model": "m", "targets": [{"upstream": "acme"}], **more}
    return routes.put(control, "default", config.receive_entry(RouteEntry, entry))


def _view(control: Control) -> RouteView:
    (view,) = routes.list_(control, "default")
    return view


def _route(control: Control) -> Route:
    return snapshot.build(control).routes["default", "m"]


SHADOW = {"targets": [{"upstream": "new", "model": "x"}], "share": 0.25}


def test_what_was_written_is_listed_and_in_force(control: Control) -> None:
    """By name for people, by id for the data plane; writing it again changes nothing."""
    assert _put(control, hedge=True, shadow=SHADOW) is Outcome.CREATED
    assert _put(control, hedge=True, shadow=SHADOW) is Outcome.UNCHANGED
    assert _view(control).shadow == ShadowView((ShadowTargetView("x", upstream="new"),), 0.25)
    assert _view(control).hedge == Hedge(1.0, 0.02)

    made = snapshot.build(control)
    route = made.routes["default", "m"]
    assert route.shadow is not None
    (target,) = route.shadow.targets
    assert (made.upstreams[target.upstream].name, target.model, route.shadow.share) == ("new", "x", 0.25)
    assert route.hedge == Hedge(1.0, 0.02)
    assert [made.upstreams[one.upstream].name for one in route.targets] == ["acme"]


def test_a_shadow_targets_price_is_known_before_its_first_copy(control: Control) -> None:
    """From the catalogue where the configuration has none."""
    _put(control, shadow={"targets": [{"upstream": "new", "model": "m"}]})
    made = snapshot.build(control)
    (new,) = (one for one in made.upstreams.values() if one.name == "new")
    assert new.models.get("m") == Price(2_000_000, 8_000_000, source="catalogue")


def test_a_route_written_without_them_has_none_any_more(control: Control) -> None:
    """A route is written whole; the audit trail has what was there."""
    _put(control, hedge={"after": 0.5, "share": 0.1}, shadow=SHADOW)
    assert _put(control) is Outcome.UPDATED
    view = _view(control)
    assert (view.hedge, view.shadow, _route(control).shadow, _route(control).hedge) == (None, None, None, None)
    with control.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM shadows").scalar()
    assert rows == 0
    assert "new/x" in str(audit.list_(control, "default"))


def test_an_upstream_that_gets_copies_is_not_removed(control: Control) -> None:
    """Nor by a document; a route is in the way, and is named."""
    _put(control, shadow=SHADOW)
    with pytest.raises(Conflict, match="is a target of m"):
        upstreams.remove(control, "default", "new")
    routes.remove(control, "default", "m")
    upstreams.remove(control, "default", "new")


def test_what_is_named_must_be_there(control: Control) -> None:
    """As for any target."""
    with pytest.raises(Unknown, match="no upstream is named nwe: did you mean new"):
        _put(control, shadow={"targets": [{"upstream": "nwe"}]})
    with pytest.raises(Unknown, match="no node is named rig"):
        _put(control, shadow={"targets": [{"node": "rig"}]})
    with pytest.raises(BadCall, match="only shadow targets of the route"):
        _put(control, shadow={"targets": [{"upstream": "new", "model": "*"}]})
