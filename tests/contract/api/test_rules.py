"""Rules over the admin API, one at a time: in force at once, in order, checked like those of a file."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.api.conftest import Gateway, upstream

STAYS = {"when": {"tag": "private"}, "require": {"trust": "own"}}
NEAR = {"name": "near", "prefer": {"region": ["eu", "ch"]}}


@pytest.fixture
def ruled(gateway: Gateway) -> Gateway:
    """Two rules, the first made last."""
    gateway.client.put("/api/upstreams/acme", json=upstream())
    assert gateway.client.put("/api/rules/near", json=NEAR).json() == {"name": "near", "outcome": "created"}
    assert gateway.client.put("/api/rules/stays?before=near", json=STAYS).status_code == 200
    return gateway


def _order(gateway: Gateway) -> list[str]:
    """As the data plane has them."""
    return [rule.name for rule in gateway.rest.in_force.rules.get("default", ())]


def test_what_is_read_can_be_written_again(ruled: Gateway) -> None:
    """And changes nothing but, at most, who owns it."""
    for row in ruled.client.get("/api/rules").json():
        assert ruled.client.get(f"/api/rules/{row['name']}").json() == row
        assert ruled.client.put(f"/api/rules/{row['name']}", json=row["entry"]).json()["outcome"] == "unchanged"
    assert [row["entry"] for row in ruled.client.get("/api/rules").json()] == [{"name": "stays", **STAYS}, NEAR]


def test_order_is_changed_and_in_force_before_the_answer_is_out(ruled: Gateway) -> None:
    """So is a removal."""
    assert _order(ruled) == ["stays", "near"]
    moved = ruled.client.post("/api/rules/stays/move", json={"after": "near"}).json()
    assert (moved["name"], moved["place"], moved["says"]) == ("stays", 2, "when tag private: require trust own")
    assert _order(ruled) == ["near", "stays"]
    assert ruled.client.delete("/api/rules/near").json() == {"removed": "near"}
    assert _order(ruled) == ["stays"]
    assert ruled.client.delete("/api/rules/near").status_code == 404


def test_a_change_is_simulated_without_being_made(ruled: Gateway) -> None:
    """Put or removed; there is no traffic yet."""
    for draft in ({"put": {"name": "new", **STAYS}, "before": "near"}, {"remove": "near"}, {"rules": [NEAR]}):
        assert ruled.client.post("/api/rules/simulate", json=draft).json()["requests"] == 0
    assert _order(ruled) == ["stays", "near"]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("x", {**STAYS, "name": "y"}, 400, "not renamed"),
        ("x", {"requir": {"trust": "onw"}}, 400, "did you mean require?"),
        ("x", {"when": {"tag": "a"}, "require": {"trust": "onw"}}, 400, "did you mean own?"),
        ("x", {"forbid": {"upstream": "acem"}}, 400, "did you mean acme?"),
        ("x?before=naer", STAYS, 404, "did you mean near?"),
        ("x?before=near&after=stays", STAYS, 400, "not both"),
        ("rule-3", STAYS, 400, "take another name"),
        ("a%20b", STAYS, 400, "must begin with a letter or digit"),
    ],
)
def test_mistakes_change_nothing(ruled: Gateway, path: str, body: dict[str, Any], status: int, told: str) -> None:
    """And are told with what would be right."""
    answer = ruled.client.put(f"/api/rules/{path}", json=body)

    assert answer.status_code == status
    assert told in answer.text
    assert _order(ruled) == ["stays", "near"]
