"""Limits over the admin API: set, listed with what is taken, removed; mistakes told all at once."""

from __future__ import annotations

import pytest

from intertie.core.policy.limits import Limit
from intertie.dataplane.admitted import Standing
from tests.contract.api.conftest import Gateway

BUDGET = {"level": "project", "holder": "web", "measure": "money", "amount": 49.9, "per": "month"}
RATE = {"level": "organisation", "measure": "requests", "amount": 600}


@pytest.fixture
def limited(gateway: Gateway) -> Gateway:
    """A project with a budget."""
    gateway.client.put("/api/projects/web")
    assert gateway.client.put("/api/limits", json=BUDGET).json() == {
        "name": "project:web:money:month",
        "outcome": "created",
    }
    return gateway


def test_a_limit_is_in_force_before_the_answer_is_out(limited: Gateway) -> None:
    """And setting it again changes nothing."""
    (held,) = limited.rest.in_force.limits["default", "project", "web"]
    assert held.amount == 49_900_000
    assert limited.client.put("/api/limits", json=BUDGET).json()["outcome"] == "unchanged"
    assert limited.client.put("/api/limits", json={**BUDGET, "amount": 50}).json()["outcome"] == "updated"


def test_the_list_says_how_much_is_taken(limited: Gateway) -> None:
    """As the data plane knows it; null where a rate or a total never resets."""
    limited.client.put("/api/limits", json=RATE)

    def standing(limit: Limit) -> Standing:
        return Standing(7, 2, 91, float("inf") if limit.is_account else 1.25)

    limited.state.standing = standing
    rate, budget = limited.client.get("/api/limits").json()
    assert (rate["id"], rate["per"], rate["resets_in"]) == ("organisation:default:requests:rate", None, 1.25)
    assert (budget["spent"], budget["reserved"], budget["remaining"], budget["resets_in"]) == (7, 2, 91, None)
    assert (budget["name"], budget["at_cap"], budget["alert"]) == ("web", "refuse", [50, 80, 100])


def test_a_removed_limit_is_gone_at_once(limited: Gateway) -> None:
    """Removing what is not there is a 404 that says how to look."""
    url = "/api/limits?id=project:web:money:month"
    assert limited.client.delete(url).status_code == 200
    assert limited.rest.in_force.limits == {}
    again = limited.client.delete(url)
    assert again.status_code == 404
    assert "intertie limits list" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({**BUDGET, "holder": "wep"}, 404, "did you mean web?"),
        ({**BUDGET, "zone": "Mars/Olympus", "per": "sol"}, 400, "zone"),
        ({**BUDGET, "surprise": 1}, 400, "unknown key"),
    ],
)
def test_mistakes_change_nothing(limited: Gateway, body: dict[str, object], status: int, told: str) -> None:
    """And are told with what would be right."""
    answer = limited.client.put("/api/limits", json=body)

    assert answer.status_code == status
    assert told in answer.text
    assert len(limited.rest.in_force.limits) == 1


def test_limits_are_not_taken_where_they_would_be_forgotten(limited: Gateway) -> None:
    """A route's body with limits is refused, with the place where they are set."""
    route = {"model": "m", "targets": [{"node_label": "gpu"}], "limits": {"rpm": 5}}
    answer = limited.client.put("/api/routes", json=route)

    assert answer.status_code == 400
    assert "PUT /api/limits" in answer.text
