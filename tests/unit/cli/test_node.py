"""`intertie node` through Typer: the same words as the agent's own parser, handed on as they were typed."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from intertie.agent import command
from intertie.agent.words import COMMANDS
from intertie.cli.node import app


@pytest.mark.parametrize(
    "words",
    [
        ["join", "https://ai.example.com"],
        ["join", "https://ai.example.com", "--name", "desk", "--runtime", "http://a:1", "--runtime", "http://b:2"],
        ["join", "https://ai.example.com", "--label", "gpu", "--no-discover", "--slots", "3", "--no-run", "--json"],
        ["join", "https://ai.example.com", "--idle", "--run", "--replace", "--insecure", "--code"],
        ["pause", "--for", "2h"],
        ["doctor", "--no-self-test"],
        ["leave", "--keep-key"],
        ["status", "--data", "folder"],
        ["version"],
    ],
)
def test_what_is_typed_reaches_the_agent_unchanged(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []

    def main(typed: list[str], *, prog: str) -> int:
        assert prog == "intertie node"
        heard.append(typed)
        return 0

    monkeypatch.setattr(command, "main", main)
    ran = CliRunner().invoke(app, words)

    assert ran.exit_code == 0, ran.output
    parser = command.make_parser("intertie node")
    assert vars(parser.parse_args(heard[0])) == vars(parser.parse_args(words))


def test_the_agents_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(*_: Any, **__: Any) -> int:
        return 78

    monkeypatch.setattr(command, "main", main)

    assert CliRunner().invoke(app, ["run"]).exit_code == 78


def test_every_command_takes_json_and_says_what_it_does() -> None:
    for one in COMMANDS:
        assert "json" in {word.member for word in one.words}
        assert one.help.endswith(".")
        assert all(word.help for word in one.words)
