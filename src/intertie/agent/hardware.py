"""What machine this is: processor, memory, graphics cards, operating system. Never raises, never blocks for long."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from intertie.agent.gpus import Card, cards
from intertie.agent.machine.command import output
from intertie.agent.machine.unreadable import Unreadable

PATIENCE: Final = 2.0
"""Seconds the drivers of graphics cards get to answer."""
PROC: Final = Path("/proc")
CGROUP: Final = Path("/sys/fs/cgroup/memory.max")
_LONGEST: Final = 100
_PROCESSOR_KEY: Final = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"


def read() -> dict[str, Any]:
    """{"cpu": {"model", "cores", "threads"}, "memory_bytes", "gpus", "os", "arch"}; `None` is unknown."""
    model, cores = _processor()
    return {
        "cpu": {"model": model[:_LONGEST], "cores": cores, "threads": os.cpu_count()},
        "memory_bytes": _memory(),
        "gpus": _PATIENT.read(PATIENCE),
        "os": _system()[:_LONGEST],
        "arch": platform.machine().lower(),
    }


class Patient:
    """Asks for the cards in a thread of its own: a driver that hangs cannot be interrupted, only left behind."""

    def __init__(self, ask: Callable[[], list[Card]] = cards) -> None:
        self._ask = ask
        self._asking: threading.Thread | None = None
        self._last: list[Card] = []

    def read(self, seconds: float) -> list[Card]:
        """The cards as told now; as told last if that takes longer than `seconds`."""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._look, name="gpus", daemon=True)
            self._asking.start()
        self._asking.join(seconds)
        return list(self._last)

    def _look(self) -> None:
        self._last = self._ask()


_PATIENT: Final = Patient()


# -- processor ---------------------------------------------------------------------------------------------------------


def _processor() -> tuple[str, int | None]:
    if sys.platform == "win32":
        return _registry_name() or platform.processor(), None
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string"), _whole(_sysctl("hw.physicalcpu"))
    model, cores = from_cpuinfo(_text(PROC / "cpuinfo"))
    return model or _text(Path("/proc/device-tree/model")).strip("\0 \n") or platform.machine(), cores


def from_cpuinfo(text: str) -> tuple[str, int | None]:
    """Name and physical cores from Linux' `/proc/cpuinfo`; ARM boards name themselves at its end, or nowhere."""
    blocks = [dict(_pairs(block)) for block in text.split("\n\n")]
    name = next((block["model name"] for block in blocks if block.get("model name")), "")
    name = name or next((block["Model"] for block in blocks if block.get("Model")), "")
    cores = {(block.get("physical id", "0"), block["core id"]) for block in blocks if "core id" in block}
    return " ".join(name.split()), len(cores) or None


def _pairs(block: str) -> list[tuple[str, str]]:
    lines = [line.partition(":") for line in block.splitlines()]
    return [(name.strip(), value.strip()) for name, colon, value in lines if colon]


def _registry_name() -> str:
    try:
        winreg = importlib.import_module("winreg")
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _PROCESSOR_KEY) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    except (ImportError, OSError):
        return ""


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory() -> int | None:
    if sys.platform == "win32":
        return _windows_memory()
    if sys.platform == "darwin":
        return _whole(_sysctl("hw.memsize"))
    return from_meminfo(_text(PROC / "meminfo"), _text(CGROUP))


def from_meminfo(text: str, limit: str) -> int | None:
    """Bytes of memory, or of what a container may use of it (`limit`, which is `max` or a number)."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    total = int(found[1]) * 1024 if found else None
    allowed = _whole(limit.strip())
    return min(total, allowed) if total and allowed else total


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 6),
    )


def _windows_memory() -> int | None:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    try:
        kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 - only there on Windows
    except AttributeError:
        return None
    return int(status.total) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


# -- the system --------------------------------------------------------------------------------------------------------


def _system() -> str:
    system = platform.system()
    if system == "Darwin":
        return f"macOS {platform.mac_ver()[0]}".strip()
    if system == "Linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME") or "Linux"
        except OSError:
            return f"Linux {platform.release()}"
    return f"{system} {platform.release()}".strip()


def _sysctl(name: str) -> str:
    try:
        return output(["/usr/sbin/sysctl", "-n", name]).strip()
    except Unreadable:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,18}", text) and int(text) else None
