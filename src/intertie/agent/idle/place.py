"""What kind of place this process is in, on Linux: who could be using the machine, and whether we could see them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
_DISPLAY: Final = re.compile(r"@?(/tmp/\.X11-unix/X\d+|/\S+/wayland-\d+)$")
_CONTAINERS: Final = re.compile(r"/(docker|kubepods|lxc|libpod|containerd|machine\.slice)\b")


def container(root: Path = ROOT) -> str:
    """What says that this is a container; "" if nothing does. Its host's user cannot be seen from inside."""
    for mark in (".dockerenv", "run/.containerenv"):
        if (root / mark).exists():
            return f"/{mark}"
    manager = _text(root / "run/systemd/container").strip()
    if manager:
        return f"systemd says {manager}"
    found = _CONTAINERS.search(_text(root / "proc/1/cgroup"))
    return f"control group {found[1]}" if found else ""


def subsystem(root: Path = ROOT) -> bool:
    """True in the Windows Subsystem for Linux, whose displays only see the input of Linux' own windows."""
    return "microsoft" in _text(root / "proc/sys/kernel/osrelease").lower()


def displays(root: Path = ROOT) -> list[str]:
    """Sockets of display servers. The kernel's table shows them also to a service that has a /tmp of its own."""
    lines = _text(root / "proc/net/unix").splitlines()[1:]
    return sorted({found[1] for line in lines if (found := _DISPLAY.search(line))})


def graphical_sessions(root: Path = ROOT) -> bool:
    """True if logind knows a session with a display."""
    folder = root / "run/systemd/sessions"
    files = [path for path in folder.glob("*") if path.suffix != ".ref"] if folder.is_dir() else []
    return any(re.search(r"^TYPE=(x11|wayland|mir)$", _text(path), re.MULTILINE) for path in files)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
