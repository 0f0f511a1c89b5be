"""Load shedding, first version: refuse new work while the event loop lags or memory runs out (S9)."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from intertie.core.errors import GatewayError, Overloaded, ShuttingDown

_PAGE: Final = mmap.PAGESIZE

_MOST_FILES: Final = 65_536

TICK: Final = 0.1
"""Seconds between two looks at the loop's lag."""

LAG_WINDOW: Final = 50
"""Ticks remembered: five seconds."""

LAG_LIMIT: Final = 0.2
"""Seconds of lag at which ordinary requests are refused, if a tenth of the window has it: hiccups do not count."""

_HICCUPS: Final = LAG_WINDOW // 10
"""Late ticks in the window that are forgiven: a burst of new streams is late once or twice and shuts no door."""

MEMORY_LIMIT: Final = 0.85
"""Share of the memory limit at which ordinary requests are refused."""


class Shedder:
    """Watches lag and memory; `admit` is a comparison of plain attributes."""

    def __init__(self, memory_used: Callable[[], int], memory_limit: int) -> None:
        self._memory_used = memory_used
        self._memory_limit = memory_limit
        self._lags: deque[float] = deque(maxlen=LAG_WINDOW)
        self.lag = 0.0
        """Lag that a tenth of the last five seconds exceeds, seconds."""
        self.memory_share = 0.0
        self._reason: str | None = None
        self.draining = False

    def admit(self) -> None:
        """Pass, or raise `Overloaded` or `ShuttingDown`."""
        if self.draining:
            raise ShuttingDown("The gateway is shutting down.", retry_after=2)
        if self._reason is not None:
            raise Overloaded(
                "The gateway is overloaded; try again shortly.", detail=self._reason, retry_after=random.uniform(1, 2.5)
            )

    async def watch(self) -> None:
        """Measure until cancelled."""
        time = asyncio.get_running_loop().time
        ticks = 0
        while True:
            before = time()
            await asyncio.sleep(TICK)
            ticks += 1
            if ticks % 10 == 0:
                self.memory_share = self._memory_used() / self._memory_limit if self._memory_limit else 0.0
            self.saw(max(0.0, time() - before - TICK))

    def saw(self, lag: float) -> None:
        """Judge anew after a tick that came `lag` seconds late."""
        self._lags.append(lag)
        self.lag = sorted(self._lags)[-_HICCUPS - 1] if len(self._lags) > _HICCUPS else 0.0
        self._reason = self._judge()

    def _judge(self) -> str | None:
        if self.lag > LAG_LIMIT:
            return f"event loop lags {self.lag * 1000:.0f} ms"
        if self.memory_share > MEMORY_LIMIT:
            return f"memory at {self.memory_share:.0%} of the limit"
        return None


def unfinished(error: GatewayError | None) -> GatewayError:
    """What a request that the gateway ends itself is told."""
    return error or ShuttingDown("The gateway is shutting down.", retry_after=2)


def resident_bytes() -> int:
    """Memory this process holds now; 0 where the system does not say cheaply."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 (once a second, on the event loop)
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def memory_of_machine() -> int:
    """Bytes this process may use: the control group's limit or the machine's memory; 0 if unknown."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text().strip()))
    with contextlib.suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * _PAGE)
    return min(limits, default=0)


def most_files() -> int:
    """How many files this process may hold open, sockets among them, after it asked for all it can get; 0 if unknown.

    Systems begin with 1024 for the sake of programs that use `select`. Each lane of a node is an open file.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS has another limit behind this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft
