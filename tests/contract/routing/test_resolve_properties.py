"""Models resolve within their organisation and to something within reach."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from intertie.core.errors import UnknownModel
from intertie.core.routing.resolve import resolve, visible
from intertie.core.terms import Caller, Route, Snapshot, Target, Trust
from tests.unit.core.routing.grid import call, caller, upstream

ORGANISATIONS = st.sampled_from(["org", "other"])


NAMES = st.sampled_from(["chat", "small", "big", "*"])


UPSTREAMS = st.lists(
    st.builds(
        upstream,
        st.sampled_from([f"u{n}" for n in range(6)]),
        organisation=ORGANISATIONS,
        trust=st.sampled_from(Trust),
        models=st.sets(st.sampled_from(["small", "big"])),
        enabled=st.booleans(),
    ),
    max_size=6,
)


TARGETS = st.lists(
    st.builds(Target, st.sampled_from([f"u{n}" for n in range(7)]), NAMES, st.integers(0, 3), st.integers(0, 2)),
    max_size=5,
)


@st.composite
def snapshots(draw: Any) -> Snapshot:
    """Also broken ones: dangling targets, targets and routes of another organisation."""
    routes: dict[tuple[str, str], Route] = {}
    for key in draw(st.lists(st.tuples(ORGANISATIONS, NAMES), max_size=6)):
        owner = key[0] if draw(st.integers(0, 9)) else "other"
        routes[key] = Route(organisation=owner, model=key[1], targets=tuple(draw(TARGETS)))
    return Snapshot(upstreams={one.id: one for one in draw(UPSTREAMS)}, routes=routes)


CALLERS = st.builds(
    caller, ORGANISATIONS, st.none() | st.sets(st.sampled_from(["chat", "small", "*"])), st.sampled_from(Trust)
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(snapshots(), CALLERS, NAMES)
def test_t32_resolve_never_crosses_organisations(snap: Snapshot, who: Caller, asked: str) -> None:
    """Whatever a snapshot holds: route, targets and upstreams are the caller's, models concrete, the key allowed."""
    try:
        found = resolve(call(asked), who, snap)
    except UnknownModel:
        return
    assert found.organisation == who.organisation
    assert all(snap.upstreams[target.upstream].organisation == who.organisation for target in found.targets)
    assert found.model != "*" or all(target.model != "*" for target in found.targets)
    assert who.models is None or found.model in who.models or asked in who.models


@settings(max_examples=80, deadline=None, derandomize=True)
@given(snapshots(), CALLERS)
def test_t32_whatever_is_visible_resolves_to_something_within_reach(snap: Snapshot, who: Caller) -> None:
    """No name is listed that a call could not reach, and none of another organisation."""
    for name in visible(who, snap):
        found = resolve(call(name), who, snap)
        reachable = [snap.upstreams[target.upstream] for target in found.targets]
        assert any(one.enabled and one.trust.within(who.trust) for one in reachable)
