"""Whether something starts the agent with the machine. The places are those of the gateway's installers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

UNIT: Final = "intertie-node.service"
PLIST: Final = "local.intertie-node.plist"
TASK: Final = "intertie-node"
_CONTAINER: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
_PATIENCE: Final = 5.0


def installed(home: Path | None = None, system: Path = Path("/")) -> str:
    """What starts the agent, in words; empty if nothing does."""
    if os.environ.get("INVOCATION_ID") and os.environ.get("NOTIFY_SOCKET"):
        return "systemd, which runs this"
    for place in _places(home or Path.home(), system):
        if place.exists():
            return str(place)
    if sys.platform == "win32" and _task():
        return f"scheduled task {TASK}"
    if any(mark.exists() for mark in _CONTAINER):
        return "the container"
    return ""


def _places(home: Path, system: Path) -> Iterator[Path]:
    if sys.platform == "darwin":
        yield home / "Library/LaunchAgents" / PLIST
        yield system / "Library/LaunchDaemons" / PLIST
    elif sys.platform != "win32":
        yield home / ".config/systemd/user" / UNIT
        yield system / "etc/systemd/system" / UNIT


def _task() -> bool:
    command = ["schtasks.exe", "/Query", "/TN", TASK]
    try:
        return subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False
