"""Nodes as targets over a real database: written, listed, applied, and in the snapshot."""

from __future__ import annotations

import time

import msgspec
import pytest
import sqlalchemy as sa

from intertie.controlplane import config, routes, snapshot, upstreams
from intertie.controlplane.apply import apply
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.entries import RouteEntry, UpstreamEntry
from intertie.core.routing.resolve import resolve, visible
from intertie.core.terms import (
    NODE,
    Call,
    Caller,
    Dialect,
    Operation,
    Price,
    Route,
    Snapshot,
    StrategyName,
    Target,
    Trust,
)
from intertie.store.schema import organisations
from tests.contract.controlplane.documents import document
from tests.contract.controlplane.machines import enrolled

OWN = Caller("default", "p", "k", "dev", trust=Trust.OWN)
ANYBODY = Caller("default", "p", "k", "dev")
ACME = "{name: acme, provider: openai, models: [m, gpt]}"


def put(control: Control, model: str, *targets: dict[str, object]) -> None:
    routes.put(control, "default", config.receive_entry(RouteEntry, {"model": model, "targets": list(targets)}))


def built(control: Control, model: str) -> tuple[Target, ...]:
    return snapshot.build(control).routes["default", model].targets


def ask(model: str) -> Call:
    return Call("c", Dialect.OPENAI, Operation.CHAT, model, stream=False, fields={})


# -- written and listed ----------------------------------------------------------------------------------------------


def test_a_node_is_stored_by_id_and_shown_by_name(control: Control) -> None:
    """What a list shows can be put back, and is the same."""
    rig = enrolled(control, "rig", "m")
    put(control, "a", {"node": "rig", "model": "m", "tier": 1}, {"node_label": "gpu", "weight": 2})
    (view,) = (one for one in routes.list_(control, "default") if one.model == "a")

    assert [msgspec.to_builtins(target) for target in view.targets] == [
        {"upstream": None, "node": "rig", "node_label": None, "model": "m", "weight": 1, "tier": 1},
        {"upstream": None, "node": None, "node_label": "gpu", "model": "a", "weight": 2, "tier": 0},
    ]
    assert built(control, "a") == (Target(rig, "m", tier=1),)
    before = snapshot.revision(control)
    put(control, "a", *map(msgspec.to_builtins, view.targets))
    assert snapshot.revision(control) == before


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"node": "rigg"}, "no node is named rigg: did you mean rig? Or enrol it with: intertie nodes token rigg"),
        ({"node": "acme"}, "no node is named acme: it is an upstream, write upstream: acme"),
        ({"upstream": "rig"}, "no upstream is named rig: it is a node: write node: rig instead of upstream"),
        ({"upstream": "acm"}, "no upstream is named acm: did you mean acme?"),
    ],
)
def test_what_does_not_exist_is_named_with_the_remedy(control: Control, target: dict[str, object], words: str) -> None:
    """Nodes and upstreams share one space of names, so each says what the other is."""
    enrolled(control, "rig", "m")
    upstreams.put(control, "default", config.receive_entry(UpstreamEntry, {"name": "acme", "provider": "openai"}))

    with pytest.raises(Unknown) as caught:
        put(control, "a", target)
    assert caught.value.public == words


def test_a_label_that_nobody_carries_yet_is_fine(control: Control) -> None:
    """It selects whoever comes; until then the route has no target."""
    put(control, "a", {"node_label": "gpu", "model": "m"})
    assert built(control, "a") == ()
    one = enrolled(control, "one", "m", labels=("gpu", "lab"))
    enrolled(control, "other-model", "x", labels=("gpu",))
    enrolled(control, "unlabelled", "m")
    assert built(control, "a") == (Target(one, "m"),)


# -- applied ---------------------------------------------------------------------------------------------------------


def test_applying_before_the_node_exists_says_how_to_enrol_it_and_changes_nothing(control: Control) -> None:
    """All or nothing, and afterwards the same file is fine, twice."""
    targets = "[{node: rig, model: m}, {upstream: acme, model: m, tier: 1}]"
    text = document(f"upstreams: [{ACME}]\nroutes: [{{model: a, targets: {targets}}}]")
    with pytest.raises(Unknown, match="intertie nodes token rig"):
        apply(control, "default", text)
    assert not upstreams.list_(control, "default")

    rig = enrolled(control, "rig", "m")
    assert apply(control, "default", text).created == ("upstream acme", "route a")
    assert apply(control, "default", text).unchanged == ("upstream acme", "route a")
    assert built(control, "a")[0] == Target(rig, "m")


def test_applying_never_touches_a_node(control: Control) -> None:
    """Neither an empty file nor one that declares an upstream of its name; nor does any other door."""
    rig = enrolled(control, "rig", "m")
    before = snapshot.build(control).upstreams[rig]
    apply(control, "default", document(""))
    assert snapshot.build(control).upstreams[rig].name == before.name

    theirs = "upstreams: [{name: rig, provider: openai}]"
    for refused in (
        lambda: apply(control, "default", document(theirs)),
        lambda: upstreams.put(control, "default", document(theirs).upstreams[0]),
        lambda: upstreams.remove(control, "default", "rig"),
    ):
        with pytest.raises(Conflict, match=r"rig is a node.*intertie nodes"):
            refused()
    assert snapshot.build(control).upstreams[rig].provider == NODE


def test_a_route_to_a_revoked_node_still_applies(control: Control) -> None:
    """A gateway must start with the file it had; the node gets nothing."""
    rig = enrolled(control, "rig", "m", state="revoked")
    apply(control, "default", document("routes: [{model: a, targets: [{node: rig, model: m}]}]"))
    now = snapshot.build(control)

    assert now.routes["default", "a"].targets == (Target(rig, "m"),)
    assert not now.upstreams[rig].enabled
    assert not now.nodes
    assert visible(ANYBODY, now) == []


def test_nodes_are_not_listed_among_upstreams(control: Control) -> None:
    """What that list shows can be changed there."""
    enrolled(control, "rig", "m")
    assert upstreams.list_(control, "default") == []


# -- in the snapshot -------------------------------------------------------------------------------------------------


def test_a_snapshot_knows_active_nodes_and_what_they_serve(control: Control) -> None:
    """Labels, and a price of zero, which is known and not unknown."""
    rig = enrolled(control, "rig", "m", labels=("gpu",))
    enrolled(control, "new", "m", state="pending")
    now = snapshot.build(control)

    assert list(now.nodes) == [("default", "rig")]
    node = now.nodes["default", "rig"]
    assert (node.id, node.labels, node.void) == (rig, frozenset({"gpu"}), 0)
    assert now.upstreams[rig].models.get("m") == Price(0, 0)
    assert now.upstreams[rig].models.get("not-reported-yet") == Price(0, 0, source="node")
    assert {name: upstream.enabled for upstream in now.upstreams.values() if (name := upstream.name)} == {
        "rig": True,
        "new": False,
    }


def test_a_model_is_callable_the_moment_a_node_serves_it(control: Control) -> None:
    """One route for all nodes that list it, of equal rank; it goes when the last of them goes."""
    two = [enrolled(control, name, "m", "x") for name in ("b", "a")]
    now = snapshot.build(control)

    assert now.routes["default", "m"] == Route("default", "m", (Target(two[1], "m"), Target(two[0], "m")))
    assert now.routes["default", "m"].strategy is StrategyName.PRIORITY
    assert visible(OWN, now) == ["m", "x"]
    assert [
        (view.model, view.origin, [one.node for one in view.targets]) for view in routes.list_(control, "default")
    ] == [
        ("m", "node", ["a", "b"]),
        ("x", "node", ["a", "b"]),
    ]
    with pytest.raises(Conflict, match="nobody wrote the route m"):
        routes.remove(control, "default", "m")
    with pytest.raises(Unknown):
        routes.remove(control, "default", "y")


def test_a_written_route_keeps_its_name_for_itself(control: Control) -> None:
    """The operator decides who answers for a name, also whether a node does."""
    enrolled(control, "rig", "m")
    upstreams.put(control, "default", config.receive_entry(UpstreamEntry, {"name": "acme", "provider": "openai"}))
    put(control, "m", {"upstream": "acme"})
    (target,) = built(control, "m")

    assert snapshot.build(control).upstreams[target.upstream].name == "acme"
    assert [view.origin for view in routes.list_(control, "default")] == ["api"]
    routes.remove(control, "default", "m")
    assert [view.origin for view in routes.list_(control, "default")] == ["node"]


def test_a_node_does_not_draw_callers_away_from_what_a_star_route_lists(control: Control) -> None:
    """Whoever asks for a model that the operator listed gets it from there, whatever a machine says it serves."""
    rig = enrolled(control, "rig", "gpt", "llama")
    apply(control, "default", document(f"upstreams: [{ACME}]\nroutes: [{{model: '*', targets: [{{upstream: acme}}]}}]"))
    now = snapshot.build(control)

    assert resolve(ask("llama"), ANYBODY, now).targets == (Target(rig, "llama"),)
    assert [now.upstreams[one.upstream].name for one in resolve(ask("gpt"), ANYBODY, now).targets] == ["acme"]


def test_a_node_draws_no_callers_away_from_an_upstream_that_takes_any_name(control: Control) -> None:
    """It lists nothing, but the catalogue knows what it serves; what it would not know is the node's."""
    rig = enrolled(control, "rig", "m", "llama")
    star = "routes: [{model: '*', targets: [{upstream: acme}]}]"
    apply(control, "default", document(f"upstreams: [{{name: acme, provider: openai}}]\n{star}"))
    now = snapshot.build(control)

    assert resolve(ask("llama"), ANYBODY, now).targets == (Target(rig, "llama"),)
    assert [now.upstreams[one.upstream].name for one in resolve(ask("m"), ANYBODY, now).targets] == ["acme"]
    assert [view.model for view in routes.list_(control, "default")] == ["*", "llama"]


@pytest.mark.parametrize("model", ["*", "nodes/rig", "intertie-smoke/target-0"])
def test_a_name_that_means_something_else_makes_no_route(control: Control, model: str) -> None:
    """A machine that claims to serve `*` would get every call."""
    enrolled(control, "rig", model, "m")
    assert list(snapshot.build(control).routes) == [("default", "m")]


def test_community_nodes_have_to_be_asked_for(control: Control) -> None:
    """No route by themselves; a written one reaches them where the key's ceiling allows."""
    stranger = enrolled(control, "stranger", "m", labels=("gpu",), trust="community")
    assert not snapshot.build(control).routes
    put(control, "a", {"node_label": "gpu", "model": "m"})
    now = snapshot.build(control)

    assert now.routes["default", "a"].targets == (Target(stranger, "m"),)
    assert now.upstreams[stranger].trust is Trust.COMMUNITY
    assert visible(ANYBODY, now) == ["a"]
    assert visible(OWN, now) == []


def test_a_star_route_over_nodes_passes_on_what_they_list(control: Control) -> None:
    """And nothing else: a node that lists nothing serves nothing."""
    rig = enrolled(control, "rig", "m", labels=("gpu",))
    enrolled(control, "bare", labels=("gpu",))
    enrolled(control, "stranger", "odd", labels=("gpu",), trust="community")
    put(control, "*", {"node_label": "gpu"}, {"node": "rig"})
    now = snapshot.build(control)

    assert len(now.routes["default", "*"].targets) == 3
    assert resolve(ask("m"), ANYBODY, now).targets == (Target(rig, "m"),)
    assert [now.upstreams[one.upstream].name for one in resolve(ask("odd"), ANYBODY, now).targets] == ["stranger"]
    assert "unheard-of" not in visible(ANYBODY, now)


def test_a_node_behind_a_label_and_by_name_is_one_target(control: Control) -> None:
    """What is written first counts."""
    rig = enrolled(control, "rig", "m", labels=("gpu",))
    other = enrolled(control, "other", "m", labels=("gpu",))
    put(control, "a", {"node": "rig", "model": "m"}, {"node_label": "gpu", "model": "m", "tier": 1})
    assert built(control, "a") == (Target(rig, "m"), Target(other, "m", tier=1))


def test_machines_of_another_organisation_are_nobodys_targets_but_its_own(control: Control) -> None:
    """Same label, same model."""
    with control.database.write() as connection:
        connection.execute(sa.insert(organisations).values(id="other", name="other", created_at=0.0))
    enrolled(control, "theirs", "m", "x", labels=("gpu",), organisation="other")
    mine = enrolled(control, "mine", "m", labels=("gpu",))
    put(control, "a", {"node_label": "gpu", "model": "m"})
    now: Snapshot = snapshot.build(control)

    assert now.routes["default", "a"].targets == now.routes["default", "m"].targets == (Target(mine, "m"),)
    assert ("default", "x") not in now.routes
    assert {view.model for view in routes.list_(control, "default")} == {"a", "m"}
    with pytest.raises(Unknown, match="intertie nodes token theirs"):
        put(control, "b", {"node": "theirs", "model": "m"})


def test_two_hundred_machines_with_fifty_models_build_quickly(control: Control) -> None:
    """A report that changes one of them must be in force within two seconds, also on a busy machine."""
    models = [f"model-{n}" for n in range(50)]
    for n in range(200):
        enrolled(control, f"n{n}", *models, labels=("gpu",))
    put(control, "a", {"node_label": "gpu", "model": "model-7"})
    started = time.process_time()
    now = snapshot.build(control)

    assert len(now.routes) == 51
    assert len(now.routes["default", "a"].targets) == 200
    assert time.process_time() - started < 1.5
