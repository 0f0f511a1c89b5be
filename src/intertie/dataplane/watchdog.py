"""One timer per attempt that stands for several limits: first output, silence between outputs, the whole deadline."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from intertie.core.errors import DeadlineExceeded, UpstreamTimeout
from intertie.dataplane.heartbeat import Pulse


class Watchdog:
    """Cancels the current task when `limit` passes, and turns that cancellation into the error it means.

    Once output flows, progress is the `Pulse` that the relay stores for every piece; the timer reads it when it fires.
    Times are the loop's monotonic seconds.
    """

    __slots__ = ("_armed", "_between", "_deadline", "_expired", "_limit", "_loop", "_pulse", "_task", "_timer")

    def __init__(self, limit: float, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._deadline = deadline
        self._limit = min(limit, deadline)
        self._armed = self._limit
        self._between = 0.0
        self._pulse: Pulse | None = None
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, pulse: Pulse, between: float) -> None:
        """From now on silence counts: `between` seconds after the pulse, unless that is blocked."""
        self._pulse = pulse
        self._between = between
        if pulse.at + between < self._armed:
            self._arm()

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._expired or self._task is None:
            return
        others = self._task.uncancel()
        if others == 0 and (kind is None or issubclass(kind, asyncio.CancelledError)):
            if self._loop.time() >= self._deadline:
                raise DeadlineExceeded("The request's deadline passed.") from None
            raise UpstreamTimeout("The upstream did not answer in time.") from None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self._due()
        self._timer = self._loop.call_at(self._armed, self._fire)

    def _due(self) -> float:
        limit = self._limit if self._pulse is None else self._pulse.at + self._between
        return min(limit, self._deadline)

    def _fire(self) -> None:
        now = self._loop.time()
        if self._pulse is not None and self._pulse.blocked and now < self._deadline:
            self._pulse.at = now  # the client's time is not the upstream's
        if now < self._due():
            self._arm()
        elif self._task is not None:
            self._expired = True
            self._task.cancel()
