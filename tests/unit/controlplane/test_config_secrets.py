"""How secrets reach a document, and how a resolved document travels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from intertie.controlplane import config
from intertie.controlplane.config import ConfigProblems, Document
from intertie.controlplane.entries import RouteEntry, UpstreamEntry

TEXT = """
settings: {port: 9000}
upstreams:
  - name: acme
    provider: openai_compatible
    base_url: https://api.example-llm.com/v1
    credentials: [{env: ACME_KEY_1}, {file: /run/secrets/acme}]
    headers: {X-Team: web team, X-Api-Key: {env: ACME_EXTRA}}
    models:
      - {name: big-model, price: {input: 2.50, output: 10.00, cached_input: 0.075}}
      - {name: own-model, price: free}
      - plain-model
routes:
  - {model: gpt-4o-mini, strategy: weighted, targets: [{upstream: acme, model: big-model, weight: 3}]}
projects:
  - {name: web, keys: [{name: dev, value: {env: WEB_KEY}, models: [gpt-4o-mini], expires: 2027-01-31}, {name: made}]}
"""
ENV = {"ACME_KEY_1": "canary-one", "ACME_EXTRA": "canary-extra", "WEB_KEY": "canary-web-key-0123456789"}


def _resolved() -> Document:
    return config.resolve(config.parse(TEXT), ENV, lambda path: f"canary-of-{path}\n")


def test_secrets_are_fetched_from_where_the_file_says() -> None:
    """Environment and files, without the line break at the end, and never printed."""
    document = _resolved()
    acme = document.upstreams[0]

    assert [credential.reveal() for credential in acme.credentials] == ["canary-one", "canary-of-/run/secrets/acme"]
    assert [credential.label for credential in acme.credentials] == ["env ACME_KEY_1", "file /run/secrets/acme"]
    assert acme.headers["x-api-key"].reveal() == "canary-extra"
    assert acme.headers["x-team"].reveal() == "web team"
    assert "canary" not in repr(document)


def test_every_missing_secret_is_reported_at_once() -> None:
    """Names, not values."""

    def unreadable(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    with pytest.raises(ConfigProblems) as caught:
        config.resolve(config.parse(TEXT), {"ACME_EXTRA": " "}, unreadable)

    assert {problem.path: problem.message for problem in caught.value.problems} == {
        "upstreams[0].credentials[0]": "the environment variable ACME_KEY_1 is not set",
        "upstreams[0].credentials[1]": "cannot read /run/secrets/acme: No such file or directory",
        "upstreams[0].headers.x-api-key": "the secret (env ACME_EXTRA) is empty",
        "projects[0].keys[0].value": "the environment variable WEB_KEY is not set",
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WEB_KEY", "canary", "16 to 512 characters"),
        ("ACME_KEY_1", "canary one", "space inside"),
        ("ACME_EXTRA", "canary\r\nx-evil: 1", "line break"),
        ("ACME_KEY_1", "canäry", "outside ASCII"),
    ],
)
def test_secrets_that_cannot_be_used_are_reported_without_being_quoted(name: str, value: str, words: str) -> None:
    """Weak keys, and values that would break a header."""
    with pytest.raises(ConfigProblems, match=words) as caught:
        config.resolve(config.parse(TEXT), ENV | {name: value}, lambda _: "file-secret")
    assert "can" not in str(caught.value).replace("cannot", "")


def test_a_resolved_document_travels_as_json() -> None:
    """The command line sends it to the admin API, which checks it again; boot settings stay behind."""
    document = _resolved()
    received = config.receive(json.loads(json.dumps(config.dump(document))))

    assert received == document.model_copy(update={"settings": {}})


def test_a_document_whose_secrets_were_not_fetched_is_refused() -> None:
    """The gateway does not look into the environment of whoever sent it."""
    with pytest.raises(ConfigProblems) as caught:
        config.receive(config.dump(config.parse(TEXT)))
    assert {problem.path for problem in caught.value.problems} == {
        "upstreams[0].credentials[0]",
        "upstreams[0].credentials[1]",
        "upstreams[0].headers.x-api-key",
        "projects[0].keys[0].value",
    }


def test_one_entry_is_received_like_a_whole_document() -> None:
    """The admin API's own bodies have the shapes of the file, with secrets in `value`."""
    entry = config.receive_entry(
        UpstreamEntry, {"name": "a", "provider": "openai", "credentials": [{"value": "canary-one"}]}
    )

    assert entry.credentials[0].reveal() == "canary-one"
    assert entry.credentials[0].label == "given"
    assert config.receive_entry(RouteEntry, {"model": "m", "targets": [{"upstream": "a"}]}).max_attempts == 3


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"name": "a", "provider": "openai_compatible"}, "base_url"),
        ({"name": "a", "provider": "openai", "credentials": [{"value": "two words"}]}, "credentials[0]"),
        ({"name": "a", "provider": "openai", "modles": []}, "modles"),
        ({}, "name"),
    ],
)
def test_a_bad_entry_is_reported_with_its_own_paths(payload: dict[str, Any], path: str) -> None:
    """Paths begin at the body, not at a document around it."""
    with pytest.raises(ConfigProblems) as caught:
        config.receive_entry(UpstreamEntry, payload)
    assert caught.value.problems[0].path == path
