"""Bytes of Wayland's wire format (the Wayland book, "Wire Format")."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from intertie.agent.idle.wayland import announced, number, request, socket_path, sockets, split, text
from intertie.agent.machine.unreadable import Unreadable

PAIR = request(7, 0, b"") + request(2, 1, text("wl_seat"))


def test_messages_are_cut_where_they_end() -> None:
    """However they arrive."""
    for size in range(len(PAIR) + 1):
        first, rest = split(PAIR[:size])
        second, left = split(rest + PAIR[size:])
        assert [(one.sender, one.opcode) for one in first + second] == [(7, 0), (2, 1)]
        assert not left


def test_the_wire_has_words_of_four_bytes() -> None:
    """Object, size and opcode; texts with their zero, padded."""
    assert request(1, 1, number(2)) == struct.pack("=III", 1, 12 << 16 | 1, 2)
    assert text("abc") == struct.pack("=I", 4) + b"abc\0"
    assert text("wl_seat") == struct.pack("=I", 8) + b"wl_seat\0"
    assert announced(number(5) + text("wl_seat") + number(9)) == (5, "wl_seat")


@pytest.mark.parametrize("size", [0, 4, 7])
def test_a_message_smaller_than_its_head_is_refused(size: int) -> None:
    """It would never end."""
    with pytest.raises(Unreadable, match="cannot be read"):
        split(struct.pack("=II", 1, size << 16))
    with pytest.raises(Unreadable, match="cannot be read"):
        announced(b"\0" * size)


def test_the_compositor_of_this_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named one first; locks are no sockets."""
    for name in ("wayland-0", "wayland-0.lock", "wayland-1"):
        (tmp_path / name).touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert sockets() == [f"{tmp_path}/wayland-0", f"{tmp_path}/wayland-1"]
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-1")
    assert sockets() == [f"{tmp_path}/wayland-1", f"{tmp_path}/wayland-0"]
    monkeypatch.setenv("WAYLAND_DISPLAY", "/elsewhere/wayland-9")
    assert socket_path() == "/elsewhere/wayland-9"


def test_no_compositor_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a session of X."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(Unreadable, match="no compositor"):
        socket_path()
