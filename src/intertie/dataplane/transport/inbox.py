"""The reading half of a connection that brings answers: pieces, who waits for them, and backpressure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from intertie.core.errors import UpstreamError
from intertie.core.wire.http import Head

HIGH_WATER: Final = 64 * 1024
"""Unread body bytes at which the upstream is no longer read, so that a slow client slows its own upstream only."""


class Inbox:
    """One answer at a time. The connection fills `_head`, `_chunks`, `_done` and `_error` and calls `_wake`.

    One reader waits at a time. It is woken when there is something for it, not for every packet.
    """

    def __init__(self) -> None:
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._waiting_for_end = False
        self._sink: Callable[[bytes], bool] | None = None
        self._stopped = False
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._water = HIGH_WATER
        self._paused = False
        self._head: Head | None = None
        self._done = False
        self._error: UpstreamError | None = None

    # -- for the transport -------------------------------------------------------------------------------------------

    async def head(self) -> Head:
        """Wait for the head of the answer. Raises an `UpstreamError`."""
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._head

    async def chunk(self) -> bytes | None:
        """Body bytes as they come, `None` at the proper end. Raises `UpstreamReset` or `UpstreamInvalid`."""
        while not self._chunks:
            if self._done:
                return None
            if self._error is not None:
                raise self._error
            await self._wait()
        piece = self._all()
        self._resume()
        return piece

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Hand pieces to `take` in the callback that brought them; see `WireReply.pour`. Raises as `chunk` does."""
        self._sink = take
        try:
            while True:
                if self._chunks and not take(self._all()):
                    return False
                if self._stopped:
                    self._stopped = False
                    return False
                if self._done:
                    return True
                if self._error is not None:
                    raise self._error
                self._resume()
                await self._wait(until_done=True)
        finally:
            self._sink = None

    async def whole(self, limit: int) -> bytes:
        """The rest of the body, which the caller knows to be at most `limit` bytes. Raises as `chunk` does."""
        self._water = limit + HIGH_WATER
        self._resume()
        while not self._done:
            if self._error is not None:
                raise self._error
            await self._wait(until_done=True)
        return self._all()

    # -- for the connection ------------------------------------------------------------------------------------------

    def _expect(self) -> None:
        """Another answer begins; nothing of the last one is left."""
        self._head = None
        self._done = self._stopped = False
        self._water = HIGH_WATER

    def _keep(self, body: bytes) -> None:
        """Part of the body that no sink awaits; with one, append to `_chunks` and call `_pour` after the packet."""
        self._chunks.append(body)
        self._unread += len(body)
        if self._unread > self._water and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _pour(self, sink: Callable[[bytes], bool]) -> None:
        """Give the sink what this packet brought, in one piece."""
        try:
            self._stopped = not sink(self._all())
        except Exception as mistake:  # noqa: BLE001 (it belongs to the task that waits, not to the event loop)
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(mistake)
        if self._stopped:
            self._sink = None
            self._wake()
        elif self._paused:
            self._resume()

    def _fail(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        ended = self._done or self._error is not None or self._stopped
        if ended or (not self._waiting_for_end and self._head is not None):
            waiter.set_result(None)

    async def _wait(self, *, until_done: bool = False) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._waiting_for_end = until_done
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _all(self) -> bytes:
        body = b"".join(self._chunks) if len(self._chunks) != 1 else self._chunks[0]
        self._chunks.clear()
        self._unread = 0
        return body
