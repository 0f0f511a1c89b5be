"""The state at a moment: health joined with configuration, one tenant at a time."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from intertie.controlplane import status
from intertie.controlplane.status import HealthView, Stored
from intertie.core.errors import UpstreamDenied, UpstreamExhausted, UpstreamNoModel, UpstreamUnreachable
from intertie.core.routing.credentials import CredentialBook
from intertie.core.routing.health import HealthBook
from intertie.core.terms import NODE, Caller, Credential, Price, Route, Secret, Snapshot, Target, Upstream
from tests.unit.controlplane.machines import presence, view

ACME = Upstream(
    "up_acme",
    "mine",
    "acme",
    "openai",
    "https://secret-host.example/v1",
    credentials=(Credential("cred_1", Secret("canary-1")), Credential("cred_2", Secret("canary-2"))),
    models={"m": Price(1, 2)},
)
LAB = Upstream("up_lab", "mine", "lab", "ollama", "http://127.0.0.1:11434/v1")
THEIRS = Upstream(
    "up_x", "theirs", "x", "openai", "https://x.example/v1", credentials=(Credential("cred_x", Secret("s")),)
)
SNAPSHOT = Snapshot(
    revision=7,
    callers={b"1": Caller("mine", "p", "k", "dev"), b"2": Caller("theirs", "p", "k", "dev")},
    routes={
        ("mine", "a"): Route("mine", "a", (Target("up_acme", "m"), Target("up_lab", "m", tier=1))),
        ("theirs", "b"): Route("theirs", "b", (Target("up_x", "m"),)),
    },
    upstreams={one.id: one for one in (ACME, LAB, THEIRS)},
)


def _read(health: HealthView = HealthView(), reasons: tuple[str, ...] = ()) -> status.Status:  # noqa: B008 - frozen
    return status.read("mine", SNAPSHOT, health, reasons, Stored())


def test_all_is_well_before_anything_was_asked() -> None:
    """No news is good news."""
    now = _read()

    assert (now.ready, now.revision, now.keys) == (True, 7, 1)
    assert [(route.model, route.state) for route in now.routes] == [("a", "ok")]
    assert [target.priced for target in now.routes[0].targets] == [True, False]


def test_a_paused_target_is_out_and_says_how_to_have_it_back() -> None:
    """One model, or all of the upstream."""
    for paused, states in (("m", ["paused", "ready"]), ("*", ["paused", "ready"]), ("another", ["ready", "ready"])):
        acme = replace(ACME, paused=frozenset({paused}))
        now = status.read("mine", replace(SNAPSHOT, upstreams={acme.id: acme, LAB.id: LAB}), HealthView(), (), Stored())

        assert [target.state for target in now.routes[0].targets] == states
        assert now.routes[0].state == ("degraded" if "paused" in states else "ok")
        assert [one.paused for one in now.upstreams] == [(paused,), ()]
        assert now.routes[0].targets[0].reason in {"", "until: intertie upstreams resume acme"}


def test_t50_nothing_of_another_organisation_is_shown() -> None:
    """Neither its names nor its health, and of ours no secret and no address."""
    book, credentials = HealthBook(Random(1)), CredentialBook()
    book.failure(("up_x", "m"), UpstreamUnreachable("no"), 0.0)
    credentials.failure(THEIRS, THEIRS.credentials[0], UpstreamDenied("no"), 0.0)

    shown = str(_read(HealthView(tuple(book.view(1.0)), tuple(credentials.view(1.0)))))

    for foreign in ("theirs", "up_x", "cred_x", "canary", "secret-host", "11434"):
        assert foreign not in shown


def test_an_ejected_target_degrades_its_route_and_all_of_them_take_it_down() -> None:
    """With the reason, and when it is tried again."""
    book = HealthBook(Random(1))
    for _ in range(3):
        book.failure(("up_lab", "m"), UpstreamUnreachable("no"), 0.0)
    degraded = _read(HealthView(tuple(book.view(1.0)))).routes[0]
    book.failure(("up_acme", "m"), UpstreamNoModel("no"), 1.0)
    down = _read(HealthView(tuple(book.view(2.0)))).routes[0]

    assert (degraded.state, [target.state for target in degraded.targets]) == ("degraded", ["ready", "ejected"])
    assert degraded.targets[1].last_error == "upstream_unreachable"
    assert degraded.targets[1].retry_in is not None
    assert (down.state, [target.state for target in down.targets]) == ("down", ["resting", "ejected"])


def test_refused_and_exhausted_credentials_raise_alerts_with_the_remedy() -> None:
    """One parked credential is an alert, all of them take the target out."""
    credentials = CredentialBook()
    credentials.failure(ACME, ACME.credentials[0], UpstreamDenied("no"), 0.0)
    one = _read(HealthView(credentials=tuple(credentials.view(1.0))))
    credentials.failure(ACME, ACME.credentials[1], UpstreamExhausted("no"), 1.0)
    both = _read(HealthView(credentials=tuple(credentials.view(2.0))))

    assert [found.state for found in one.upstreams[0].credentials] == ["parked", "usable"]
    assert "intertie upstreams clear acme" in one.alerts[0]
    assert one.routes[0].state == "ok"
    assert len(both.alerts) == 2
    assert [target.state for target in both.routes[0].targets] == ["no credential", "ready"]


def test_reasons_make_it_unready() -> None:
    """They are shown as they are."""
    now = _read(reasons=("draining",))

    assert (now.ready, now.reasons) == (False, ("draining",))


RIG = Upstream("node_rig", "mine", "rig", NODE, "", models={"m": Price(0, 0)})
WITH_NODE = Snapshot(
    upstreams={one.id: one for one in (ACME, RIG)},
    routes={("mine", "m"): Route("mine", "m", (Target("node_rig", "m"), Target("up_acme", "m", tier=1)))},
)


def test_nodes_have_a_list_of_their_own_and_their_state_is_their_targets() -> None:
    """A machine whose owner is back degrades the routes it serves, and says why."""
    stored = Stored(at=100.0, nodes=(view("rig"), view("gone", state="revoked")))
    well = status.read("mine", WITH_NODE, HealthView(nodes=(presence("rig"),)), (), stored)
    paused = HealthView(nodes=(presence("rig", serving="paused", reason="its owner paused it"),))
    away = status.read("mine", WITH_NODE, paused, (), stored)

    assert [one.name for one in well.upstreams] == ["acme"]
    assert [(one.name, one.state) for one in well.nodes] == [("rig", "serving")]
    assert [one.state for one in well.routes[0].targets] == ["ready", "ready"]
    target = away.routes[0].targets[0]
    assert (away.routes[0].state, target.state, target.reason) == ("degraded", "away", "paused: its owner paused it")


def test_a_machine_that_waits_for_approval_is_an_alert_with_the_remedy() -> None:
    """And one whose key two machines use."""
    stored = Stored(nodes=(view("new", state="pending"), view("twin", state="duplicate")))
    now = status.read("mine", SNAPSHOT, HealthView(), (), stored)

    assert now.alerts[0] == "Node new: waits for approval: intertie nodes approve new."
    assert "intertie nodes token twin" in now.alerts[1]
