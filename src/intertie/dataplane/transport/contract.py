"""What a transport is: it moves the bytes of one request and one answer, and renames every foreign error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from intertie.core.terms import Secret, Upstream
from intertie.core.wire.http import Head, WireRequest


class WireReply(Protocol):
    """An answer whose head has come and whose body has not been read."""

    head: Head

    async def chunk(self) -> bytes | None:
        """The next bytes as they come, `None` at the proper end. Raises `UpstreamReset` or `UpstreamInvalid`."""
        ...

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Hand pieces to `take` as they come, without waking the caller for each. Raises as `chunk` does.

        Returns true at the proper end of the body, false once `take` did; what was not taken yet is kept for later.
        `take` runs inside the event loop and must not block.
        """
        ...

    async def whole(self) -> bytes:
        """The whole body, for answers whose length was announced and is small. Raises as `chunk` does."""
        ...


class Transport(Protocol):
    """Sends requests to one upstream."""

    def open(
        self, request: WireRequest, secret: Secret | None, sent: Callable[[], None]
    ) -> AbstractAsyncContextManager[WireReply]:
        """Send, call `sent`, and wait for the head. Leaving early closes the connection, which cancels the work.

        Raises `UpstreamUnreachable` (nothing was executed), `UpstreamReset` or `UpstreamInvalid`.
        """
        ...

    async def close(self) -> None:
        """Drop pooled connections."""
        ...


class Transports(Protocol):
    """Finds the transport of an upstream."""

    def of(self, upstream: Upstream) -> Transport:
        """The transport to use; cheap, called once per attempt."""
        ...
