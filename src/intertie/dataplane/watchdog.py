"""One timer per attempt that stands for several limits: first output, silence between outputs, the whole deadline."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from intertie.core.errors import DeadlineExceeded, UpstreamTimeout


class Watchdog:
    """Cancels the current task when `limit` passes, and turns that cancellation into the error it means.

    Moving the limit later is one assignment, because it happens for every chunk; the timer looks again when it fires.
    Times are the loop's monotonic seconds.
    """

    __slots__ = ("_armed", "_deadline", "_expired", "_limit", "_loop", "_task", "_timer")

    def __init__(self, limit: float, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._deadline = deadline
        self._limit = min(limit, deadline)
        self._armed = self._limit
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None

    def until(self, limit: float) -> None:
        """The next sign of progress must come before `limit` (or the deadline, if that is earlier)."""
        self._limit = limit
        if limit < self._armed:
            self._arm()

    def pause(self) -> None:
        """Only the deadline counts until `until` is called again: the client, not the upstream, is being waited for."""
        self._limit = self._deadline

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
        self._armed = min(self._limit, self._deadline)
        self._timer = self._loop.call_at(self._armed, self._fire)

    def _fire(self) -> None:
        if self._loop.time() < min(self._limit, self._deadline):
            self._arm()
        elif self._task is not None:
            self._expired = True
            self._task.cancel()
