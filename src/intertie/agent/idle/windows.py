"""Windows: the last input of the session this process is in."""

from __future__ import annotations

import ctypes
import sys
from typing import Protocol

from intertie.agent.idle.source import Sample
from intertie.agent.machine.unreadable import Unreadable

_WRAP = 1 << 32
"""Ticks are milliseconds in 32 bits: they begin anew every 49.7 days."""
_AHEAD = 60_000
"""An input may be stamped a little later than the tick count asked for right after it; that is no idleness of weeks."""


class Calls(Protocol):
    """The three questions to Windows."""

    def session(self) -> int:
        """The session of this process; services are in session 0."""

    def ticks(self) -> int:
        """GetTickCount: milliseconds since Windows started, in 32 bits."""

    def last_input(self) -> int:
        """The tick count of the session's last input. Raises `Unreadable`."""


class LastInput:
    """`GetLastInputInfo`, which by its design sees the caller's own session only."""

    way = "GetLastInputInfo"
    pace = 0.5

    def __init__(self, calls: Calls) -> None:
        """Raises `Unreadable` in a service, which would see nobody ever."""
        self._calls = calls
        if self._calls.session() == 0:
            raise Unreadable(
                "this agent runs as a Windows service (session 0), from which no user's input can be seen; "
                "install it as the per-user task instead, or wish mode always"
            )

    def read(self) -> Sample:
        """See `Source`. Right across a wrap of the tick count; after 49.7 idle days it begins at 0 again."""
        last = self._calls.last_input()
        passed = (self._calls.ticks() - last) % _WRAP
        return Sample(0.0 if passed > _WRAP - _AHEAD else passed / 1000)

    def close(self) -> None:
        """See `Source`."""


if sys.platform == "win32":

    class _LastInput(ctypes.Structure):
        _fields_ = (("size", ctypes.c_uint32), ("time", ctypes.c_uint32))

    class User32:
        """The real `Calls`."""

        def __init__(self) -> None:
            self._user = ctypes.WinDLL("user32")
            self._kernel = ctypes.WinDLL("kernel32")
            self._kernel.GetTickCount.restype = ctypes.c_uint32

        def session(self) -> int:
            """See `Calls`."""
            number = ctypes.c_uint32()
            if not self._kernel.ProcessIdToSessionId(self._kernel.GetCurrentProcessId(), ctypes.byref(number)):
                raise Unreadable("ProcessIdToSessionId failed")
            return number.value

        def ticks(self) -> int:
            """See `Calls`."""
            return int(self._kernel.GetTickCount())

        def last_input(self) -> int:
            """See `Calls`."""
            found = _LastInput()
            found.size = ctypes.sizeof(found)
            if not self._user.GetLastInputInfo(ctypes.byref(found)):
                raise Unreadable("GetLastInputInfo failed")
            return int(found.time)
