"""Members against a real gateway: one budget over keys of two projects, also over a crash, and a clean goodbye."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway, configuration, route, running, upstream
from tests.support.replies import USAGE, Healthy
from tests.support.scripted import ScriptedUpstream

ANNA = "anna@example.com"
COST = 1000 * (USAGE["prompt_tokens"] + USAGE["completion_tokens"])
"""Micro-units of one call, at 1,000 currency units per million tokens."""
KEYS = {"WEB_KEY": "members-web-key-0123456789", "APP_KEY": "members-app-key-0123456789"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Anna has a key in each of two projects, and a tenth of a currency unit."""
    with ScriptedUpstream(Healthy()).running() as server:
        models = [{"name": "m", "price": {"input": 1000, "output": 1000}}]
        document = configuration([upstream("acme", server.base_url("acme"), models=models)], [route("chat", "acme")])
        document["members"] = [{"email": ANNA, "name": "Anna", "budgets": [{"amount": 0.2, "per": "total"}]}]
        document["projects"] += [
            {"name": name, "keys": [{"name": "dev", "value": {"env": f"{name.upper()}_KEY"}, "member": ANNA}]}
            for name in ("web", "app")
        ]
        with running(tmp_path_factory.mktemp("members"), document, KEYS) as made:
            yield made


def ask(gateway: Gateway, key: str) -> tuple[int, Any]:
    """One small call: status and decoded body."""
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 6}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base_url}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


def _spent(gateway: Gateway) -> int:
    (row,) = (row for row in gateway.cli("limits", "list") if row["name"] == ANNA)
    return int(row["spent"])


def test_a_budget_of_a_member_holds_over_keys_projects_and_a_crash(gateway: Gateway) -> None:
    """Until there is room for none; what it says is what the books say, before and after `kill -9`."""
    keys = list(KEYS.values())
    good = 0
    while ask(gateway, keys[good % 2])[0] == 200:
        good += 1
        if good == 3:
            gateway.kill()
            gateway.start()
            assert _spent(gateway) == 3 * COST
    assert good > 4
    assert (
        ask(gateway, keys[0])[1]["error"]["code"] == ask(gateway, keys[1])[1]["error"]["code"] == "insufficient_quota"
    )
    assert _spent(gateway) == good * COST <= 200_000
    assert ask(gateway, gateway.key)[0] == 200

    rows = {row["name"]: row for row in gateway.cli("usage", "--by", "member")}
    assert (rows[ANNA]["cost_micros"], rows[""]["cost_micros"]) == (good * COST, COST)
    entries = gateway.cli("ledger", "entries")
    assert {entry["project"] for entry in entries if entry["member"] == ANNA} == {"web", "app"}
    assert "(none)" in gateway.run("usage", "--by", "member").stdout


def test_who_leaves_keeps_no_key(gateway: Gateway) -> None:
    """From being added to being removed, as a person types it."""
    bob = "bob@example.com"
    assert gateway.cli("members", "add", bob, "--name", "Bob")["role"] == "member"
    key = gateway.cli("keys", "create", "laptop", "--member", bob)
    assert gateway.cli("keys", "create", "shared")["member"] is None
    assert gateway.cli("keys", "assign", "shared", "--member", bob)["member"] == bob
    assert gateway.cli("members", "update", bob, "--role", "billing")["keys"] == ["default/laptop", "default/shared"]
    assert gateway.cli("limits", "set", f"member:{bob}", "--requests", "1")["outcome"] == "created"
    assert [ask(gateway, key["key"])[0] for _ in range(2)] == [200, 429]

    refused = gateway.run("members", "remove", bob)
    assert refused.returncode == 1
    assert f"intertie members remove {bob} --revoke-keys" in refused.stderr
    assert gateway.cli("keys", "assign", "shared", "--nobody")["member"] is None
    assert gateway.cli("members", "remove", bob, "--revoke-keys") == {"removed": bob, "revoked": ["default/laptop"]}
    assert ask(gateway, key["key"])[0] == 401
    assert ANNA in gateway.run("members", "list").stdout


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("members", "add", "bob"), "anna@example.com"),
        (("members", "add", ANNA), "members update"),
        (("members", "update", ANNA), "--role"),
        (("members", "remove", "ana@example.com"), "did you mean anna@example.com?"),
        (("keys", "create", "x", "--member", "zoe@example.org"), "members add zoe@example.org"),
        (("keys", "assign", "dev"), "--nobody"),
        (("limits", "set", "member:ana@example.com", "--requests", "1"), "did you mean anna@example.com?"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(gateway: Gateway, words: tuple[str, ...], remedy: str) -> None:
    """On standard error, with exit code 1."""
    ran = gateway.run(*words)

    assert ran.returncode == 1
    assert remedy in ran.stderr
