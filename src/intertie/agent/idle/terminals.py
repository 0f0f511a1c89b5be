"""When consoles and pseudo terminals were last typed at: all there is on a Linux without logind and display."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from intertie.agent.idle import place
from intertie.agent.idle.source import Sample
from intertie.agent.machine.unreadable import Unreadable


class Terminals:
    """The youngest access time of any terminal; the kernel keeps these to about eight seconds."""

    way = "terminals"
    pace = 0.5

    def __init__(self, root: Path = place.ROOT, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` is that of file times. Raises `Unreadable` where terminals are not where people are."""
        kind = place.container(root)
        if kind:
            raise Unreadable(
                f"this is a container ({kind}), from which nobody sees who uses the machine; run the agent "
                "on the machine itself, or wish mode always with hours"
            )
        self._root = root
        self._clock = clock

    def read(self) -> Sample:
        """See `Source`. Without any terminal nobody is there."""
        shown = place.displays(self._root)
        if shown:
            raise Unreadable(
                f"a display ({shown[0]}) runs, whose input no terminal sees; "
                "run the agent inside the desktop session of the user"
            )
        paths = [*self._root.glob("dev/tty[0-9]*"), *self._root.glob("dev/pts/[0-9]*")]
        last = max((_typed(path) for path in paths), default=-math.inf)
        if math.isinf(last):
            return Sample(math.inf, "no user session here")
        return Sample(max(self._clock() - last, 0.0))

    def close(self) -> None:
        """See `Source`."""


def _typed(path: Path) -> float:
    try:
        return path.stat().st_atime
    except OSError:
        return -math.inf
