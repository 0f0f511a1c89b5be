"""The door that strangers may knock at, over its ASGI interface."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from intertie.api.enrolment import BODY_LIMIT, REFUSAL_SECONDS
from intertie.core.wire.enrolment import read_token
from tests.contract.api.conftest import HERE, Gateway
from tests.contract.controlplane.applicants import Machine

REMOTE = "http://gateway.example"
PUBLIC = "https://ai.example.com/gateway"


def _token(gateway: Gateway, **wanted: Any) -> str:
    made = gateway.client.post("/api/nodes/tokens", json={"name": "rig", **wanted})
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


def _body(machine: Machine, token: str, origin: str = HERE) -> dict[str, Any]:
    return {"token": token, **machine.told(read_token(token).id, origin=origin)}


def _stranger(gateway: Gateway, address: str, url: str = REMOTE) -> TestClient:
    return TestClient(gateway.app, url, client=(address, 50_000))


def test_a_machine_enrols_and_is_known_at_once(gateway: Gateway) -> None:
    """The snapshot has it before the answer is out, so that it may connect in the same second."""
    token, machine = _token(gateway, labels=["gpu"]), Machine()
    answer = gateway.stranger.post("/link/enrol", json=_body(machine, token))
    told = answer.json()

    assert answer.status_code == 200
    assert set(told) == {"node", "key", "name", "state", "gateway_keys", "link"}
    assert (told["name"], told["state"], told["link"]) == ("rig", "active", f"{HERE}/link")
    assert gateway.rest.in_force.nodes["default", "rig"].labels == frozenset({"gpu"})
    assert gateway.stranger.post("/link/enrol", json=_body(machine, token)).json() == told


def test_every_bad_token_gets_the_same_bytes(gateway: Gateway) -> None:
    """But for the id of the request, and after the same time."""
    used = _token(gateway)
    gateway.stranger.post("/link/enrol", json=_body(Machine(), used))
    gone = _token(gateway)
    gateway.client.delete(f"/api/nodes/tokens/{read_token(gone).id}")
    unknown = gone[:5] + "0" * 10 + gone[15:]
    answers = []
    for number, token in enumerate((used, gone, unknown, "nonsense")):
        machine = Machine()
        body = {"token": token, **machine.told(_id(token), origin=REMOTE)}
        answers.append(_stranger(gateway, f"198.51.100.{number}").post("/link/enrol", json=body))
    bodies = {json.dumps({**one.json()["error"], "request_id": ""}, sort_keys=True) for one in answers}

    assert {one.status_code for one in answers} == {401}
    assert len(bodies) == 1
    assert answers[0].json()["error"]["code"] == "enrolment_refused"
    assert all(one.elapsed.total_seconds() >= REFUSAL_SECONDS for one in answers)
    headers = [{name: value for name, value in one.headers.items() if name != "x-request-id"} for one in answers]
    assert all(one == headers[0] for one in headers)


def _id(token: str) -> str:
    try:
        return read_token(token).id
    except ValueError:
        return ""


def test_the_eleventh_attempt_of_a_minute_waits(gateway: Gateway) -> None:
    """From one address, good or bad; others are not touched."""
    stranger = _stranger(gateway, "198.51.100.1")
    statuses = [stranger.post("/link/enrol", json={}).status_code for _ in range(10)]
    late = stranger.post("/link/device", json=Machine().told("", origin=REMOTE))

    assert set(statuses) == {400}
    assert (late.status_code, late.json()["error"]["code"]) == (429, "too_many_attempts")
    assert 1 <= int(late.headers["retry-after"]) <= 60
    other = _stranger(gateway, "198.51.100.2").post("/link/enrol", json=_body(Machine(), _token(gateway), REMOTE))
    assert other.status_code == 200


def test_refusals_are_in_the_audit_trail(gateway: Gateway) -> None:
    """With the address they came from, in sum."""
    token = _token(gateway)
    gateway.stranger.post("/link/enrol", json=_body(Machine(), token))
    stranger = _stranger(gateway, "198.51.100.3")
    for _ in range(5):
        stranger.post("/link/enrol", json=_body(Machine(), token, REMOTE))
    records = [row for row in gateway.client.get("/api/audit").json() if row["action"] == "enrolment.refused"]

    assert [(row["address"], row["detail"]["reason"], row["detail"]["count"]) for row in records] == [
        ("198.51.100.3", "spent", 1)
    ]


def test_a_machine_waits_for_a_human(gateway: Gateway) -> None:
    """202 until somebody answers; then a node, on the terms of whoever approved it."""
    machine = Machine("Anna's PC")
    grant = gateway.stranger.post("/link/device", json=machine.told("", origin=HERE)).json()
    question = _question(machine, grant["device_code"])
    first = gateway.stranger.post("/link/device/poll", json=question)
    (waiting,) = gateway.client.get("/api/nodes/devices").json()
    approved = gateway.client.post(
        f"/api/nodes/devices/{grant['user_code']}/approve", json={"labels": ["desk"], "trust": "company"}
    ).json()
    answer = gateway.stranger.post("/link/device/poll", json=question).json()

    assert (first.status_code, first.json()) == (202, {"state": "waiting"})
    assert (grant["verification_url"], grant["expires_in"], grant["interval"]) == (f"{HERE}/", 900, 2)
    assert (waiting["user_code"], waiting["name"]) == (grant["user_code"], "Anna's PC")
    assert (answer["node"], answer["name"]) == (approved["id"], "Anna-s-PC")
    assert gateway.rest.in_force.nodes["default", "Anna-s-PC"].labels == frozenset({"desk"})


def test_a_machine_that_is_denied_or_unknown_hears_so(gateway: Gateway) -> None:
    """403 and 410, so that its agent can say which."""
    machine = Machine()
    grant = gateway.stranger.post("/link/device", json=machine.told("", origin=HERE)).json()
    gateway.client.post(f"/api/nodes/devices/{grant['user_code']}/deny")
    denied = gateway.stranger.post("/link/device/poll", json=_question(machine, grant["device_code"]))
    unknown = gateway.stranger.post("/link/device/poll", json=_question(machine, "x" * 43))

    assert (denied.status_code, unknown.status_code) == (403, 410)
    assert gateway.client.post("/api/nodes/devices/XXXX-XXXX/approve").status_code == 404


def _question(machine: Machine, device_code: str) -> dict[str, str]:
    from intertie.controlplane.enrolment import packed
    from intertie.core.wire.enrolment import device_message

    signed = device_message(origin=HERE, device_code=device_code, public_key=machine.key.public)
    return {
        "device_code": device_code,
        "public_key": packed(machine.key.public),
        "origin": HERE,
        "signature": packed(machine.key.sign(signed)),
    }


def test_the_configured_address_is_the_one_that_counts(gateway: Gateway) -> None:
    """With a public URL the Host header decides nothing; the path it is published under is kept."""
    gateway.state.public_url = PUBLIC
    token = _token(gateway)
    wrong = _stranger(gateway, "198.51.100.4").post("/link/enrol", json=_body(Machine(), token, REMOTE))
    right = _stranger(gateway, "198.51.100.4").post(
        "/link/enrol", json=_body(Machine(), token, "https://ai.example.com")
    )

    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "wrong_origin")
    assert right.json()["link"] == f"{PUBLIC}/link"


def test_a_program_on_this_machine_may_use_loopback(gateway: Gateway) -> None:
    """Also with a public URL; from elsewhere, or through a proxy, that name is not ours."""
    gateway.state.public_url = PUBLIC
    body = _body(Machine(), _token(gateway))
    elsewhere = _stranger(gateway, "198.51.100.5", HERE).post("/link/enrol", json=body)
    proxied = gateway.stranger.post("/link/enrol", json=body, headers={"x-forwarded-for": "203.0.113.1"})

    assert (elsewhere.status_code, proxied.status_code) == (400, 400)
    assert gateway.stranger.post("/link/enrol", json=body).json()["link"] == f"{HERE}/link"


@pytest.mark.parametrize("path", ["/link/enrol", "/link/device", "/link/device/poll"])
def test_bodies_are_small(gateway: Gateway, path: str) -> None:
    """Whatever length they announce."""
    big = b'{"token": "' + b"x" * BODY_LIMIT + b'"}'

    def chunks() -> Any:
        yield from (big[at : at + 1000] for at in range(0, len(big), 1000))

    for content in (big, chunks()):
        assert gateway.stranger.post(path, content=content).status_code == 413


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    st.sampled_from(["/link/enrol", "/link/device", "/link/device/poll"]),
    st.binary(max_size=80)
    | st.dictionaries(
        st.sampled_from(["token", "public_key", "nonce", "origin", "signature", "name", "device_code"]),
        st.none() | st.integers() | st.text(max_size=60) | st.lists(st.integers(), max_size=2),
    ).map(lambda body: json.dumps(body).encode()),
)
def test_no_body_makes_the_door_stumble(gateway: Gateway, path: str, body: bytes) -> None:
    """A defined refusal for everything."""
    gateway.state.control.guard.enrolments._seen.clear()
    answer = gateway.stranger.post(path, content=body)

    assert answer.status_code in {400, 401, 410}, answer.text
    assert answer.json()["error"]["code"]


@pytest.mark.parametrize("body", [b"[" * 50_000, b'{"token":"\\ud800"}', b'{"x":' * 9_000, b"\xff\xfe", b"", b"null"])
def test_bodies_that_break_parsers_are_refused(gateway: Gateway, body: bytes) -> None:
    """Deep, ill-encoded, empty."""
    assert gateway.stranger.post("/link/enrol", content=body).status_code == 400


def test_answers_are_not_kept_by_anybody(gateway: Gateway) -> None:
    """The device code is a secret."""
    answer = gateway.stranger.post("/link/device", json=Machine().told("", origin=HERE))

    assert answer.headers["cache-control"] == "no-store"
