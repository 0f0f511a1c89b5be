"""Where the gateway is, whose key opens it, and how answers are read; without a connection."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from intertie.cli import client
from intertie.cli.client import Access, CommandProblem, Unreachable, locate


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine has set must not count."""
    for name in ("INTERTIE_URL", "INTERTIE_ADMIN_KEY", "INTERTIE_DATA"):
        monkeypatch.delenv(name, raising=False)


def _running(folder: Path, *, pid: int | None = None, mode: int = 0o600) -> None:
    (folder / "gateway.json").write_text(json.dumps({"url": "http://127.0.0.1:4711/", "pid": pid or os.getpid()}))
    (folder / "admin.key").write_text("admin-key\n")
    (folder / "admin.key").chmod(mode)


def test_the_data_directory_tells_address_and_key(tmp_path: Path) -> None:
    """As the gateway wrote them at its start."""
    _running(tmp_path)

    assert locate(tmp_path) == Access("http://127.0.0.1:4711", "admin-key")


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is how a remote gateway is reached."""
    _running(tmp_path)
    monkeypatch.setenv("INTERTIE_URL", "https://ai.example.com")
    monkeypatch.setenv("INTERTIE_ADMIN_KEY", "other")

    assert locate(tmp_path) == Access("https://ai.example.com", "other")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"url": "http://x"}'])
def test_no_gateway_says_how_to_start_one(tmp_path: Path, content: str | None) -> None:
    """Also when the note is unreadable."""
    if content is not None:
        (tmp_path / "gateway.json").write_text(content)

    with pytest.raises(Unreachable) as refusal:
        locate(tmp_path)
    assert "intertie up" in refusal.value.remedy


def test_the_note_of_a_dead_gateway_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process cannot take its note away."""
    _running(tmp_path, pid=4_000_000)

    def gone(_pid: int, _signal: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    with pytest.raises(Unreachable):
        locate(tmp_path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that closes the file."""
    _running(tmp_path, mode=0o644)

    with pytest.raises(CommandProblem) as refusal:
        locate(tmp_path)
    assert refusal.value.remedy.endswith(f"chmod 600 {tmp_path / 'admin.key'}")


def test_the_key_is_not_in_the_repr() -> None:
    """Neither of the access nor of the client."""
    access = Access("http://127.0.0.1:1", "canary")

    assert "canary" not in repr(access) + repr(client.Client(access))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "m", "code": "c", "remedy": "r", "problems": ["p"]}}', "m"),
        (b'{"error": {"message": "m"}}', "m"),
        (b"<html>", "the gateway answered 502"),
        (b'{"error": "text"}', "the gateway answered 502"),
        (b"[]", "the gateway answered 502"),
    ],
)
def test_any_error_answer_becomes_a_refusal(body: bytes, message: str) -> None:
    """Even if something in between answered."""
    refusal = client._refusal(502, body)

    assert refusal.message.startswith(message)
    assert refusal.status == 502


@pytest.mark.parametrize(
    ("event", "output"),
    [
        (b'{"choices": [{"delta": {"role": "assistant", "content": null}}]}', False),
        (b'{"choices": [{"delta": {"content": ""}}]}', False),
        (b'{"choices": [{"delta": {"content": "a"}}]}', True),
        (b'{"choices": [{"delta": {"tool_calls": [{}]}}]}', True),
        (b'{"choices": [{"text": "a"}]}', True),
        (b'{"choices": [], "usage": {}}', False),
        (b"[DONE]", False),
        (b'{"choices": null}', False),
    ],
)
def test_first_output_is_what_the_model_made(event: bytes, output: bool) -> None:
    """A role or an empty delta is not a token."""
    assert client._has_output(event) is output
