"""Configuration files on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertie.cli.client import CommandProblem
from intertie.cli.configuration import ConfigurationProblem, entry, load, secret
from intertie.controlplane import config


def test_secrets_are_fetched_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path counts from the file's folder, wherever the command runs."""
    (tmp_path / "acme.key").write_text("from-the-file\n")
    monkeypatch.setenv("ACME", "from-the-environment")
    file = tmp_path / "intertie.yaml"
    file.write_text("upstreams: [{name: acme, provider: openai, credentials: [{file: acme.key}, {env: ACME}]}]")

    (upstream,) = config.dump(load(file))["upstreams"]

    assert [one["value"] for one in upstream["credentials"]] == ["from-the-file", "from-the-environment"]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """With the nearest valid name."""
    file = tmp_path / "intertie.yaml"
    file.write_text("upstream: []\nroutes: [{model: a, targets: []}]")

    with pytest.raises(ConfigurationProblem) as found:
        load(file)
    assert len(found.value.problems) == 2
    assert any("did you mean upstreams?" in line for line in found.value.problems)


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    """No traceback for a typing mistake."""
    with pytest.raises(CommandProblem, match="cannot read"):
        load(tmp_path / "nowhere.yaml")


def test_an_entry_is_validated_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its secrets come from the environment of whoever types."""
    monkeypatch.setenv("ACME", "the-secret")

    made = entry("upstreams", {"name": "acme", "provider": "openai", "credentials": [{"env": "ACME"}]})

    assert made["credentials"] == [{"env": "ACME", "value": "the-secret"}]
    with pytest.raises(ConfigurationProblem):
        entry("upstreams", {"name": "acme", "provider": "nobody"})


def test_secrets_do_not_belong_on_the_command_line() -> None:
    """Only where they are found does."""
    assert secret("env:ACME") == {"env": "ACME"}
    assert secret("file:/run/secrets/acme") == {"file": "/run/secrets/acme"}
    for words in ("sk-1234567890", "value:sk-1", "env:", ":x"):
        with pytest.raises(CommandProblem) as refused:
            secret(words)
        assert words not in str(refused.value.message)
