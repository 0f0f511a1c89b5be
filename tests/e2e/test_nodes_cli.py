"""`intertie nodes` and `intertie audit` against a real gateway, with a machine that asks over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from intertie.controlplane.enrolment import packed
from intertie.core.wire.enrolment import device_message, read_token
from tests.contract.controlplane.applicants import Machine
from tests.support.gateway import Gateway, configuration, running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One without upstreams."""
    with running(tmp_path_factory.mktemp("nodes"), configuration([], []), {}) as made:
        yield made


def post(gateway: Gateway, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
    """What a machine gets to hear: status and decoded body."""
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


def enrol(gateway: Gateway, token: str) -> dict[str, Any]:
    """A machine becomes a node."""
    told = Machine().told(read_token(token).id, origin=gateway.url)
    claims = {"region": "moon", "labels": ["mine"], "trust": "own"}  # which are not a machine's to say
    status, answer = post(gateway, "/link/enrol", {"token": token, **told, **claims})
    assert status == 200, answer
    return dict(answer)


def printed(gateway: Gateway, *words: str) -> str:
    """What a person reads."""
    ran = gateway.run(*words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_an_empty_list_says_what_to_do_next(gateway: Gateway) -> None:
    """The command to run; as JSON it is an empty list."""
    assert "intertie nodes token NAME" in printed(gateway, "nodes", "list")
    assert "intertie nodes token NAME" in printed(gateway, "nodes", "tokens")
    assert "intertie node join URL" in printed(gateway, "nodes", "devices")
    assert gateway.cli("nodes", "devices") == []


def test_a_node_from_its_token_to_its_removal(gateway: Gateway) -> None:
    """Each command, and what it left in the audit trail."""
    wanted = ("--label", "gpu", "--trust", "company", "--region", "eu", "--expires", "10m")
    shown = printed(gateway, "nodes", "token", "rig", *wanted)
    token = shown.split()[0]
    assert f"INTERTIE_TOKEN={token} sh" in shown
    assert f"?{token}" not in shown
    assert f"/{token}" not in shown
    node = enrol(gateway, token)["node"]
    assert "gpu" in printed(gateway, "nodes", "list")
    card = printed(gateway, "nodes", "show", "rig")
    assert all(line in card for line in ("trust      company", "region     eu", "labels     gpu"))

    assert "resume rig" in printed(gateway, "nodes", "drain", "rig")
    assert gateway.cli("nodes", "resume", "rig")["drained"] is False
    assert gateway.cli("nodes", "rename", "rig", "big-rig")["name"] == "big-rig"
    assert gateway.cli("nodes", "label", "big-rig", "lab")["labels"] == ["lab"]
    assert gateway.cli("nodes", "set", "big-rig", "--slots", "2", "--trust", "own")["slots_cap"] == 2
    assert gateway.cli("nodes", "set", "big-rig", "--region", "")["region"] == ""
    assert gateway.cli("nodes", "set", "big-rig", "--region", "us")["region"] == "us"
    assert gateway.cli("nodes", "revoke", "big-rig")["state"] == "revoked"
    listed = printed(gateway, "nodes", "list")
    assert "big-rig" not in listed
    assert "1 that left or was revoked: intertie nodes list --all" in listed
    assert "big-rig" in printed(gateway, "nodes", "list", "--all")
    assert [row["standing"] for row in gateway.cli("nodes", "list")] == ["revoked"]
    again = gateway.cli("nodes", "token", "big-rig", "--for", "big-rig", "--pending")
    assert enrol(gateway, again["token"])["node"] == node
    approved = gateway.cli("nodes", "approve", "big-rig")
    assert (approved["state"], approved["region"]) == ("active", "us")
    assert "big-rig" in printed(gateway, "nodes", "remove", "big-rig")

    trail = [row["action"] for row in gateway.cli("audit", "list", "--limit", "14")]
    assert trail == [
        *("node.remove", "node.approve", "node.reenrol", "token.create", "node.revoke", "node.change", "node.change"),
        *("node.change", "node.change", "node.change", "node.resume", "node.drain", "node.enrol", "token.create"),
    ]
    told = printed(gateway, "audit", "list")
    assert "node.reenrol" in told
    assert "name big-rig; region -" in told
    assert "--after" in printed(gateway, "audit", "list", "--limit", "2")


def test_tokens_are_listed_without_their_text_and_revoked(gateway: Gateway) -> None:
    """By their id."""
    made = gateway.cli("nodes", "token", "farm", "--fleet", "3", "--expires", "30d", "--ephemeral")
    table = printed(gateway, "nodes", "tokens")

    assert "3 of 3" in table
    assert "30 d" in table
    assert made["token"] not in table
    assert gateway.cli("nodes", "revoke-token", made["id"])["state"] == "revoked"


def test_a_code_is_approved_or_denied(gateway: Gateway) -> None:
    """The machine hears it."""
    for verdict, status in (("approve-device", 200), ("deny-device", 403)):
        machine = Machine("desk")
        grant = post(gateway, "/link/device", machine.told("", origin=gateway.url))[1]
        assert grant["user_code"] in printed(gateway, "nodes", "devices")
        printed(gateway, "nodes", verdict, grant["user_code"])
        code = grant["device_code"]
        signed = device_message(origin=gateway.url, device_code=code, public_key=machine.key.public)
        question = {
            "device_code": code,
            "public_key": packed(machine.key.public),
            "origin": gateway.url,
            "signature": packed(machine.key.sign(signed)),
        }
        assert post(gateway, "/link/device/poll", question)[0] == status


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("nodes", "show", "nobody"), "intertie nodes list"),
        (("nodes", "token", "x", "--expires", "soon"), "60m"),
        (("nodes", "token", "x", "--expires", "3d"), "24 hours"),
        (("nodes", "token", "x", "--for", "nobody"), "intertie nodes list"),
        (("nodes", "token", "x", "--for", "x", "--trust", "own"), "nodes set x"),
        (("nodes", "set", "x"), "--slots"),
        (("nodes", "label", "x"), "--none"),
        (("nodes", "label", "x", "gpu", "--none"), "--none"),
        (("nodes", "approve-device", "XXXX-XXXX"), "nodes devices"),
        (("nodes", "revoke-token", "0000000000"), "nodes tokens"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(gateway: Gateway, words: tuple[str, ...], remedy: str) -> None:
    """On standard error, with exit code 1."""
    ran = gateway.run(*words)

    assert ran.returncode == 1
    assert remedy in ran.stderr
