"""HTTP/1.1 towards runtimes: one connection for one request, closed after it.

Never through a proxy, never along a redirect, and to no other address than the one given. Hanging up is how a runtime
is told to stop, so a connection serves one exchange only and `abort` closes it at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from intertie.core.wire.http_response import AnswerHead, AnswerReader, BadAnswer

CONNECT_SECONDS: Final = 5.0
HIGH_WATER: Final = 256 * 1024
"""Bytes of a request that may wait to be sent before its sender is held back."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class RuntimeGone(Exception):
    """The runtime cannot be reached, or its answer is not HTTP, too large, or broke off. Quotes no address or key."""


class Address(NamedTuple):
    """Where a runtime listens."""

    host: str
    port: int
    encrypted: bool
    base: str
    """What stands before every path; usually empty."""

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.encrypted else 80) else f"{host}:{self.port}"


class Fetched(NamedTuple):
    """A whole answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Receiver(Protocol):
    """Who gets what a runtime answers, in the callbacks that bring it."""

    def headed(self, head: AnswerHead) -> None:
        """The head has come."""

    def took(self, piece: bytes) -> None:
        """Part of the body, never empty, after the head."""

    def over(self, problem: str) -> None:
        """The connection is closed, and nothing more comes: the answer is whole, or `problem` says why it is not."""

    def hold(self) -> None:
        """The runtime takes no more of the request for now."""

    def go_on(self) -> None:
        """It does again."""


@cache
def address(url: str) -> Address:
    """The parts of a runtime's address. Raises `ValueError` with the remedy for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("a runtime's address is like http://127.0.0.1:11434, without a user name or password")
    if parts.query or parts.fragment or not url.isprintable() or " " in url or not url.isascii():
        raise ValueError("a runtime's address has no query, no fragment, no spaces and only ASCII characters")
    encrypted = parts.scheme == "https"
    return Address(parts.hostname, parts.port or (443 if encrypted else 80), encrypted, parts.path.rstrip("/"))


def request_head(target: Address, method: str, path: str, length: int, headers: Mapping[str, str], key: str) -> bytes:
    """A request up to its body. Raises `ValueError` for anything that would not stay in its line."""
    lines = {
        "host": target.authority,
        "user-agent": "intertie-node",
        "accept-encoding": "identity",
        "connection": "close",
        **headers,
    }
    if length or method not in {"GET", "HEAD"}:
        lines["content-length"] = str(length)
    if key:
        lines["authorization"] = f"Bearer {key}"
    text = [f"{method} {target.base}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    if any(not line.isprintable() or not line.isascii() for line in text) or " " in path:
        raise ValueError("a header or path may hold visible ASCII characters only")
    return ("\r\n".join(text) + "\r\n\r\n").encode("ascii")


@cache
def trusting() -> ssl.SSLContext:
    """TLS by what this machine's owner trusts: the operating system's store where `truststore` is installed."""
    try:
        import truststore
    except ImportError:
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Connection(asyncio.Protocol):
    """One request and its answer. Callbacks come until `over`, and none after `abort`."""

    __slots__ = ("_reader", "_receiver", "_transport")

    def __init__(self, receiver: Receiver) -> None:
        self._receiver: Receiver | None = receiver
        self._reader = AnswerReader()
        self._transport: Any = None

    def __repr__(self) -> str:
        return f"<Connection {self._reader!r}>"

    def send(self, piece: bytes) -> None:
        """Part of the request. Dropped once the runtime has hung up."""
        self._transport.write(piece)

    def abort(self) -> None:
        """Close at once; nothing more is called back."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no more of the answer for now; the runtime feels it."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # -- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = transport
        self._transport.set_write_buffer_limits(HIGH_WATER)
        if self._receiver is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse and hand on in this very callback."""
        receiver, reader = self._receiver, self._reader
        if receiver is None:
            return
        headless = reader.head is None
        try:
            piece = reader.feed(data)
        except BadAnswer as mistake:
            self._finish(str(mistake))
            return
        if headless and reader.head is not None:
            receiver.headed(reader.head)
        if piece and self._receiver is not None:
            receiver.took(piece)
        if reader.done and self._receiver is not None:
            self._finish("")

    def eof_received(self) -> bool:
        """The runtime has nothing more to say; so have we."""
        return False

    def pause_writing(self) -> None:
        """The runtime reads slowly."""
        if self._receiver is not None:
            self._receiver.hold()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._receiver is not None:
            self._receiver.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, proper or not."""
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        problem = ""
        try:
            self._reader.end()
        except BadAnswer as mistake:
            problem = str(mistake)
        receiver.over("the connection to the runtime broke" if exc is not None and not problem else problem)

    def _finish(self, problem: str) -> None:
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.over(problem)


async def connect(target: Address, receiver: Receiver, timeout: float = CONNECT_SECONDS) -> Connection:
    """Connect, within `timeout` seconds. Raises `RuntimeGone`."""
    loop = asyncio.get_running_loop()
    tls = trusting() if target.encrypted else None
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(
                lambda: Connection(receiver), target.host, target.port, ssl=tls
            )
    except TimeoutError:
        raise RuntimeGone("the runtime did not accept a connection in time") from None
    except ssl.SSLError as mistake:
        raise RuntimeGone(f"the runtime's certificate or TLS is not acceptable ({mistake.reason})") from None
    except (OSError, UnicodeError) as mistake:
        raise RuntimeGone(f"the runtime cannot be reached ({plainly(mistake)})") from None
    return connection


async def fetch(
    url: str, *, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] = _NOTHING, timeout: float = 2.0,
    limit: int = 4 << 20,
) -> Fetched:  # fmt: skip
    """One small request to a runtime, within `timeout` seconds and `limit` bytes. Raises `RuntimeGone`."""
    parts = urlsplit(url)
    try:
        target = address(f"{parts.scheme}://{parts.netloc}")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = request_head(target, method, path, len(body), headers, "")
    except ValueError as mistake:
        raise RuntimeGone(str(mistake)) from None
    whole = _Whole(limit)
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            connection = await connect(target, whole, timeout)
            connection.send(head + body)
            return await whole.answer
    except TimeoutError:
        raise RuntimeGone("the runtime did not answer in time") from None
    finally:
        if connection is not None:
            connection.abort()


class _Whole:
    """Collects an answer."""

    def __init__(self, limit: int) -> None:
        self.answer: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._head = AnswerHead(0, {})
        self._parts: list[bytes] = []
        self._room = limit

    def headed(self, head: AnswerHead) -> None:
        self._head = head

    def took(self, piece: bytes) -> None:
        self._room -= len(piece)
        if self._room < 0:
            self.over("the runtime's answer is too large")
        else:
            self._parts.append(piece)

    def over(self, problem: str) -> None:
        if self.answer.done():
            return
        if problem:
            self.answer.set_exception(RuntimeGone(problem))
            self.answer.exception()  # it may come when nobody waits any more
        else:
            self.answer.set_result(Fetched(self._head.status, self._head.headers, b"".join(self._parts)))

    def hold(self) -> None: ...

    def go_on(self) -> None: ...


def plainly(mistake: BaseException) -> str:
    """An error of the network in the system's words, without addresses."""
    if isinstance(mistake, OSError) and mistake.errno is not None and mistake.errno > 0:
        return os.strerror(mistake.errno)
    return (mistake.strerror if isinstance(mistake, socket.gaierror) else None) or type(mistake).__name__
