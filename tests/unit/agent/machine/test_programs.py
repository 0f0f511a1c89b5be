"""Which programs run. Linux: proc(5). macOS: ps(1), `-o comm=` gives full paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertie.agent.machine.programs import from_proc, from_ps
from intertie.agent.machine.unreadable import Unreadable


def proc(folder: Path, names: dict[int, bytes]) -> Path:
    """A /proc with these processes, and what else stands there."""
    (folder / "net").mkdir()
    for pid, name in names.items():
        (folder / str(pid)).mkdir()
        (folder / str(pid) / "comm").write_bytes(name + b"\n")
    (folder / "77").mkdir()  # gone while we looked
    return folder


def test_linux_shows_every_process(tmp_path: Path) -> None:
    """Names with spaces, of odd bytes, cut at fifteen."""
    names = {1: b"systemd", 2: b"kthreadd", 40: b"Blender", 41: b"Web Content", 42: b"a-very-long-pro", 43: b"\xff\xfe"}
    found = from_proc(proc(tmp_path, names))
    assert found.names >= {"systemd", "kthreadd", "blender", "web content", "a-very-long-pro"}
    assert not found.hidden


def test_a_process_that_sees_only_its_own_kind_says_so(tmp_path: Path) -> None:
    """In a container, process 2 is anybody; what it does see still counts."""
    found = from_proc(proc(tmp_path, {1: b"python3", 2: b"steam"}))
    assert found.names == {"python3", "steam"}
    assert "run the agent on the machine itself" in found.hidden


def test_no_proc_is_said(tmp_path: Path) -> None:
    """As on other systems."""
    with pytest.raises(Unreadable):
        from_proc(tmp_path / "proc")


def test_macos_shows_paths() -> None:
    """With spaces in them."""
    text = "/sbin/launchd\n/Applications/Final Cut Pro.app/Contents/MacOS/Final Cut Pro\n-zsh\n\n"
    assert from_ps(text) == {"launchd", "final cut pro", "-zsh"}
