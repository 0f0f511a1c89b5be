"""What systemd's logind knows: idle hints of desktops, and when terminals were last typed at. Needs no session."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from intertie.agent.idle import place
from intertie.agent.idle.dbus import SYSTEM, Bus
from intertie.agent.idle.source import Sample
from intertie.agent.machine.unreadable import Unreadable

_NAME = "org.freedesktop.login1"
_PATH = "/org/freedesktop/login1"
_MANAGER = "org.freedesktop.login1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"


class Logind:
    """The hint of all sessions together, and since when it holds."""

    way = "systemd-logind"
    pace = 0.5

    def __init__(
        self, address: str = SYSTEM, *, root: Path = place.ROOT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` is the one whose readings logind gives: monotonic. Raises `Unreadable` where there is no logind."""
        if place.container(root):
            raise Unreadable(f"systemd-logind: in a container ({place.container(root)}) it knows nothing of the host")
        self._root = root
        self._clock = clock
        self._bus = Bus(address, "system bus")

    def read(self) -> Sample:
        """See `Source`. No session at all: nobody is there."""
        graphical = place.graphical_sessions(self._root)
        shown = place.displays(self._root)
        if shown and not graphical:
            raise Unreadable(f"systemd-logind: a display ({shown[0]}) runs that it knows nothing of")
        if not self._ask("IdleHint"):
            return Sample(
                0.0,
                "the desktop has not told logind that it is idle; of the desktops only GNOME does" if graphical else "",
            )
        since = float(self._ask("IdleSinceHintMonotonic")) / 1e6
        if not since:
            return Sample(math.inf, "no user session here")
        return Sample(max(self._clock() - since, 0.0), "counted from when the desktop said so" if graphical else "")

    def close(self) -> None:
        """See `Source`."""
        self._bus.close()

    def _ask(self, name: str) -> str | int | float:
        return self._bus.call(_NAME, _PATH, _PROPERTIES, "Get", _MANAGER, name)
