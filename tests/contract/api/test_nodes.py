"""Nodes, tokens and the audit trail as operators ask for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from intertie.controlplane import nodes
from tests.contract.api.conftest import NOW, Gateway, upstream
from tests.contract.controlplane.applicants import Machine, enrolled, id_of, make_token
from tests.unit.controlplane.machines import presence

REPORT: dict[str, Any] = {
    "models": [{"name": "llama3:8b", "context": 8192, "decode": 40.0, "capabilities": ["chat"]}],
    "runtimes": [{"kind": "ollama", "version": "0.5", "slots": 4}],
    "hardware": {"memory_bytes": 2**35},
    "slots": 4,
}


def _connected(gateway: Gateway, machine: Machine, **more: Any) -> None:
    there = msgspec.structs.replace(presence("x", **more), node=id_of(machine))
    gateway.state.presence = lambda: [there]


def test_a_node_is_shown_with_what_its_link_knows(gateway: Gateway) -> None:
    """Every member has its stable name, online or not."""
    control = gateway.rest.control
    machine = enrolled(control, labels=("gpu",))
    nodes.report(control, "default", id_of(machine), REPORT)
    away = gateway.client.get("/api/nodes/rig").json()
    _connected(gateway, machine, serving="idle_wait", reason="the machine is in use", idle_seconds=3.0)
    (there,) = gateway.client.get("/api/nodes").json()

    assert set(away) == set(there) == {
        *("id", "name", "state", "online", "serving", "reason", "trust", "region", "labels", "drained"),
        *("slots", "slots_cap"),
        *("lanes_busy", "lanes_parked", "in_flight", "queue", "idle_seconds", "online_since", "models", "runtimes"),
        *("hardware", "version", "platform", "address", "enrolled_at", "enrolled_by", "last_seen_at", "revoked_at"),
        *("ephemeral", "standing"),
    }  # fmt: skip
    assert (away["online"], away["serving"], away["reason"]) == (False, "offline", "has not connected yet")
    assert (there["online"], there["serving"], there["reason"]) == (True, "idle_wait", "the machine is in use")
    assert (there["slots"], there["lanes_busy"], there["idle_seconds"], there["version"]) == (2, 1, 3.0, "1.1")
    assert there["models"] == [{"name": "llama3:8b", "context": 8192, "capabilities": ["chat"], "decode": 40.0}]
    assert gateway.client.get("/api/nodes/nobody").status_code == 404


@pytest.mark.parametrize(
    ("state", "words"), [("pending", "approve rig"), ("revoked", "--for rig"), ("duplicate", "--for rig")]
)
def test_a_node_that_is_kept_out_says_what_to_do(gateway: Gateway, state: str, words: str) -> None:
    """The command to run, not only the state."""
    control = gateway.rest.control
    machine = enrolled(control)
    with control.database.write() as connection:
        from intertie.store import nodes as stored

        row = stored.by_id(connection, id_of(machine))
        assert row is not None
        stored.write(connection, type(row)(**{**_members(row), "state": state}))

    assert words in gateway.client.get("/api/nodes/rig").json()["reason"]


def _members(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def test_operators_drain_approve_revoke_and_the_data_plane_hears_at_once(gateway: Gateway) -> None:
    """Each answer is the node as it is now."""
    enrolled(gateway.rest.control, approved=False)
    post = gateway.client.post

    assert post("/api/nodes/rig/approve").json()["state"] == "active"
    assert ("default", "rig") in gateway.rest.in_force.nodes
    assert post("/api/nodes/rig/drain").json()["drained"] is True
    assert gateway.rest.in_force.nodes["default", "rig"].drained
    assert "resume rig" in gateway.client.get("/api/nodes/rig").json()["reason"]
    assert post("/api/nodes/rig/resume").json()["drained"] is False
    assert post("/api/nodes/rig/revoke").json()["state"] == "revoked"
    assert gateway.rest.in_force.nodes == {}
    assert post("/api/nodes/rig/approve").status_code == 409


def test_a_node_is_changed_and_removed(gateway: Gateway) -> None:
    """What is left out stays; null takes the cap away; unknown fields and wrong values are refused."""
    enrolled(gateway.rest.control)
    patch = gateway.client.patch

    first = patch("/api/nodes/rig", json={"slots": 2, "labels": ["gpu", "gpu"], "trust": "community"}).json()
    second = patch("/api/nodes/rig", json={"slots": None, "name": "big"}).json()
    assert (first["slots_cap"], first["labels"], first["trust"]) == (2, ["gpu"], "community")
    assert (second["slots_cap"], second["labels"], second["name"]) == (None, ["gpu"], "big")
    for wrong in ({"slots": 0}, {"else": 1}, {"trust": "vendor"}, {"name": "a b"}, {"labels": ["a b"]}):
        assert patch("/api/nodes/big", json=wrong).status_code == 400, wrong
    assert gateway.client.delete("/api/nodes/big").json() == {"removed": "big"}
    assert gateway.client.get("/api/nodes").json() == []


def test_a_new_key_is_asked_for_only_while_the_node_is_there(gateway: Gateway) -> None:
    """Else the answer says so."""
    machine = enrolled(gateway.rest.control)
    asked: list[str] = []

    def ask(node: str) -> bool:
        asked.append(node)
        return len(asked) > 1

    gateway.state.ask_rotation = ask

    assert gateway.client.post("/api/nodes/rig/rotate").status_code == 409
    answer = gateway.client.post("/api/nodes/rig/rotate")
    assert (answer.status_code, answer.json()) == (202, {"asked": "rig"})
    assert asked == [id_of(machine)] * 2


def test_a_token_is_shown_once_with_lines_to_paste(gateway: Gateway) -> None:
    """The token is in no address; lists have the time it has left and not the token."""
    gateway.state.public_url = "https://ai.example.com"
    made = gateway.client.post("/api/nodes/tokens", json={"name": "rig", "seconds": 600}).json()
    token, join = made["token"], made["join"]
    (listed,) = gateway.client.get("/api/nodes/tokens").json()

    assert (listed["remaining_seconds"], listed["expires_at"]) == (600, NOW + 600)
    assert token not in gateway.client.get("/api/nodes/tokens").text
    assert join["shell"] == f"curl -fsSL https://ai.example.com/install.sh | INTERTIE_TOKEN={token} sh"
    assert join["powershell"] == f"$env:INTERTIE_TOKEN='{token}'; irm 'https://ai.example.com/install.ps1' | iex"
    assert join["installed"] == f"INTERTIE_TOKEN={token} intertie node join https://ai.example.com"
    assert join["hint"] == ""


def test_lines_to_paste_say_what_stands_in_their_way(gateway: Gateway) -> None:
    """An address that only this machine can use, or one without encryption; and they are quoted for their shells."""
    here = gateway.client.post("/api/nodes/tokens", json={"name": "rig"}).json()["join"]
    gateway.state.public_url = "http://10.0.0.5:8080"
    plain = gateway.client.post("/api/nodes/tokens", json={"name": "rig"}).json()["join"]
    gateway.state.public_url = "https://ai.example.com/$(id)'"
    odd = gateway.client.post("/api/nodes/tokens", json={"name": "rig"}).json()["join"]

    assert "INTERTIE_PUBLIC_URL" in here["hint"]
    assert "not encrypted" in plain["hint"]
    assert plain["shell"].endswith(" sh -s -- --insecure")
    assert plain["installed"].endswith(" --insecure")
    script = "& ([scriptblock]::Create((irm 'http://10.0.0.5:8080/install.ps1'))) -Insecure"
    assert plain["powershell"].endswith(f"; {script}")
    assert """'https://ai.example.com/$(id)'"'"'/install.sh'""" in odd["shell"]
    assert "irm 'https://ai.example.com/$(id)''/install.ps1'" in odd["powershell"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "a b"}, 400),
        ({"name": "rig", "seconds": 1}, 400),
        ({"name": "rig", "uses": 0}, 400),
        ({"name": "rig", "trust": "vendor"}, 400),
        ({"name": "rig", "expires": 60}, 400),
        ({"node": "nobody"}, 404),
        ({}, 201),
    ],
)
def test_what_a_token_may_be(gateway: Gateway, body: dict[str, Any], status: int) -> None:
    """Refusals say what is wrong."""
    answer = gateway.client.post("/api/nodes/tokens", json=body)

    assert answer.status_code == status
    assert status == 201 or answer.json()["error"]["message"]


def test_a_token_is_revoked_by_its_id(gateway: Gateway) -> None:
    """Again changes nothing; an unknown one is not found."""
    made = make_token(gateway.rest.control)
    for _ in range(2):
        assert gateway.client.delete(f"/api/nodes/tokens/{made.view.id}").json()["state"] == "revoked"

    assert gateway.client.delete("/api/nodes/tokens/0000000000").status_code == 404


def test_a_node_is_no_upstream_to_configure(gateway: Gateway) -> None:
    """Writing or removing it there would take its identity."""
    enrolled(gateway.rest.control, "acme")

    for answer in (
        gateway.client.put("/api/upstreams/acme", json=upstream("acme")),
        gateway.client.delete("/api/upstreams/acme"),
    ):
        assert (answer.status_code, "intertie nodes" in answer.json()["error"]["message"]) == (409, True)


def test_the_audit_trail_is_paged(gateway: Gateway) -> None:
    """The newest first, with actor and address."""
    for number in range(5):
        gateway.client.post("/api/nodes/tokens", json={"name": f"n{number}"})
    first = gateway.client.get("/api/audit?limit=2").json()
    rest = gateway.client.get(f"/api/audit?limit=10&after={first[-1]['seq']}").json()

    assert [row["detail"]["name"] for row in first + rest] == ["n4", "n3", "n2", "n1", "n0"]
    assert set(first[0]) == {"seq", "at", "actor", "action", "subject", "address", "detail", "hash"}
    assert (first[0]["actor"], first[0]["address"], first[0]["at"]) == ("admin", "127.0.0.1", NOW)
    assert gateway.client.get("/api/audit?limit=0").status_code == 400
