"""HTTP/1.1 towards upstreams, plain and over TLS: pooled connections, no redirects, cookies, proxies or decoding."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import TracebackType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import truststore

from intertie.core.errors import UpstreamReset, UpstreamUnreachable
from intertie.core.terms import Secret
from intertie.core.wire.http import Head, WireRequest
from intertie.dataplane.transport.contract import WireReply
from intertie.dataplane.transport.http1 import Connection

IDLE_SECONDS: Final = 60.0
"""A pooled connection unused for this long is closed."""

MAX_IDLE: Final = 512
"""Pooled connections per upstream and address."""

MAX_WHOLE: Final = 8 * 1024 * 1024
TLS_SECONDS: Final = 5.0


class Address(NamedTuple):
    """Where connections lead."""

    host: str
    port: int
    encrypted: bool


Pool = tuple[str, Address]
"""`WireRequest.pool` and address. Upstreams share no connection even where they share an address: one whose answers do
not end where they say spoils the next answer on its connection, and that must be nobody else's (F14)."""


class HttpTransport:
    """Connection pools of the upstreams that share a connect timeout (seconds)."""

    def __init__(self, connect: float) -> None:
        self._connect = connect
        self._idle: dict[Pool, deque[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<HttpTransport {sum(map(len, self._idle.values()))} idle connections>"

    def open(
        self, request: WireRequest, secret: Secret | None, sent: Callable[[], None]
    ) -> AbstractAsyncContextManager[WireReply]:
        """Send and wait for the head; see `Transport.open`."""
        return _Exchange(self, request, secret, sent)

    async def close(self) -> None:
        """Close pooled connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()

    def take(self, pool: Pool) -> Connection | None:
        """The most recently used idle connection, if one still lives."""
        idle = self._idle.get(pool)
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    def give_back(self, pool: Pool, connection: Connection) -> None:
        """Keep a connection whose answer came whole, close any other."""
        idle = self._idle.setdefault(pool, deque())
        if not connection.finished or len(idle) >= MAX_IDLE:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(IDLE_SECONDS / 4, self._sweep)

    async def connect(self, address: Address) -> Connection:
        """A new connection. Raises `UpstreamUnreachable`."""
        loop = asyncio.get_running_loop()
        context = self._tls() if address.encrypted else None
        try:
            async with asyncio.timeout(self._connect):
                _, connection = await loop.create_connection(
                    Connection,
                    address.host,
                    address.port,
                    ssl=context,
                    server_hostname=address.host if context else None,
                    ssl_handshake_timeout=min(TLS_SECONDS, self._connect) if context else None,
                )
        except TimeoutError:
            raise UpstreamUnreachable("The upstream cannot be reached.", detail="connecting timed out") from None
        except ssl.SSLCertVerificationError as error:
            raise UpstreamUnreachable(
                "The upstream cannot be reached.", detail=f"TLS: {error.verify_message}"
            ) from None
        except (OSError, UnicodeError) as error:
            raise UpstreamUnreachable("The upstream cannot be reached.", detail=_reason(error)) from None
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._context

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        for pool, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since < oldest or not idle[0].usable):
                idle.popleft().abort()
            if not idle:
                del self._idle[pool]
        self._sweeper = loop.call_later(IDLE_SECONDS / 4, self._sweep) if self._idle else None


class _Reply:
    """A connection's answer behind `WireReply`."""

    __slots__ = ("_connection", "head")

    def __init__(self, head: Head, connection: Connection) -> None:
        self.head = head
        self._connection = connection

    async def chunk(self) -> bytes | None:
        return await self._connection.chunk()

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        return await self._connection.pour(take)

    async def whole(self) -> bytes:
        return await self._connection.whole(MAX_WHOLE)


class _Exchange(AbstractAsyncContextManager[WireReply]):
    """One request and its answer; leaving before the answer is whole closes the connection."""

    __slots__ = ("_connection", "_pool", "_request", "_secret", "_sent", "_transport")

    def __init__(
        self, transport: HttpTransport, request: WireRequest, secret: Secret | None, sent: Callable[[], None]
    ) -> None:
        self._sent = sent
        self._transport = transport
        self._request = request
        self._secret = secret
        self._pool = (request.pool, _target(request.url)[0])
        self._connection: Connection | None = None

    async def __aenter__(self) -> WireReply:
        pooled = self._transport.take(self._pool)
        if pooled is not None:
            try:
                return await self._ask(pooled)
            except UpstreamReset:
                # A pooled connection that closes without a byte of answer was stale: once more, on a fresh one (F10).
                if not pooled.silent:
                    raise
        return await self._ask(await self._transport.connect(self._pool[1]))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._transport.give_back(self._pool, self._connection)

    async def _ask(self, connection: Connection) -> WireReply:
        self._connection = connection
        try:
            connection.send(*self._packed())
            self._sent()
            return _Reply(await connection.head(), connection)
        except BaseException:
            connection.abort()
            raise

    def _packed(self) -> tuple[bytes, ...]:
        request = self._request
        lines = [_target(request.url)[1]]
        lines += [f"{name}: {value}\r\n" for name, value in request.headers.items()]
        if self._secret is not None:
            lines.append(f"authorization: Bearer {self._secret.reveal()}\r\n")
        lines.append(f"content-length: {len(request.body)}\r\n\r\n")
        head = f"{request.method} {''.join(lines)}"
        lines_wanted = len(request.headers) + 5 + (self._secret is not None)
        if not head.count("\r") == head.count("\n") == lines_wanted:
            raise UpstreamUnreachable("The upstream is misconfigured.", detail="a header holds a line end")
        if len(request.body) > _JOINED:
            return head.encode("latin-1"), request.body
        return (head.encode("latin-1") + request.body,)


_JOINED: Final = 64 * 1024
"""Bodies up to this size leave in one piece with their head."""


@lru_cache(maxsize=1024)
def _target(url: str) -> tuple[Address, str]:
    """Where a URL leads, and the rest of its request line with the headers that never change. Parsed once (T34)."""
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    host = parts.hostname or ""
    address = Address(host, parts.port or (443 if encrypted else 80), encrypted)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    shown = f"[{host}]" if ":" in host else host
    shown += f":{parts.port}" if parts.port else ""
    return address, f"{path} HTTP/1.1\r\nhost: {shown}\r\nuser-agent: intertie\r\n"


def _reason(error: Exception) -> str:
    """What went wrong, without the address that Python puts into its message."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    return type(error).__name__
