"""Which programs run, by name. Read only if a wish names programs."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final, NamedTuple

from intertie.agent.eligibility import plain
from intertie.agent.machine.command import output
from intertie.agent.machine.unreadable import Unreadable

PROC: Final = Path("/proc")


class Running(NamedTuple):
    """Names as `plain` makes them. `hidden` says why some may be missing, and what to do; "" if none are."""

    names: frozenset[str]
    hidden: str = ""


def running() -> Running:
    """Everything that runs now. Raises `Unreadable`."""
    if sys.platform == "win32":
        return Running(frozenset(plain(name) for name in _snapshot()))
    elif sys.platform == "darwin":
        return Running(from_ps(output(["/bin/ps", "-axo", "comm="])))
    else:
        return from_proc(PROC)


def from_proc(folder: Path) -> Running:
    """From Linux' /proc. Where its first kernel thread cannot be seen, others are hidden as well."""
    names: set[str] = set()
    try:
        entries = [entry for entry in folder.iterdir() if entry.name.isdigit()]
    except OSError as error:
        raise Unreadable(f"{folder} cannot be read: {error.strerror}") from None
    for entry in entries:
        name = comm(entry)
        if name:
            names.add(plain(name))
    whole = comm(folder / "2") == "kthreadd"
    return Running(
        frozenset(names),
        ""
        if whole
        else "this process sees only some of the machine's programs (a container, or a service with ProtectProc=); "
        "run the agent on the machine itself, or take the programs out of the wishes",
    )


def from_ps(text: str) -> frozenset[str]:
    """From `ps -axo comm=`, one full path or name per line."""
    return frozenset(plain(line.strip()) for line in text.splitlines() if line.strip())


def comm(entry: Path) -> str:
    """The name of the process that has the folder `entry` in /proc; "" if it is gone or hidden."""
    try:
        # Not more than Linux keeps of a name, and whatever bytes it has.
        return (entry / "comm").read_bytes().rstrip(b"\n").decode(errors="replace")
    except OSError:
        return ""


if sys.platform == "win32":

    class _Entry(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("usage", ctypes.c_uint32),
            ("pid", ctypes.c_uint32),
            ("heap", ctypes.c_size_t),
            ("module", ctypes.c_uint32),
            ("threads", ctypes.c_uint32),
            ("parent", ctypes.c_uint32),
            ("priority", ctypes.c_int32),
            ("flags", ctypes.c_uint32),
            ("name", ctypes.c_wchar * 260),
        )

    def _snapshot() -> list[str]:
        """Names from Windows' tool help library."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateToolhelp32Snapshot.restype = ctypes.c_void_p
        for call in (kernel.Process32FirstW, kernel.Process32NextW):
            call.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        kernel.CloseHandle.argtypes = (ctypes.c_void_p,)
        handle = kernel.CreateToolhelp32Snapshot(2, 0)  # TH32CS_SNAPPROCESS
        if handle in {None, ctypes.c_void_p(-1).value}:
            raise Unreadable(f"CreateToolhelp32Snapshot failed with {ctypes.get_last_error()}")
        names: list[str] = []
        try:
            entry = _Entry()
            entry.size = ctypes.sizeof(_Entry)
            more = kernel.Process32FirstW(handle, ctypes.byref(entry))
            while more:
                names.append(str(entry.name))
                more = kernel.Process32NextW(handle, ctypes.byref(entry))
        finally:
            kernel.CloseHandle(handle)
        return names
