"""A gateway's address as people type it."""

from __future__ import annotations

import pytest

from intertie.agent.enrol import Address, Gateway, is_loopback, read_address
from intertie.agent.problem import Problem


@pytest.mark.parametrize(
    ("typed", "base", "origin", "plain"),
    [
        ("https://ai.example.com", "https://ai.example.com", "https://ai.example.com", False),
        ("ai.example.com/", "https://ai.example.com", "https://ai.example.com", False),
        ("https://AI.example.com:443/v1", "https://ai.example.com", "https://ai.example.com", False),
        ("https://example.com/ai/v1/", "https://example.com/ai", "https://example.com", False),
        ("localhost:8080", "http://localhost:8080", "http://localhost:8080", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080", False),
        ("http://[::1]:8080", "http://[::1]:8080", "http://[::1]:8080", False),
        ("http://192.168.1.2:8080", "http://192.168.1.2:8080", "http://192.168.1.2:8080", True),
        ("http://ai.example.com", "http://ai.example.com", "http://ai.example.com", True),
    ],
)
def test_an_address_is_read_in_every_usual_spelling(typed: str, base: str, origin: str, plain: bool) -> None:
    assert read_address(typed) == Address(base, origin, plain)
    assert read_address(typed).link == f"{base}/link"


@pytest.mark.parametrize(
    "typed", ["", "ftp://x", "https://", "https:/x", "https://x:y", "https://u@x", "https://x?t=1", "https://x#f"]
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(Problem):
        read_address(typed)


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.8.8.8", True), ("::1", True), ("a.localhost", True), ("10.0.0.1", False),
     ("localhost.example.com", False), ("127.0.0.1.example.com", False), ("", False)],
)  # fmt: skip
def test_only_this_machine_is_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_a_proxy_that_cannot_be_used_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://user:word@proxy:1080")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with pytest.raises(Problem, match="plain HTTP") as caught:
        Gateway(read_address("https://ai.example.com"))
    assert "word" not in caught.value.message
