"""macOS: the time since the last event of any keyboard or pointer, which the I/O registry shows to everybody."""

from __future__ import annotations

import re
from collections.abc import Callable

from intertie.agent.idle.source import Sample
from intertie.agent.machine.command import output
from intertie.agent.machine.unreadable import Unreadable

_COMMAND = ("/usr/sbin/ioreg", "-c", "IOHIDSystem", "-d", "4", "-w", "0")
_IDLE = re.compile(r'"HIDIdleTime"\s*=\s*(\d+)')


class Registry:
    """`HIDIdleTime` of `IOHIDSystem`, in nanoseconds."""

    way = "ioreg HIDIdleTime"
    pace = 1.0

    def __init__(self, run: Callable[[], str] = lambda: output(_COMMAND)) -> None:
        self._run = run

    def read(self) -> Sample:
        """See `Source`."""
        found = [int(nanoseconds) for nanoseconds in _IDLE.findall(self._run())]
        if not found:
            raise Unreadable(
                "ioreg shows no HIDIdleTime; is there a keyboard or pointer at all? wish mode always if not"
            )
        return Sample(min(found) / 1e9)

    def close(self) -> None:
        """See `Source`."""
