"""Who may ask what: the matrix is made from the routes that the application really has (T26, T29)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from intertie.api.admin import make_admin
from intertie.api.permissions import Permission, declared, insist
from tests.contract.api.conftest import ADMIN_KEY, Gateway

INSTALLERS = {"/install.sh", "/install.ps1", "/install/compose.yml", "/install/Dockerfile"}
FILES = {"/install/manifest.json", "/install/manifest.sig", "/install/files/x"}
QUESTIONS = {"/api/routes/explain"}
"""Too large for a URL, and they change nothing."""
ENROLMENT = {"/link/enrol", "/link/device", "/link/device/poll"}
PUBLIC = {"/livez", "/readyz", "/api/openapi.json", "/api/docs"} | INSTALLERS | FILES | ENROLMENT
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


def operations(app: FastAPI) -> Iterator[tuple[str, str, Permission]]:
    """(method, path with its parameters filled, permission) of every route."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            permission = declared(route)
            assert permission is not None
            for method in sorted(route.methods or ()):
                path = route.path.replace("{rest:path}", "anything/else")
                yield method, re.sub(r"\{\w+\}", "x", path), permission


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong-key-0123456789"}], ids=["no key", "wrong key"])
def test_t29_every_route_but_the_public_ones_refuses_without_the_admin_key(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    """From another machine, nothing answers but probes and documentation, and nothing changes."""
    before = gateway.rest.in_force
    for method, path, _ in operations(gateway.app):
        answer = gateway.remote.request(method, path, headers=headers, json={})
        expected = _open(path) if path in PUBLIC else {401}
        assert answer.status_code in expected, f"{method} {path}: {answer.status_code}"
        if path not in PUBLIC and method != "HEAD":
            assert answer.json()["error"]["code"] in {"missing_admin_key", "invalid_admin_key"}
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert gateway.rest.in_force is before


def _open(path: str) -> set[int]:
    """From elsewhere, without a configured address, there is no installer, or one that only says why not; no file is
    called x; `{}` enrols nobody."""
    return {200, 409} if path in INSTALLERS else {400} if path in ENROLMENT else {200, 404}


def test_t29_the_public_routes_are_the_ones_listed_here(gateway: Gateway) -> None:
    """A route becomes public by a change to this list, not by accident."""
    assert {path for _, path, permission in operations(gateway.app) if permission is Permission.PUBLIC} == PUBLIC


def test_t29_everything_that_changes_something_needs_a_write_permission(gateway: Gateway) -> None:
    """A role that may only read will not find a way to write."""
    harmless = {Permission.CONFIGURATION_CHECK, Permission.CONFIGURATION_APPLY, Permission.STATUS_READ}
    for method, path, permission in operations(gateway.app):
        if method in WRITES and not path.endswith("anything/else") and path not in ENROLMENT | QUESTIONS:
            assert permission.endswith(":write") or permission in harmless, f"{method} {path} needs {permission}"


def test_t29_a_route_without_a_permission_stops_the_start(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forgets the declaration learns it before anybody can call the route."""
    from intertie.api import projects

    careless = APIRouter()

    @careless.get("/api/everything")
    def everything() -> str:
        return "all of it"

    monkeypatch.setattr(projects, "router", careless)
    with pytest.raises(RuntimeError, match="/api/everything"):
        make_admin(gateway.state)


def test_t29_a_mounted_application_must_not_hide_routes() -> None:
    """The check looks at routes; an application inside the application would escape it."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/api/inner", FastAPI())

    with pytest.raises(RuntimeError, match="/api/inner"):
        insist(app.routes)


def test_t26_two_credentials_are_refused(gateway: Gateway) -> None:
    """Nobody gets to choose which of two keys is looked at."""
    both = {"authorization": f"Bearer {ADMIN_KEY}", "x-api-key": "another-0123456789"}
    twice = [("authorization", f"Bearer {ADMIN_KEY}"), ("authorization", "Bearer other")]

    for headers in (both, twice):
        answer = gateway.stranger.get("/api/keys", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "conflicting_credentials")


def test_only_a_bearer_token_opens_the_api(gateway: Gateway) -> None:
    """The scheme's case does not matter, the scheme does."""
    for scheme, status in (("Basic", 401), ("Token", 401), ("", 401), ("bearer", 200)):
        answer = gateway.stranger.get("/api/keys", headers={"authorization": f"{scheme} {ADMIN_KEY}".strip()})
        assert status == answer.status_code, scheme


def test_an_api_key_does_not_open_the_admin_api(gateway: Gateway) -> None:
    """What clients hold is not what operators hold."""
    key = gateway.client.post("/api/keys", json={"name": "dev"}).json()["key"]

    assert gateway.stranger.get("/api/keys", headers={"authorization": f"Bearer {key}"}).status_code == 401


def test_metrics_are_free_on_this_machine_only(gateway: Gateway) -> None:
    """Prometheus beside the gateway needs no key; from elsewhere, through a proxy or a rebound name it does."""
    assert gateway.stranger.get("/metrics").status_code == 200
    assert gateway.remote.get("/metrics").status_code == 401
    assert gateway.stranger.get("/metrics", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 401
    assert gateway.stranger.get("/metrics", headers={"host": "rebound.example"}).status_code == 401
    gateway.state.open_locally = False
    assert gateway.stranger.get("/metrics").status_code == 401


def test_an_unknown_path_below_api_is_404_for_the_admin_only(gateway: Gateway) -> None:
    """A stranger cannot tell existing paths from others."""
    assert gateway.client.get("/api/nothing/here").status_code == 404
    assert gateway.stranger.get("/api/nothing/here").status_code == 401
