"""Terminals of a machine without a display."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from intertie.agent.idle.terminals import Terminals
from intertie.agent.machine.unreadable import Unreadable
from tests.unit.agent.idle.root import UNIX, files


def test_the_terminal_typed_at_last_counts(tmp_path: Path) -> None:
    """Consoles and pseudo terminals; `ptmx` and serial lines are not typed at."""
    root = files(tmp_path, dict.fromkeys(["dev/tty1", "dev/pts/0", "dev/pts/3", "dev/pts/ptmx", "dev/ttyS0"], ""))
    for name, when in (("tty1", 100), ("pts/0", 940), ("pts/3", 500), ("pts/ptmx", 999), ("ttyS0", 999)):
        os.utime(root / "dev" / name, (when, 0))
    assert Terminals(root, clock=lambda: 1000.0).read() == (60.0, "")
    assert Terminals(root, clock=lambda: 900.0).read() == (0.0, "")  # a clock that was set back


def test_a_machine_without_terminals_has_nobody(tmp_path: Path) -> None:
    """Idle for ever, and said."""
    assert Terminals(tmp_path).read() == (math.inf, "no user session here")


def test_a_container_does_not_pass_for_an_empty_machine(tmp_path: Path) -> None:
    """Its host may have a user at work."""
    with pytest.raises(Unreadable, match="run the agent on the machine itself, or wish mode always"):
        Terminals(files(tmp_path, {".dockerenv": ""}))


def test_a_display_makes_terminals_worthless(tmp_path: Path) -> None:
    """Also one that starts later: each reading looks."""
    terminals = Terminals(tmp_path)
    assert terminals.read().seconds == math.inf
    files(tmp_path, {"proc/net/unix": "Num\n" + UNIX.format("@/tmp/.X11-unix/X0")})
    with pytest.raises(Unreadable, match="run the agent inside the desktop session"):
        terminals.read()
