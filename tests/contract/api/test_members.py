"""Members over the admin API: added, changed, removed with their keys; mistakes told all at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.api.conftest import NOW, Gateway

ANNA = "anna+x@example.com"
PATH = "/api/members/anna%2Bx%40example.com"


@pytest.fixture
def staffed(gateway: Gateway) -> Gateway:
    """One member, with one key."""
    made = gateway.client.post("/api/members", json={"email": ANNA, "name": "Anna"})
    assert made.status_code == 201
    assert gateway.client.post("/api/keys", json={"name": "dev", "member": ANNA}).status_code == 201
    return gateway


def _member(**more: Any) -> dict[str, Any]:
    rest = {"email": ANNA, "name": "Anna", "role": "member", "origin": "api", "created_at": NOW}
    return {**rest, "keys": ["default/dev"], **more}


def test_a_member_is_listed_with_their_keys(staffed: Gateway) -> None:
    """One, or all."""
    assert staffed.client.get("/api/members").json() == [_member()]
    assert staffed.client.get(PATH).json() == _member()
    assert staffed.client.get("/api/keys").json()[0]["member"] == ANNA


def test_a_change_is_answered_with_what_became_of_it(staffed: Gateway) -> None:
    """What is left out stays."""
    assert staffed.client.patch(PATH, json={"role": "auditor"}).json() == _member(role="auditor")


def test_a_key_changes_hands_before_the_answer_is_out(staffed: Gateway) -> None:
    """To nobody, and back."""
    assert staffed.client.patch("/api/keys/dev", json={"member": None}).json()["member"] is None
    assert [caller.member for caller in staffed.rest.in_force.callers.values()] == [""]
    assert staffed.client.patch("/api/keys/dev", json={"member": ANNA.upper()}).json()["member"] == ANNA
    assert [caller.member for caller in staffed.rest.in_force.callers.values()] == [ANNA]
    assert staffed.client.patch("/api/keys/dev", json={}).status_code == 400


def test_removing_is_refused_while_there_are_keys_or_takes_them_along(staffed: Gateway) -> None:
    """In force before the answer is out."""
    refused = staffed.client.delete(PATH)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "default/dev" in refused.json()["error"]["message"]
    assert len(staffed.rest.in_force.callers) == 1

    gone = staffed.client.delete(f"{PATH}?revoke_keys=true")
    assert gone.json() == {"removed": ANNA, "revoked": ["default/dev"]}
    assert not staffed.rest.in_force.callers
    assert staffed.client.get(PATH).status_code == 404


def test_one_limit_over_all_that_is_theirs(staffed: Gateway) -> None:
    """Set at /api/limits, as for every noun."""
    limit = {"level": "member", "holder": ANNA, "measure": "money", "amount": 20, "per": "month"}
    assert staffed.client.put("/api/limits", json=limit).json()["name"] == f"member:{ANNA}:money:month"
    (held,) = staffed.rest.in_force.limits["default", "member", ANNA]
    assert held.amount == 20_000_000


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"email": "anna", "role": "ownre"}, ["e-mail address", "did you mean owner?"]),
        ({"email": ANNA, "limits": {"rpm": 5}}, ["PUT /api/limits"]),
        ({"email": ANNA, "organisation": "other"}, ["unknown key"]),
        ({}, ["is required"]),
    ],
)
def test_mistakes_add_nobody(gateway: Gateway, body: dict[str, Any], told: list[str]) -> None:
    """And are told all at once."""
    answer = gateway.client.post("/api/members", json=body)

    assert answer.status_code == 400
    assert all(words in answer.text for words in told)
    assert gateway.client.get("/api/members").json() == []
