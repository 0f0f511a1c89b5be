"""`intertie rules` against a real gateway: written, tried on past calls, in force at once, left alone by the file."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy
from tests.support.scripted import ScriptedUpstream

STAYS = "name: stays\nwhen: {tag: private}\nrequire: {trust: own}\n"
NEAR = "{name: near, prefer: {region: eu}}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A vendor first, an own machine behind it; one rule of the file."""
    with ScriptedUpstream(Healthy()).running() as server:
        places = [
            upstream("acme", server.base_url("acme"), region="us"),
            upstream("rig", server.base_url("rig"), region="eu", trust="own"),
        ]
        document = configuration(places, [route("chat", "acme", "rig")])
        document["rules"] = [{"name": "of-the-file", "when": {"tag": "x"}, "forbid": {"upstream": "acme"}}]
        with running(tmp_path_factory.mktemp("rules"), document) as made:
            yield made


def served(gateway: Gateway, tag: str) -> str:
    """Who answers a call with that tag."""
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json", "x-intertie-tags": tag}
    with urllib.request.urlopen(
        urllib.request.Request(f"{gateway.base_url}/chat/completions", body, headers), timeout=20
    ) as answer:
        return str(answer.headers["x-intertie-target"])


def test_a_rule_from_its_draft_to_its_removal(gateway: Gateway, tmp_path: Path) -> None:
    """Tried on what was sent before, then in force for what is sent after; untouched by the next apply."""
    file = tmp_path / "rule.yaml"
    file.write_text(STAYS, encoding="utf-8")
    assert served(gateway, "private") == "acme/m"
    tried = gateway.cli("rules", "put", "-f", str(file), "--dry-run", "--since", "1h")
    assert (tried["requests"], tried["moved"], tried["moves"][0]["now"]) == (1, 1, "rig/m")
    assert served(gateway, "private") == "acme/m"

    assert gateway.cli("rules", "put", "-f", str(file)) == {"name": "stays", "outcome": "created"}
    assert served(gateway, "private") == "rig/m"
    applied = gateway.cli("apply", "-f", str(gateway.folder / "intertie.yaml"))
    assert (applied["created"], applied["updated"], applied["removed"]) == ([], [], [])
    assert served(gateway, "private") == "rig/m"

    back = gateway.cli("rules", "remove", "stays", "--dry-run", "--since", "1h")
    assert back["moved"] >= 1
    assert gateway.cli("rules", "remove", "stays") == {"removed": "stays"}
    assert served(gateway, "private") == "acme/m"


def test_explaining_asks_as_the_call_would_come(gateway: Gateway, tmp_path: Path) -> None:
    """Its headers, content, operation and ceiling, each of which decides here."""
    file = tmp_path / "rule.yaml"

    def first(*words: str) -> str:
        found = gateway.cli("route", "explain", "--model", "chat", *words)["candidates"]
        return next(str(one["upstream"]) for one in found if one.get("allowed", True))

    for when, words in (
        ('{header: {x-team: "re*"}}', ("--header", "X-Team=red")),
        ("{content: card}", ("--content", "card")),
        ("{operation: completion}", ("--operation", "completion", "--stream")),
    ):
        file.write_text(f"name: away\nwhen: {when}\nforbid: {{upstream: acme}}\n", encoding="utf-8")
        gateway.cli("rules", "put", "-f", str(file))
        assert (first(), first(*words)) == ("acme", "rig")
    gateway.cli("rules", "remove", "away")
    assert first("--trust", "own") == "rig"

    for words, told in ((("--header", "x-team"), "write --header NAME=VALUE"), (("--trust", "far"), "trust")):
        refused = gateway.run("route", "explain", "--model", "chat", *words)
        assert refused.returncode != 0
        assert told in refused.stderr


def test_what_is_shown_can_be_put_again_and_moved(gateway: Gateway, tmp_path: Path) -> None:
    """As a person does it."""
    file = tmp_path / "near.yaml"
    file.write_text(NEAR, encoding="utf-8")
    assert gateway.cli("rules", "put", "-f", str(file), "--before", "of-the-file")["outcome"] == "created"
    shown = gateway.run("rules", "show", "near").stdout
    assert "# place 1, origin api" in shown
    file.write_text(shown, encoding="utf-8")
    assert gateway.cli("rules", "put", "-f", str(file))["outcome"] == "unchanged"
    assert gateway.cli("rules", "move", "near", "--after", "of-the-file")["place"] == 2
    assert [row["name"] for row in gateway.cli("rules", "list")] == ["of-the-file", "near"]
    assert "prefer region eu" in gateway.run("rules", "list").stdout
    gateway.cli("rules", "remove", "near")


@pytest.mark.parametrize(
    ("words", "text", "told"),
    [
        (("put", "-f", "FILE"), "{name: a, when: {tga: x}, require: {trust: onw}}", ["did you mean tag?", "own?"]),
        (("put", "-f", "FILE"), "{prefer: {region: eu}}", ["name: is required"]),
        (("put", "-f", "FILE"), "routes: []", ["intertie apply -f FILE"]),
        (("put", "-f", "FILE"), "{name: a, forbid: {upstream: acem}}", ["did you mean acme?"]),
        (("put", "-f", "FILE", "--before", "x", "--after", "y"), NEAR, ["not both"]),
        (("put", "-f", "FILE", "--before", "of-the-fiel"), NEAR, ["did you mean of-the-file?"]),
        (("move", "of-the-file"), "", ["--before NAME"]),
        (("remove", "of-the-fiel"), "", ["did you mean of-the-file?"]),
        (("show", "nothing"), "", ["intertie rules list"]),
    ],
)
def test_a_mistake_is_told_with_its_remedy(
    gateway: Gateway, tmp_path: Path, words: tuple[str, ...], text: str, told: list[str]
) -> None:
    """All of it at once, on standard error, with exit code 1, and nothing is changed."""
    file = tmp_path / "rule.yaml"
    file.write_text(text, encoding="utf-8")
    ran = gateway.run("rules", *(str(file) if word == "FILE" else word for word in words))

    assert ran.returncode == 1
    assert all(words_ in ran.stderr for words_ in told), ran.stderr
    assert [row["name"] for row in gateway.cli("rules", "list")] == ["of-the-file"]
