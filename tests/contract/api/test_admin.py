"""What the admin API does, noun by noun, on a real database."""

from __future__ import annotations

import logging
import sqlite3
import stat
from pathlib import Path

import pytest

from intertie.controlplane.status import HealthView
from intertie.core.errors import UpstreamDenied
from intertie.core.keys import checksum_ok, hash_key
from intertie.core.routing.credentials import CredentialBook
from intertie.core.terms import Trust
from intertie.dataplane.observe import Tally
from tests.contract.api.conftest import NOW, Gateway, upstream


def test_a_key_is_shown_once_and_works_at_once(gateway: Gateway) -> None:
    """The answer holds it; lists never do; the data plane knows it before the answer is out."""
    made = gateway.client.post("/api/keys", json={"name": "dev", "project": "web", "models": ["a"], "trust": "own"})
    key = made.json()["key"]

    caller = gateway.rest.in_force.callers[hash_key(gateway.state.control.vault.pepper, key)]
    listed = gateway.client.get("/api/keys")
    assert made.status_code == 201
    assert checksum_ok(key)
    assert (caller.project, caller.key_name, caller.models, caller.trust) == ("web", "dev", frozenset({"a"}), Trust.OWN)
    assert key not in listed.text
    assert [(row["project"], row["name"]) for row in listed.json()] == [("web", "dev")]


def test_t49_a_revoked_key_is_gone_from_the_snapshot_before_the_answer_is_out(gateway: Gateway) -> None:
    """There is no window in which a revoked key still works."""
    gateway.client.post("/api/keys", json={"name": "dev"})
    assert gateway.rest.in_force.callers

    answer = gateway.client.delete("/api/keys/dev")

    assert answer.json()["revoked_at"] == NOW
    assert not gateway.rest.in_force.callers
    assert gateway.client.get("/api/keys").json() == []
    assert [row["name"] for row in gateway.client.get("/api/keys?revoked=true").json()] == ["dev"]


FORBIDDEN: tuple[dict[str, object], ...] = (
    {"name": "x", "organisation": "other"},
    {"name": "x", "id": "key_mine"},
    {"name": "x", "origin": "config"},
    {"name": "x", "value": "chosen-by-the-caller-0123"},
    {"name": "x", "revoked_at": None},
    {"name": "../x"},
    {"name": "x", "trust": "everyone"},
    {"name": "x", "models": "all"},
    {"name": "x", "expires_at": 1.0},
    {},
)


def test_t28_a_key_cannot_be_given_more_than_its_fields(gateway: Gateway) -> None:
    """Tenant, id, origin and value are not the caller's to write; the error names the field, never a value."""
    for body in FORBIDDEN:
        answer = gateway.client.post("/api/keys", json=body)
        assert answer.status_code == 400, body
        assert "chosen-by-the-caller" not in answer.text
    assert gateway.client.get("/api/keys").json() == []


def test_an_upstream_is_written_whole_and_never_shows_its_secret(gateway: Gateway) -> None:
    """The secret goes in and reaches the snapshot, and no answer and no file holds it (T41)."""
    put = gateway.client.put("/api/upstreams/acme", json=upstream())
    again = gateway.client.put("/api/upstreams/acme", json=upstream())
    listed = gateway.client.get("/api/upstreams")

    (row,) = listed.json()
    (held,) = gateway.rest.in_force.upstreams.values()
    folder = gateway.state.control.database.path.parent
    stored = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert [put.json()["outcome"], again.json()["outcome"]] == ["created", "unchanged"]
    assert held.credentials[0].secret.reveal() == "canary-secret-of-acme"
    assert (row["credentials"][0]["state"], row["credentials"][0]["label"]) == ("usable", "given")
    assert [(model["name"], model["price"]["input"]) for model in row["models"]] == [("m", 1), ("free", 0)]
    assert "canary-secret" not in put.text + again.text + listed.text
    assert b"canary-secret" not in stored


def test_an_upstream_with_problems_tells_all_of_them_at_once(gateway: Gateway) -> None:
    """One round is enough to mend a request, and the nearest valid name is offered."""
    body = {"provider": "openai_compatble", "bas_url": "https://x.example/v1", "trust": "mine"}

    error = gateway.client.put("/api/upstreams/acme", json=body).json()["error"]

    text = "\n".join(error["problems"])
    assert error["code"] == "invalid_configuration"
    assert "did you mean openai_compatible?" in text
    assert "did you mean base_url?" in text
    assert "trust" in text


def test_the_name_in_the_path_wins_over_no_other(gateway: Gateway) -> None:
    """A body with another name is a mistake, not a second upstream."""
    assert gateway.client.put("/api/upstreams/other", json=upstream("acme")).status_code == 400
    assert gateway.client.get("/api/upstreams").json() == []


def test_t33_an_upstream_address_must_be_plain(gateway: Gateway) -> None:
    """Credentials in addresses, other schemes and odd forms are refused where addresses enter."""
    for address in (
        "https://user:pw@x.example/v1",
        "file:///etc/passwd",
        "http://0x7f.1/v1",
        "https://x.example/v1?k=v",
    ):
        answer = gateway.client.put("/api/upstreams/acme", json=upstream(base_url=address))
        assert answer.status_code == 400, address


def test_parked_credentials_are_cleared_by_name(gateway: Gateway) -> None:
    """The data plane is told the id, whatever the operator typed."""
    gateway.client.put("/api/upstreams/acme", json=upstream())
    (held,) = gateway.rest.in_force.upstreams.values()
    book = CredentialBook()
    book.failure(held, held.credentials[0], UpstreamDenied("no"), 0.0)
    gateway.rest.health = HealthView(credentials=tuple(book.view(1.0)))

    (row,) = gateway.client.get("/api/upstreams").json()
    status = gateway.client.get("/api/status").json()
    cleared = gateway.client.post("/api/upstreams/acme/clear")

    assert (row["credentials"][0]["state"], row["credentials"][0]["code"]) == ("parked", "upstream_auth")
    assert "intertie upstreams clear acme" in status["alerts"][0]
    assert cleared.status_code == 200
    assert [held.id] == gateway.rest.cleared
    assert gateway.client.post("/api/upstreams/nobody/clear").status_code == 404


def test_routes_are_put_listed_and_removed(gateway: Gateway) -> None:
    """Model names with slashes, and the star, are as good as any."""
    gateway.client.put("/api/upstreams/acme", json=upstream())
    for model, target in (("org/model:8b", "m"), ("*", "*")):
        body = {"model": model, "targets": [{"upstream": "acme", "model": target}]}
        assert gateway.client.put("/api/routes", json=body).json() == {"name": model, "outcome": "created"}

    assert [row["model"] for row in gateway.client.get("/api/routes").json()] == ["*", "org/model:8b"]
    assert gateway.client.delete("/api/upstreams/acme").status_code == 409
    assert gateway.client.delete("/api/routes", params={"model": "org/model:8b"}).json() == {"removed": "org/model:8b"}
    assert gateway.client.delete("/api/routes", params={"model": "org/model:8b"}).status_code == 404
    assert [model for _, model in gateway.rest.in_force.routes] == ["*"]


def test_an_upstream_is_paused_and_resumed_whole_or_by_model(gateway: Gateway) -> None:
    """The data plane hears of it at once; a name that is not there and fields that are none are refused."""
    gateway.client.put("/api/upstreams/acme", json=upstream())
    post = gateway.client.post

    def paused() -> list[str]:
        (row,) = gateway.client.get("/api/upstreams").json()
        (held,) = gateway.rest.in_force.upstreams.values()
        assert held.paused == frozenset(row["paused"])
        return list(row["paused"])

    assert post("/api/upstreams/acme/pause").json() == {"name": "acme", "outcome": "paused"}
    assert paused() == ["*"]
    assert post("/api/upstreams/acme/resume", json={"model": "m"}).status_code == 409
    assert post("/api/upstreams/acme/resume", json={}).json() == {"name": "acme", "outcome": "resumed"}
    assert post("/api/upstreams/acme/pause", json={"model": "m"}).status_code == 200
    assert paused() == ["m"]
    assert post("/api/upstreams/acme/pause", json={"model": "mm"}).status_code == 404
    assert post("/api/upstreams/nobody/pause").status_code == 404
    assert post("/api/upstreams/acme/pause", json={"modell": "m"}).status_code == 400


def test_a_route_to_nowhere_names_the_nearest_upstream(gateway: Gateway) -> None:
    """A typing mistake is answered with what was probably meant."""
    gateway.client.put("/api/upstreams/acme", json=upstream())

    answer = gateway.client.put("/api/routes", json={"model": "x", "targets": [{"upstream": "acne", "model": "m"}]})

    assert answer.status_code == 404
    assert "did you mean acme?" in answer.json()["error"]["message"]


def test_applying_twice_changes_nothing_the_second_time(gateway: Gateway) -> None:
    """A generated key is shown by the first answer and by no other."""
    document = {
        "upstreams": [upstream()],
        "routes": [{"model": "a", "targets": [{"upstream": "acme", "model": "m"}]}],
        "projects": [{"name": "web", "keys": [{"name": "dev"}]}],
    }

    first = gateway.client.post("/api/apply", json=document).json()
    second = gateway.client.post("/api/apply", json=document).json()

    assert first["created"] == ["upstream acme", "route a", "project web", "key web/dev"]
    assert [(key["project"], key["name"]) for key in first["keys"]] == [("web", "dev")]
    assert hash_key(gateway.state.control.vault.pepper, first["keys"][0]["key"]) in gateway.rest.in_force.callers
    assert (second["created"], second["updated"], second["removed"], second["keys"]) == ([], [], [], [])


def test_checking_changes_nothing(gateway: Gateway) -> None:
    """Problems are a 400 with all of them; a valid document answers with warnings."""
    bad = gateway.client.post("/api/check", json={"upstream": [], "routes": [{"model": "a", "targets": []}]})
    good = gateway.client.post("/api/check", json={"upstreams": [upstream()]})

    assert bad.status_code == 400
    assert len(bad.json()["error"]["problems"]) == 2
    assert any("no route sends to acme" in line for line in good.json()["warnings"])
    assert gateway.client.get("/api/upstreams").json() == []


def test_the_books_are_flushed_before_they_are_read(gateway: Gateway) -> None:
    """What a client saw finished is in the answer."""
    assert gateway.client.get("/api/usage?by=project").json() == []
    assert gateway.client.get("/api/ledger/entries").json() == []
    verified = gateway.client.get("/api/ledger/verify").json()

    assert verified == {"clean": True, "requests": 0, "attempts": 0, "problems": [], "shadows": 0}
    assert gateway.rest.flushes == 3


def test_bad_queries_are_the_callers_mistake(gateway: Gateway) -> None:
    """A 400 that names the parameter, in the shape of every other error."""
    for query in ("usage?by=colour", "usage?since=yesterday", "ledger/entries?limit=0", "usage?since=nan"):
        answer = gateway.client.get(f"/api/{query}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), query
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_a_backup_opens_and_leaves_nothing_behind(gateway: Gateway, tmp_path: Path) -> None:
    """The copy is a sound database without readable secrets; the temporary one is gone."""
    gateway.client.put("/api/upstreams/acme", json=upstream())

    answer = gateway.client.get("/api/backup")

    copy = tmp_path / "copy.db"
    copy.write_bytes(answer.content)
    with sqlite3.connect(copy) as opened:
        assert opened.execute("select name from upstreams").fetchall() == [("acme",)]
    opened.close()
    assert b"canary-secret" not in answer.content
    assert not list(gateway.state.control.database.path.parent.glob(".backup-*"))
    assert stat.S_IMODE(gateway.state.control.database.path.stat().st_mode) == 0o600


def test_readiness_says_why_not(gateway: Gateway) -> None:
    """Alive and ready are different questions."""
    assert gateway.remote.get("/readyz").json() == {"ready": True, "reasons": []}
    gateway.rest.reasons = ["draining"]

    answer = gateway.remote.get("/readyz")

    assert (answer.status_code, answer.json()) == (503, {"ready": False, "reasons": ["draining"]})
    assert gateway.remote.get("/livez").status_code == 200


def test_metrics_are_bounded_families_with_help(gateway: Gateway) -> None:
    """Counters come from the data plane, each family once, histograms add up."""
    counters = gateway.state.counters
    tally = counters.tallies['a"\n', "chat"] = Tally()
    tally.ok = 3
    counters.attempts["acme", "upstream_busy"] += 1
    counters.shed = 2

    text = gateway.client.get("/metrics").text

    assert 'intertie_requests_total{operation="chat",outcome="ok",route="a\\"\\n"} 3.0' in text
    assert 'intertie_attempts_total{outcome="upstream_busy",upstream="acme"} 1.0' in text
    assert "intertie_requests_shed_total 2.0" in text
    assert "intertie_ready 1.0" in text
    assert "process_resident_memory_bytes" in text
    helps = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
    assert len(helps) == len(set(helps))


def test_t80_every_answer_forbids_storing_framing_and_sniffing(gateway: Gateway) -> None:
    """Errors and pages too; only pages may load anything, and only our own stylesheet."""
    for path in ("/api/keys", "/api/nothing", "/livez", "/metrics", "/", "/api/docs", "/api/openapi.json", "/missing"):
        headers = gateway.client.get(path).headers
        assert headers["cache-control"] == "no-store", path
        assert headers["x-content-type-options"] == "nosniff", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
        assert "script-src" not in headers["content-security-policy"], path


def test_a_bug_is_a_plain_500_whose_id_is_in_the_log(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns an id, the log the rest, and the process goes on."""
    from intertie.controlplane import keys

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(keys, "list_", broken)
    with caplog.at_level(logging.ERROR):
        answer = gateway.client.get("/api/keys")

    assert answer.status_code == 500
    assert "secret inside" not in answer.text
    assert answer.json()["error"]["request_id"] in caplog.text


def test_the_documentation_needs_nothing_from_elsewhere_and_knows_every_operation(gateway: Gateway) -> None:
    """One page without scripts, and a document whose operations say what they need and answer."""
    document = gateway.stranger.get("/api/openapi.json").json()
    page = gateway.stranger.get("/api/docs").text

    assert "<script" not in page
    assert "//" not in page.replace("<!doctype", "").replace("</", "").replace("//static", "")
    assert "/api/upstreams/{name}/clear" in page
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["x-permission"], f"{method} {path}"
    schema = document["paths"]["/api/keys"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["items"]["$ref"] == "#/components/schemas/KeyAnswer"
    assert "UpstreamAnswer" in document["components"]["schemas"]


def test_the_documented_references_all_exist(gateway: Gateway) -> None:
    """No `$ref` of the document leads nowhere."""
    document = gateway.stranger.get("/api/openapi.json").json()
    text = gateway.stranger.get("/api/openapi.json").text

    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names
    assert names <= set(document["components"]["schemas"])
