"""What a service manager is told, where one asks (systemd's notification socket); nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

_ADDRESS: Final = "NOTIFY_SOCKET"
_WATCHDOG: Final = "WATCHDOG_USEC"


class Supervisor:
    """The service manager that started this process, if it wants to be told."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = environ.get(_ADDRESS, "")
        wait = environ.get(_WATCHDOG, "")
        self._every = int(wait) / 4e6 if wait.isdigit() and int(wait) else float("inf")
        self._last = float("-inf")

    def __repr__(self) -> str:
        return f"<Supervisor {self._address or 'none'}>"

    def tell(self, state: str) -> None:
        """Send one assignment, such as `READY=1`."""
        family = getattr(socket, "AF_UNIX", None)
        if family is None or not self._address.startswith(("/", "@")):
            return
        place = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as carrier:
            carrier.sendto(state.encode(), place)

    def beat(self, now: float) -> None:
        """Say that the event loop is alive, four times within what the service manager waits; `now` is monotonic."""
        if now - self._last >= self._every:
            self._last = now
            self.tell("WATCHDOG=1")
