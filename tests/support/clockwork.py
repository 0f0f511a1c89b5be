"""An event loop whose time is its own: when nobody has anything to do, it jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1000.0
"""Where its time begins, seconds."""


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: a wait moves the time instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now. Raises `RuntimeError` if nothing ever will be: the test would hang."""
        found = super().select(0)
        if not found:
            if timeout is None:
                raise RuntimeError("every task waits for another")
            self.now += timeout
        return found


class Clockwork(asyncio.SelectorEventLoop):
    """Hours take seconds, and the same work takes the same time each time. No threads, no sockets."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since some moment."""
        return self._jumping.now


def play(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(work)
