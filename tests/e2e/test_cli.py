"""The command line against a real gateway process with scripted upstreams behind it."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy, error, packed, whole
from tests.support.scripted import Named, Recorded, Reply, ScriptedUpstream
from tests.support.steps import Script

PRICE = {"input": 1, "output": 2}
LAST_WORDS = "intertie up --local-model"
"""With what a start without routes ends."""


class EmbeddingsOnly:
    """A `Reply` of a model that cannot chat."""

    def __call__(self, request: Recorded) -> Script:
        """400 to a chat, well to anything else."""
        if request.path.endswith("/chat/completions"):
            return whole(packed(error("this model does not chat", kind="invalid_request_error")), 400)
        return Healthy()(request)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two good upstreams, one that embeds only, one whose key is refused."""
    replies: Mapping[str, Script | Reply] = {
        "good": Healthy(),
        "spare": Healthy(),
        "embeds": EmbeddingsOnly(),
        "denies": whole(packed(error("wrong key", code="invalid_api_key")), 401),
    }
    with ScriptedUpstream(Named(dict(replies))).running() as server:
        upstreams = [
            upstream("good", server.base_url("good"), models=[{"name": "m", "price": PRICE}]),
            upstream("spare", server.base_url("spare")),
            upstream("embeds", server.base_url("embeds")),
        ]
        document = configuration(upstreams, [route("both", "good", "spare"), route("vectors", "embeds")])
        with running(tmp_path_factory.mktemp("cli"), document, {"DENIED": server.base_url("denies")}) as made:
            yield made


def ask(gateway: Gateway, model: str, key: str) -> tuple[int, Any]:
    """One chat completion: status and decoded body."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base_url}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


def test_a_key_works_as_soon_as_it_is_printed_and_no_longer_than_its_revocation(gateway: Gateway) -> None:
    """Created, used, restricted, revoked, refused."""
    made = gateway.cli("keys", "create", "dev", "--project", "web", "--models", "both")

    assert ask(gateway, "both", made["key"])[0] == 200
    assert ask(gateway, "vectors", made["key"])[0] == 404
    assert made["key"] not in json.dumps(gateway.cli("keys", "list"))
    gone = gateway.cli("keys", "revoke", made["id"])
    assert gone["revoked_at"] is not None
    assert ask(gateway, "both", made["key"])[0] == 401


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("keys", "revoke", "tset"), "did you mean test?"),
        (("keys", "revoke", "zzz"), "intertie keys list"),
        (("upstreams", "remove", "goood"), "did you mean good?"),
        (("upstreams", "clear", "zzz"), "intertie upstreams list"),
        (("upstreams", "pause", "good", "--model", "mm"), "did you mean m?"),
        (("upstreams", "put", "x", "--provider", "opnai"), "--provider: no such provider (did you mean openai?)"),
        (("upstreams", "put", "x", "--provider", "openai_compatible"), "--base-url: is required"),
        (("routes", "remove", "bothh"), "did you mean both?"),
        (("routes", "put", "x", "--target", "zzz/m"), "intertie upstreams put zzz"),
        (("usage", "--by", "modell"), "error: by: input should be 'route', 'model'"),
    ],
)
def test_a_slip_is_told_once_with_its_remedy(gateway: Gateway, words: tuple[str, ...], remedy: str) -> None:
    """The nearest name, or where to look; never the same line twice."""
    ran = gateway.run(*words)
    lines = [line.strip().removeprefix("- ").removeprefix("error: ") for line in ran.stderr.splitlines()]

    assert ran.returncode == 1
    assert remedy in ran.stderr
    assert len(set(lines)) == len(lines)


def test_a_project_that_a_slip_would_make_is_called_new(gateway: Gateway) -> None:
    """Keys make their project; whoever meant another one sees it at once."""
    assert "project 'slip', which is new" in gateway.run("keys", "create", "one", "--project", "slip").stdout
    assert "which is new" not in gateway.run("keys", "create", "two", "--project", "slip").stdout


def test_a_base_url_without_its_ending_is_told_so(gateway: Gateway) -> None:
    """The most usual slip of whoever changes `base_url`; and the command line forgives the opposite one."""
    assert f"ends in /v1: {gateway.url}/v1" in json.loads(gateway.get("/chat/completions"))["error"]["message"]
    assert "ends in" not in gateway.get("/chat/nothing")
    environ = {**gateway.environ, "INTERTIE_URL": gateway.base_url}
    assert Gateway(gateway.folder, gateway.configuration, environ).run("keys", "list").returncode == 0


def test_the_key_is_the_first_line_for_people(gateway: Gateway) -> None:
    """So that it can be copied without its surroundings."""
    printed = gateway.run("keys", "create", "people").stdout.splitlines()

    assert printed[0].startswith("sk-it-")
    assert len(printed[0].split()) == 1


def test_upstreams_and_routes_come_and_go(gateway: Gateway) -> None:
    """A credential is given by the name of a variable; a parked one is cleared by name."""
    denied = [
        "--provider",
        "openai_compatible",
        "--base-url",
        gateway.environ["DENIED"],
        "--credential",
        "env:UPSTREAM_KEY",
    ]
    assert gateway.cli("upstreams", "put", "denied", *denied, "--trust", "company") == {
        "name": "denied",
        "outcome": "created",
    }
    assert gateway.cli("routes", "put", "org/x:8b", "--target", "denied/m") == {
        "name": "org/x:8b",
        "outcome": "created",
    }

    assert ask(gateway, "org/x:8b", gateway.key)[0] in {502, 503}
    (row,) = [row for row in gateway.cli("upstreams", "list") if row["name"] == "denied"]
    assert [one["state"] for one in row["credentials"]] == ["parked"]
    assert row["credentials"][0]["label"] == "env UPSTREAM_KEY"
    gateway.cli("upstreams", "clear", "denied")
    (row,) = [row for row in gateway.cli("upstreams", "list") if row["name"] == "denied"]
    assert [one["state"] for one in row["credentials"]] == ["usable"]

    refused = gateway.run("upstreams", "remove", "denied")
    assert refused.returncode == 1
    assert "org/x:8b" in refused.stderr
    assert gateway.cli("routes", "remove", "org/x:8b") == {"removed": "org/x:8b"}
    assert gateway.cli("upstreams", "remove", "denied") == {"removed": "denied"}


def test_usage_and_ledger_hold_what_was_just_answered(gateway: Gateway) -> None:
    """At once: reading flushes. The fields are those that tools build on."""
    status, _ = ask(gateway, "both", gateway.key)
    rows = gateway.cli("usage", "--by", "route", "--since", "1h")
    entries = gateway.cli("ledger", "entries", "--limit", "1000")
    csv = gateway.run("usage", "--by", "key", "--csv").stdout.splitlines()

    (both,) = [row for row in rows if row["name"] == "both"]
    fields = {"requests", "input_tokens", "output_tokens", "cost_micros", "errors", "cache_hits", "estimated"}
    assert status == 200
    assert fields <= set(both)
    assert both["requests"] >= 1
    assert {"request_id", "state", "kind", "id"} <= set(entries[-1])
    assert gateway.cli("ledger", "entries", "--limit", "1", "--after", entries[0]["id"]) == [entries[1]]
    assert csv[0].startswith("name,requests,")
    assert gateway.cli("ledger", "verify")["clean"] is True


def test_pages_end_where_the_ledger_does(gateway: Gateway) -> None:
    """No further page is promised where there is none."""
    whole = gateway.run("ledger", "entries").stdout
    assert "Next page" not in whole
    assert "Next page: intertie ledger entries --after" in gateway.run("ledger", "entries", "--limit", "1").stdout


def test_a_route_is_given_a_hedge_and_shadow_targets_by_command(gateway: Gateway) -> None:
    """Listed, shown, explained; its copies are summed apart, and a person who looks at sums is told of them."""
    words = (
        "--target",
        "good/m",
        "--target",
        "spare/m,tier=1",
        "--hedge",
        "--shadow",
        "spare/m",
        "--shadow-share",
        "1",
    )
    assert gateway.cli("routes", "put", "copied", *words)["outcome"] == "created"
    row = gateway.cli("routes", "show", "copied")
    assert row["hedge"] == {"after": 1.0, "share": 0.02}
    assert row["shadow"] == {"targets": [{"model": "m", "upstream": "spare", "node": None}], "share": 1.0}
    for listed in (gateway.run("routes", "list").stdout, gateway.run("routes", "show", "copied").stdout):
        assert "100% copied to spare/m" in listed
        assert "after 1 s, 2% of attempts" in listed
    told = gateway.run("route", "explain", "--model", "copied").stdout
    assert "Hedged: after 1 s without output there is nobody at another address." in told  # both are one server here
    assert "Copied: 100% of answered calls to spare/m." in told

    assert ask(gateway, "copied", gateway.key)[0] == 200
    deadline = time.monotonic() + 10
    while not (rows := gateway.cli("usage", "--shadow")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [(one["name"], one["requests"]) for one in rows] == [("copied", 1)]
    assert "Besides, 1 copy for shadow targets cost" in gateway.run("usage").stdout
    assert "Besides" not in gateway.run("usage", "--shadow").stdout
    verified = gateway.run("ledger", "verify").stdout
    assert "1 copy for shadow targets" in verified
    gateway.cli("routes", "remove", "copied")


def test_smoke_asks_everything_shows_a_failover_and_leaves_nothing(gateway: Gateway) -> None:
    """Routes, each target alone, a failing first target, and the price that nobody knows."""
    before = [gateway.cli(noun, "list") for noun in ("routes", "upstreams", "keys")]

    report = gateway.cli("smoke")

    lines = {(line["check"], line["subject"]): line for line in report["lines"]}
    assert report["passed"] is True
    assert lines["route", "both"]["outcome"] == "ok"
    assert lines["target", "good/m"]["cost"] is not None
    assert lines["target", "good/m"]["ttft_ms"] is not None
    assert lines["target", "spare/m"]["cost"] is None
    assert lines["target", "embeds/m"]["note"] == "embeddings only: it does not chat"
    assert lines["failover", "both"]["attempts"] == 2
    assert "spare/m answered" in lines["failover", "both"]["note"]
    assert "one target only" in lines["failover", "vectors"]["note"]
    after = [gateway.cli(noun, "list") for noun in ("routes", "upstreams", "keys")]
    assert [sorted(row.get("model") or row["name"] for row in rows) for rows in before] == [
        sorted(row.get("model") or row["name"] for row in rows) for rows in after
    ]


def test_smoke_cleans_up_what_a_killed_run_left(gateway: Gateway) -> None:
    """Names of its own make the leftovers recognisable."""
    gateway.cli("routes", "put", "intertie-smoke/target-0", "--target", "good/m")
    gateway.cli("keys", "create", "intertie-smoke")

    gateway.cli("smoke")

    assert not [row for row in gateway.cli("routes", "list") if row["model"].startswith("intertie-smoke/")]
    assert not [row for row in gateway.cli("keys", "list") if row["name"] == "intertie-smoke"]


def test_a_failing_target_fails_the_checklist_and_says_which(gateway: Gateway) -> None:
    """Exit code 1, and the upstream's mistake is not blamed on anybody else."""
    gateway.cli(
        "upstreams", "put", "denied", "--provider", "openai_compatible", "--base-url", gateway.environ["DENIED"]
    )
    gateway.cli("routes", "put", "broken", "--target", "denied/m")

    ran = gateway.run("smoke", "--json")

    failed = {
        (line["check"], line["subject"]) for line in json.loads(ran.stdout)["lines"] if line["outcome"] == "failed"
    }
    gateway.cli("routes", "remove", "broken")
    gateway.cli("upstreams", "remove", "denied")
    assert ran.returncode == 1
    assert failed == {("route", "broken"), ("target", "denied/m"), ("failover", "broken")}


def test_check_and_apply_read_the_same_file(gateway: Gateway, tmp_path: Path) -> None:
    """All problems at once, then nothing to change: the second time is as good as the first."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("upstream: []\nroutes: [{model: a, targets: []}]\n")
    good = gateway.folder / "intertie.yaml"

    refused = gateway.run("check", "-f", str(bad))
    applied = gateway.cli("apply", "-f", str(good))

    assert refused.returncode == 1
    assert "did you mean upstreams?" in refused.stderr
    assert "routes[0].targets" in refused.stderr
    assert gateway.run("apply", "-f", str(bad)).returncode == 1
    assert gateway.cli("check", "-f", str(good))["problems"] == []
    assert (applied["created"], applied["updated"], applied["removed"]) == ([], [], [])


def test_a_backup_is_a_private_database_that_is_never_overwritten(gateway: Gateway, tmp_path: Path) -> None:
    """Taken while the gateway works."""
    copy = tmp_path / "copy.db"

    made = gateway.cli("backup", str(copy))

    assert made["bytes"] == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    opened = sqlite3.connect(copy)
    assert opened.execute("select count(*) from upstreams").fetchone() == (3,)
    opened.close()
    assert gateway.run("backup", str(copy)).returncode == 1


def test_migrate_refuses_while_the_gateway_runs(gateway: Gateway) -> None:
    """Two owners of one database is one too many."""
    ran = gateway.run("migrate")

    assert ran.returncode == 1
    assert "another gateway already uses" in ran.stderr


def test_without_a_gateway_every_command_says_how_to_start_one(gateway: Gateway, tmp_path: Path) -> None:
    """One line and the remedy, no traceback; JSON where JSON was asked for."""
    for words in (["keys", "list"], ["smoke"], ["usage"], ["ledger", "verify"], ["routes", "list"]):
        ran = gateway.run("--data", str(tmp_path), *words)
        assert ran.returncode == 1
        assert "intertie up" in ran.stderr
        assert "Traceback" not in ran.stderr
    told = json.loads(gateway.run("--data", str(tmp_path), "keys", "list", "--json").stderr)
    assert told["error"]["code"] == "not_running"


def test_a_wrong_admin_key_is_refused_with_a_remedy(gateway: Gateway) -> None:
    """And the key is nowhere in what is printed."""
    environ = {**gateway.environ, "INTERTIE_ADMIN_KEY": "wrong-admin-key-0123456789"}
    other = Gateway(gateway.folder, gateway.configuration, environ)

    ran = other.run("keys", "list")

    assert ran.returncode == 1
    assert "admin key" in ran.stderr
    assert "wrong-admin-key" not in ran.stderr + ran.stdout


def test_help_is_there_at_once() -> None:
    """Half a second on a busy machine; nothing of the gateway is loaded for it."""
    code = "import sys, intertie.__main__ as m\ntry:\n m.main()\nexcept SystemExit:\n pass\nprint(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=30, check=True)

    loaded = ran.stdout.splitlines()[-1]
    assert "local-model" in ran.stdout
    for heavy in ("fastapi", "sqlalchemy", "pydantic", "pyreqwest", "uvicorn", "genai_prices"):
        assert f"'{heavy}'" not in loaded, heavy


def printed(gateway: Gateway, last: str) -> str:
    """What it printed up to the last thing it has to say."""
    deadline = time.monotonic() + 20
    while last not in (shown := gateway.tail(20_000)):
        assert time.monotonic() < deadline, shown
        time.sleep(0.02)
    return shown


def test_a_taken_port_is_told_with_its_holder(gateway: Gateway, tmp_path: Path) -> None:
    """At the start, on one line, with the way out; nothing is left in the new data folder."""
    port = gateway.url.rpartition(":")[2]
    ran = gateway.run("up", "--port", port, "--data", str(tmp_path / "new"))

    assert ran.returncode == 1
    assert f"port {port} is taken by another Intertie gateway" in ran.stderr
    assert "--port 809" in ran.stderr
    assert not (tmp_path / "new").exists()
