"""Who is on this machine, and who only says so."""

from __future__ import annotations

import pytest

from intertie.controlplane.admin_key import on_this_machine


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("127.0.0.1", "127.0.0.1:8080"),
        ("127.0.0.1", "localhost"),
        ("127.8.8.8", "LOCALHOST:1"),
        ("::1", "[::1]:8080"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_loopback_under_a_loopback_name_is_here(peer: str, host: str) -> None:
    """In every spelling of loopback."""
    assert on_this_machine(peer, host, ["host", "accept"])


@pytest.mark.parametrize(
    ("peer", "host", "headers"),
    [
        (None, "localhost", []),
        ("203.0.113.9", "localhost", []),
        ("not an address", "localhost", []),
        ("::ffff:203.0.113.9", "localhost", []),
        ("127.0.0.1", "rebound.example", []),
        ("127.0.0.1", "localhost.evil.example", []),
        ("127.0.0.1", "", []),
        ("127.0.0.1", "[::1", []),
        ("127.0.0.1", "localhost", ["x-forwarded-for"]),
        ("127.0.0.1", "localhost", ["via"]),
        ("127.0.0.1", "localhost", ["forwarded"]),
    ],
)
def test_everybody_else_is_not(peer: str | None, host: str, headers: list[str]) -> None:
    """Other machines, rebound names, and anything that came through a proxy."""
    assert not on_this_machine(peer, host, headers)
