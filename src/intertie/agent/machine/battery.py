"""Whether the machine runs on its battery."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from intertie.agent.machine.command import output
from intertie.agent.machine.unreadable import Unreadable

SUPPLIES: Final = Path("/sys/class/power_supply")


def on_battery() -> bool:
    """True if no mains power comes in; False also where there is no battery. Raises `Unreadable`."""
    if sys.platform == "win32":
        return from_line_status(_line_status())
    elif sys.platform == "darwin":
        return from_pmset(output(["/usr/bin/pmset", "-g", "batt"]))
    else:
        return from_supplies(SUPPLIES)


def from_supplies(folder: Path) -> bool:
    """From Linux' list of power supplies. A mouse has a battery too; it says that its scope is the device."""
    draining = False
    for supply in _listed(folder):
        kind, scope = _word(supply / "type"), _word(supply / "scope")
        if scope == "Device":
            continue
        if kind in {"Mains", "USB", "Wireless"} and _word(supply / "online") not in {"", "0"}:
            return False
        draining = draining or (kind in {"Battery", "UPS"} and _word(supply / "status") == "Discharging")
    return draining


def from_pmset(text: str) -> bool:
    """From macOS' `pmset -g batt`, whose first line names the source. Raises `Unreadable`."""
    for name, battery in (("'AC Power'", False), ("'Battery Power'", True), ("'UPS Power'", True)):
        if name in text.partition("\n")[0]:
            return battery
    raise Unreadable("pmset did not say where the power comes from")


def from_line_status(status: int) -> bool:
    """From ACLineStatus of Windows' SYSTEM_POWER_STATUS: 0 offline, 1 online, 255 unknown. Raises `Unreadable`."""
    if status not in {0, 1}:
        raise Unreadable("Windows does not know whether mains power comes in")
    return status == 0


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unreadable(f"{folder} cannot be read: {error.strerror}") from None


def _word(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


if sys.platform == "win32":

    class _PowerStatus(ctypes.Structure):
        _fields_ = (
            ("line", ctypes.c_ubyte),
            ("flag", ctypes.c_ubyte),
            ("percent", ctypes.c_ubyte),
            ("saver", ctypes.c_ubyte),
            ("left", ctypes.c_uint32),
            ("full", ctypes.c_uint32),
        )

    def _line_status() -> int:
        status = _PowerStatus()
        if not ctypes.WinDLL("kernel32").GetSystemPowerStatus(ctypes.byref(status)):
            raise Unreadable("GetSystemPowerStatus failed")
        return int(status.line)
