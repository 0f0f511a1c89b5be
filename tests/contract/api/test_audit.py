"""Every change through the admin API is in the audit trail, or did not happen; and nothing in it is secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from fastapi.routing import APIRoute

from intertie import auditor
from intertie.api.permissions import declared
from tests.contract.api.conftest import NOW, Gateway, upstream

SECRETS = {
    "credential": "canary-credential-5f2a91",
    "second credential": "canary-second-77c0de",
    "header": "canary-header-c3b1e9",
    "key": "canary-key-value-0123456789-abcdef",
    "webhook's path": "canary-path-9d8c7b6a",
    "webhook's secret": "canary-webhook-secret-4f3e2d1c0b9a8877",
    "changed credential": "canary-changed-e1f200",
    "changed key": "canary-key-changed-0123456789-abcd",
}
UNRECORDED = {
    ("POST", "/api/routes/explain"): "answers a question",
    ("POST", "/api/rules/simulate"): "replays records and changes nothing",
    ("POST", "/api/check"): "looks at a document and changes nothing",
    ("POST", "/api/nodes/{name}/rotate"): "asks a node; the node's own new key is recorded when it comes",
}
"""Writes that leave no record of an administrator's change, and why."""


class Change(NamedTuple):
    """A request that changes something, and what the trail must say of it."""

    method: str
    path: str
    body: Any
    actions: tuple[str, ...]
    template: str


def whole(secret: str = "credential", key: str = "key") -> dict[str, Any]:
    """A document with a secret wherever one may be."""
    headers = {"x-auth": {"value": SECRETS["header"]}}
    credentials = [{"value": SECRETS[secret]}, {"value": SECRETS["second credential"]}]
    return {
        "upstreams": [{**upstream("doc"), "credentials": credentials, "headers": headers}],
        "routes": [{"model": "doc-route", "targets": [{"upstream": "doc", "model": "m"}]}],
        "alerts": {
            "webhook": "https://hooks.example.com/" + SECRETS["webhook's path"],
            "secret": {"value": SECRETS["webhook's secret"]},
        },
        "projects": [{"name": "doc-project", "keys": [{"name": "k", "value": {"value": SECRETS[key]}}, {"name": "g"}]}],
    }


LIMIT = {"level": "organisation", "measure": "requests", "amount": 5}
ROUTE = {"model": "r", "targets": [{"upstream": "acme", "model": "m"}]}
RULE = {"when": {"tag": "private"}, "require": {"trust": "own"}}
CHANGES = (
    Change("POST", "/api/keys", {"name": "dev", "project": "web"}, ("project.create", "key.create"), "/api/keys"),
    Change("DELETE", "/api/keys/dev", None, ("key.revoke",), "/api/keys/{key}"),
    Change("POST", "/api/members", {"email": "anna@example.com"}, ("member.create",), "/api/members"),
    Change("PATCH", "/api/members/anna@example.com", {"role": "admin"}, ("member.update",), "/api/members/{email}"),
    Change("POST", "/api/keys", {"name": "hers", "project": "web"}, ("key.create",), "/api/keys"),
    Change("PATCH", "/api/keys/hers", {"member": "anna@example.com"}, ("key.update",), "/api/keys/{key}"),
    Change(
        "DELETE", "/api/members/anna@example.com?revoke_keys=true", None, ("key.revoke", "member.remove"),
        "/api/members/{email}",
    ),
    Change("PUT", "/api/projects/app", {}, ("project.create",), "/api/projects/{name}"),
    Change(
        "PUT", "/api/upstreams/acme", upstream(secret=SECRETS["credential"]), ("upstream.create",),
        "/api/upstreams/{name}",
    ),
    Change(
        "PUT", "/api/upstreams/acme", upstream(secret=SECRETS["changed credential"]), ("upstream.update",),
        "/api/upstreams/{name}",
    ),
    Change("POST", "/api/upstreams/acme/clear", None, ("upstream.clear",), "/api/upstreams/{name}/clear"),
    Change("POST", "/api/upstreams/acme/pause", None, ("upstream.pause",), "/api/upstreams/{name}/pause"),
    Change("POST", "/api/upstreams/acme/resume", None, ("upstream.resume",), "/api/upstreams/{name}/resume"),
    Change("PUT", "/api/routes", ROUTE, ("route.create",), "/api/routes"),
    Change("PUT", "/api/routes", {**ROUTE, "deadline": 9}, ("route.update",), "/api/routes"),
    Change("DELETE", "/api/routes?model=r", None, ("route.remove",), "/api/routes"),
    Change("PUT", "/api/rules/a", RULE, ("rule.create",), "/api/rules/{name}"),
    Change("PUT", "/api/rules/b?before=a", RULE, ("rule.create",), "/api/rules/{name}"),
    Change("POST", "/api/rules/b/move", {"after": "a"}, ("rule.move",), "/api/rules/{name}/move"),
    Change("DELETE", "/api/rules/a", None, ("rule.remove",), "/api/rules/{name}"),
    Change("DELETE", "/api/upstreams/acme", None, ("upstream.remove",), "/api/upstreams/{name}"),
    Change(
        "POST", "/api/apply", whole(),
        (
            "upstream.create", "route.create", "project.create", "key.create", "key.create", "alerts.create",
            "configuration.apply",
        ),
        "/api/apply",
    ),
    Change(
        "POST", "/api/apply", whole("changed credential", "changed key"),
        ("upstream.update", "key.update", "configuration.apply"),
        "/api/apply",
    ),
    Change("POST", "/api/apply", whole("changed credential", "changed key"), ("configuration.apply",), "/api/apply"),
    Change(
        "POST", "/api/apply", {},
        (
            "key.revoke", "key.revoke", "route.remove", "upstream.remove", "project.remove", "alerts.remove",
            "configuration.apply",
        ),
        "/api/apply",
    ),
    Change("PUT", "/api/limits", LIMIT, ("limit.create",), "/api/limits"),
    Change("PUT", "/api/limits", {**LIMIT, "amount": 7}, ("limit.update",), "/api/limits"),
    Change("DELETE", "/api/limits?id=organisation:default:requests:rate", None, ("limit.remove",), "/api/limits"),
    Change("GET", "/api/backup", None, ("backup.take",), "/api/backup"),
    Change("DELETE", "/api/cache?route=r", None, ("cache.clear",), "/api/cache"),
    Change("POST", "/api/nodes/tokens", {"name": "rig"}, ("token.create",), "/api/nodes/tokens"),
)  # fmt: skip


def records(gateway: Gateway, query: str = "limit=1000") -> list[dict[str, Any]]:
    """The trail, the oldest first."""
    return list(reversed(gateway.client.get(f"/api/audit?{query}").json()))


def send(gateway: Gateway, change: Change) -> int:
    """The status of its answer."""
    return gateway.client.request(change.method, change.path, json=change.body).status_code


def test_every_change_is_recorded_with_actor_and_address(gateway: Gateway) -> None:
    """One record for each thing that became different, in order."""
    for change in CHANGES:
        before = len(records(gateway))
        assert send(gateway, change) in {200, 201}, change
        made = records(gateway)[before:]
        assert tuple(record["action"] for record in made) == change.actions, change.path
        assert {(record["actor"], record["address"]) for record in made} == {("admin", "127.0.0.1")}


def _writes(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for route in gateway.app.routes:
        if isinstance(route, APIRoute) and str(declared(route)).endswith((":write", ":apply", ":check")):
            for method in sorted(route.methods or ()):
                yield method, route.path


def test_no_write_of_the_api_is_forgotten_here(gateway: Gateway) -> None:
    """Whoever adds a write adds it above; nodes and tokens have tests of their own."""
    known = {(change.method, change.template) for change in CHANGES} | set(UNRECORDED)
    missing = [(method, path) for method, path in _writes(gateway) if (method, path) not in known]

    assert [path for path in missing if not path[1].startswith("/api/nodes")] == []


def test_t85_no_change_happens_that_cannot_be_recorded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each door fails closed, and nothing is different afterwards."""
    tables = (
        "/api/keys?revoked=true",
        "/api/members",
        "/api/projects",
        "/api/upstreams",
        "/api/routes",
        "/api/nodes/tokens",
    )

    def full(*_: object) -> None:
        raise OSError("no space")

    for change in CHANGES:
        with monkeypatch.context() as broken:
            broken.setattr("intertie.store.audit.append", full)
            before = [gateway.client.get(table).json() for table in tables]
            cleared = list(gateway.rest.cleared)
            assert send(gateway, change) == 500, change.path
            assert [gateway.client.get(table).json() for table in tables] == before
            assert gateway.rest.cleared == cleared
        assert send(gateway, change) in {200, 201}


def test_no_record_holds_a_secret(gateway: Gateway) -> None:
    """Canaries in every field that takes a secret, made, changed and removed; none is in the trail or its export."""
    generated = []
    for change in CHANGES:
        answer = gateway.client.request(change.method, change.path, json=change.body)
        if change.path in {"/api/keys", "/api/apply"}:
            body = answer.json()
            generated += [body["key"]] if "key" in body else [one["key"] for one in body["keys"]]
    text = gateway.client.get("/api/audit/export").text + json.dumps(records(gateway))

    assert len(generated) == 3
    assert "acme" in text
    for secret in (*SECRETS.values(), *generated):
        assert secret not in text
        assert secret[8:-2] not in text


def test_an_update_tells_what_was_and_what_is(gateway: Gateway) -> None:
    """And only that; of a credential or key only that it is another."""
    gateway.client.put("/api/upstreams/acme", json=upstream(secret="a"))
    gateway.client.put("/api/routes", json=ROUTE)
    gateway.client.put("/api/routes", json={**ROUTE, "deadline": 9})
    gateway.client.put("/api/upstreams/acme", json={**upstream(secret="a"), "models": [{"name": "m", "price": "free"}]})
    gateway.client.put("/api/upstreams/acme", json={**upstream(secret="b"), "models": [{"name": "m", "price": "free"}]})
    route, price, credential = (record["detail"] for record in records(gateway, "action=*.update"))

    assert route == {"before": {"deadline": 600.0}, "after": {"deadline": 9.0}}
    assert price["before"] == {"models": {"m": {}, "free": {"input": 0, "output": 0}}}
    assert price["after"] == {"models": {"m": {"input": 0, "output": 0}}}
    assert set(credential["before"]) == {"credentials"}
    assert credential["before"] != credential["after"]
    gateway.client.post("/api/apply", json=whole())
    gateway.client.post("/api/apply", json=whole(key="changed key"))
    (key,) = (record["detail"] for record in records(gateway, "action=key.update"))
    assert (key["before"]["key"], key["after"]["key"]) == ("another", "new")


def test_an_applied_document_is_recorded_by_digest_and_counts(gateway: Gateway) -> None:
    """The digest is that of the document without its secrets: the same file, the same digest."""
    for document in (whole(), whole("changed credential"), {}):
        gateway.client.post("/api/apply", json=document)
    first, second, last = (record["detail"] for record in records(gateway, "action=configuration.apply"))

    assert {name: first[name] for name in ("created", "updated", "unchanged", "removed")} == {
        "created": 6,
        "updated": 0,
        "unchanged": 0,
        "removed": 0,
    }
    assert (second["updated"], last["removed"]) == (1, 6)
    assert first["sha256"] == second["sha256"] != last["sha256"]


def test_wrong_admin_keys_are_counted_and_not_written_one_by_one(gateway: Gateway) -> None:
    """A guesser leaves a trail and cannot fill the disk."""
    for number in range(300):
        gateway.remote.get("/api/keys", headers={"authorization": f"Bearer canary-guess-{number:020}"})
    (record,) = records(gateway, "action=admin.refused")

    assert (record["actor"], record["address"], record["detail"]["reason"]) == ("gateway", "203.0.113.9", "wrong key")
    assert record["detail"]["count"] == 300
    assert "canary-guess" not in json.dumps(record)


def test_the_trail_is_filtered(gateway: Gateway) -> None:
    """By action, actor, subject and time; a star stands for anything, and only a star does."""
    gateway.client.put("/api/projects/web_1", json={})
    gateway.client.put("/api/projects/webx1", json={})
    gateway.client.post("/api/nodes/tokens", json={"name": "rig"})

    def subjects(query: str) -> list[str]:
        return [record["subject"] for record in records(gateway, query)]

    assert subjects("action=project.*") == ["web_1", "webx1"]
    assert subjects("action=project.create&subject=web_1") == ["web_1"]
    assert subjects("subject=web_*") == ["web_1"]
    assert subjects("action=project.%25") == []
    assert len(subjects("actor=admin")) == 3
    assert subjects("actor=file%20*") == []
    assert subjects(f"since={NOW + 1}") == []
    assert len(subjects(f"since={NOW}")) == 3
    assert gateway.client.get("/api/audit?since=nan").status_code == 400


def test_an_export_verifies_elsewhere_and_the_gateway_verifies_itself(gateway: Gateway) -> None:
    """By the same independent code."""
    for number in range(30):
        gateway.client.put(f"/api/projects/p{number}", json={})
    answer = gateway.client.get("/api/audit/export")
    head = gateway.client.get("/api/audit/head").json()
    verdict = auditor.verify(
        answer.content.splitlines(keepends=True), public_key=gateway.state.control.vault.signer.public
    )
    own = gateway.client.get("/api/audit/verify").json()

    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert (verdict.problems, verdict.records) == ((), 30)
    assert (own["clean"], own["records"], own["problems"], own["key_is_known"]) == (True, 30, [], True)
    assert (head["seq"], head["hash"]) == (verdict.last, verdict.head)
    assert head["public_key"] == verdict.public_key
    assert gateway.client.get("/api/audit/head?seq=7").json()["seq"] == 7
    assert gateway.client.get("/api/audit/head?seq=99").status_code == 404
