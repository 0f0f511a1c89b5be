"""GNOME's idle monitor, over the bus of the user's session; the same on Wayland and X."""

from __future__ import annotations

from intertie.agent.idle.dbus import Bus, session_address
from intertie.agent.idle.source import Sample

_NAME = "org.gnome.Mutter.IdleMonitor"
_PATH = "/org/gnome/Mutter/IdleMonitor/Core"


class Mutter:
    """Milliseconds since the last input of the session, as GNOME's own screen blanking sees them."""

    way = "GNOME's idle monitor"
    pace = 0.5

    def __init__(self, address: str | None = None) -> None:
        """Raises `Unreadable` outside a session of GNOME."""
        self._bus = Bus(address or session_address(), "session bus")

    def read(self) -> Sample:
        """See `Source`."""
        return Sample(float(self._bus.call(_NAME, _PATH, _NAME, "GetIdletime")) / 1000)

    def close(self) -> None:
        """See `Source`."""
        self._bus.close()
