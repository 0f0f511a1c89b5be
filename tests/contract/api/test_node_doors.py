"""Nodes where an operator meets them outside their own door: routes, upstreams, status, and the page at `/`."""

from __future__ import annotations

from intertie.controlplane.status import HealthView
from tests.contract.api.conftest import Gateway, upstream
from tests.contract.controlplane.machines import enrolled
from tests.unit.controlplane.machines import presence


def test_a_route_over_a_node_is_put_and_listed_and_one_before_it_enrolled_is_refused(gateway: Gateway) -> None:
    """The refusal says how to enrol; what the list shows can be put again."""
    body = {"model": "a", "targets": [{"node": "rig", "model": "m"}, {"node_label": "gpu", "model": "m", "tier": 1}]}
    refused = gateway.client.put("/api/routes", json=body)
    assert refused.status_code == 404
    assert "intertie nodes token rig" in refused.json()["error"]["message"]

    enrolled(gateway.rest.control, "rig", "m")
    assert gateway.client.put("/api/routes", json=body).json()["outcome"] == "created"
    written, implied = gateway.client.get("/api/routes").json()
    assert [target["node"] or target["node_label"] for target in written["targets"]] == ["rig", "gpu"]
    again = {"model": "a", "targets": written["targets"]}
    assert gateway.client.put("/api/routes", json=again).json()["outcome"] == "unchanged"
    assert (implied["model"], implied["origin"]) == ("m", "node")
    assert gateway.client.delete("/api/routes?model=m").status_code == 409


def test_the_upstreams_door_neither_shows_nor_touches_a_node(gateway: Gateway) -> None:
    """Conflicts name the door that does."""
    enrolled(gateway.rest.control, "rig", "m")

    assert gateway.client.get("/api/upstreams").json() == []
    for answer in (
        gateway.client.put("/api/upstreams/rig", json=upstream("rig")),
        gateway.client.delete("/api/upstreams/rig"),
    ):
        assert answer.status_code == 409
        assert "intertie nodes" in answer.json()["error"]["message"]
    assert gateway.client.post("/api/upstreams/rig/clear").status_code == 404
    refused = gateway.client.put("/api/upstreams/other", json={"name": "other", "provider": "node"})
    assert (refused.status_code, "intertie nodes token" in refused.text) == (400, True)


def test_status_and_page_show_each_node_with_its_reason(gateway: Gateway) -> None:
    """And to somebody without any, how to enrol one. What a node says is text, whatever it looks like."""
    assert "intertie nodes token NAME" in gateway.client.get("/").text

    script = "<script>alert(1)</script>"
    enrolled(gateway.rest.control, "rig", script, "m", labels=("gpu",))
    enrolled(gateway.rest.control, "away", "m")
    enrolled(gateway.rest.control, "new", state="pending")
    gateway.rest.changed()
    said = presence("rig", since=0.0, serving="paused", reason=script)
    gateway.rest.health = HealthView(nodes=(said,))
    shown = gateway.client.get("/api/status").json()
    page = gateway.client.get("/").text

    assert {one["name"]: one["state"] for one in shown["nodes"]} == {
        "away": "offline",
        "new": "pending",
        "rig": "paused",
    }
    assert "intertie nodes approve new" in shown["alerts"][0]
    assert {route["model"]: route["state"] for route in shown["routes"]} == {"m": "down", script: "down"}
    assert script not in page
    for words in ("paused", "offline", "has not connected yet", "gpu", "1 of 2"):
        assert words in page
