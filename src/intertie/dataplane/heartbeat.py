"""What goes along with a stream at no cost per piece: one timer that looks at when output last went out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

BEAT_SECONDS: Final = 2.0
"""How much of a stream a crash may lose (S14.3), and how often the client's patience is looked at."""

KEEP_ALIVE_SECONDS: Final = 10.0
"""A client waits this long in silence before it gets a head and a comment (S1, soft commit)."""


class Pulse:
    """When output was last written to the client, loop time. The request path stores it; timers read it."""

    __slots__ = ("at", "blocked")

    def __init__(self, at: float) -> None:
        self.at = at
        self.blocked = False
        """The client is behind, so the upstream is not to blame for the silence."""


class Heartbeat:
    """While a stream runs: `checkpoint` after each two seconds with output, `comfort` after ten without.

    `comfort` sends a comment, and before that the head if there was none (soft commit): later failures are then
    reported in-band, but another target may still answer, since no model output has gone out.
    """

    def __init__(self, pulse: Pulse, checkpoint: Callable[[], None], comfort: Callable[[], Awaitable[None]]) -> None:
        self._pulse = pulse
        self._checkpoint = checkpoint
        self._comfort = comfort
        self._loop = asyncio.get_running_loop()
        self._seen = self._comforted = pulse.at
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """The stream is over."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _beat(self) -> None:
        now = self._loop.time()
        last = self._pulse.at
        if last != self._seen:
            self._seen = last
            self._checkpoint()
        elif now - max(last, self._comforted) >= KEEP_ALIVE_SECONDS and (self._task is None or self._task.done()):
            self._comforted = now
            self._task = self._loop.create_task(self._comforting())
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    async def _comforting(self) -> None:
        await self._comfort()
