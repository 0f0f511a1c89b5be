"""What tells this machine from another: its name, its kind, and the id by which copies of a node are noticed."""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Final

from intertie.core.wire import enrolment

LONGEST_NAME: Final = 100
_ID_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"), Path("/etc/hostid"))
_GUID_KEY: Final = r"SOFTWARE\Microsoft\Cryptography"
_PATIENCE: Final = 5.0
_GROUP_BIT: Final = 1 << 40
"""Set in an Ethernet address that Python made up because it found none."""


def fingerprint() -> str:
    """A hash of the machine's own id; empty if it has none."""
    found = machine_id()
    return enrolment.fingerprint(found) if found else ""


def machine_id() -> str:
    """What the operating system calls this machine, else its Ethernet address, else nothing."""
    found = _registry() if sys.platform == "win32" else _ioreg() if sys.platform == "darwin" else _file()
    if found:
        return found
    address = uuid.getnode()
    return "" if address & _GROUP_BIT else f"{address:012x}"


def kind() -> str:
    """Operating system and processor, such as `linux-x86_64`."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def default_name() -> str:
    """The machine's own name, in the characters that names of nodes have."""
    return fit_name(platform.node().split(".")[0]) or "node"


def fit_name(text: str) -> str:
    """`text` without what a node's name cannot have; may be empty."""
    return re.sub(r"[^A-Za-z0-9._@+-]+", "-", text).strip("._@+-")[:LONGEST_NAME]


def _file() -> str:
    for path in _ID_FILES:
        try:
            if found := path.read_text("ascii").strip():
                return found
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def _ioreg() -> str:
    command = ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r'"IOPlatformUUID" = "([0-9A-Fa-f-]+)"', told)
    return found[1] if found else ""


def _registry() -> str:
    if sys.platform == "win32":
        import winreg

        with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _GUID_KEY) as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    return ""
