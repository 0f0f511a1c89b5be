"""Dialling the gateway: TCP or a proxy's CONNECT, TLS by what this machine trusts, and the WebSocket handshake."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from intertie.agent.http import plainly, trusting
from intertie.agent.proxy import Proxy, ProxyUnusable, proxy_for
from intertie.agent.socket import Heart, Listener, Socket
from intertie.core.wire.http_response import MAX_HEAD, AnswerHead, AnswerReader, BadAnswer, read_head
from intertie.core.wire.link import SUBPROTOCOL
from intertie.core.wire.websocket import VERSION, accept_key

DIAL_SECONDS: Final = 20.0
"""For everything until the WebSocket is open."""
ADDRESS_SECONDS: Final = 6.0
"""For one of several addresses a name stands for."""
MAX_ADDRESSES: Final = 4
MAX_REASON: Final = 16 * 1024
MAX_WAIT: Final = 600.0
"""Seconds of `retry-after` that are believed."""

_STRIPPED: Final = (
    "something between here and the gateway (a proxy or load balancer) does not let WebSocket upgrades through; "
    "allow them for /link and /link/lane"
)


class DialFailed(Exception):
    """No connection; the message is for the owner and holds no secret."""

    def __init__(self, reason: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        """The gateway's HTTP status, 0 if it did not get as far as an answer."""
        self.retry_after = retry_after
        """Seconds the gateway asks to wait."""


class Way(NamedTuple):
    """How to get to the gateway."""

    host: str
    port: int
    encrypted: bool
    path: str
    """Of the control lane; that of data lanes is below it."""
    proxy: Proxy | None

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.encrypted else 80) else f"{host}:{self.port}"


async def way(link: str) -> Way:
    """The way to `link`, an address as enrolment gave it. Looks for a proxy. Raises `DialFailed`."""
    try:
        parts = urlsplit(link)
        encrypted = {"https": True, "wss": True, "http": False, "ws": False}[parts.scheme.lower()]
        host, port = parts.hostname or "", parts.port or (443 if encrypted else 80)
        proxy = await asyncio.to_thread(proxy_for, host, encrypted=encrypted)
    except ProxyUnusable as mistake:
        raise DialFailed(str(mistake)) from None
    except (KeyError, ValueError):
        raise DialFailed("the gateway's address is malformed; enrol this node again") from None
    return Way(host, port, encrypted, parts.path.rstrip("/"), proxy)


async def dial(
    to: Way, path: str, listener: Listener, heart: Heart, headers: Mapping[str, str] | None = None
) -> Socket:
    """Open a WebSocket to `path` below the link. The listener meets the socket before this returns.

    Raises `DialFailed`.
    """
    greeting = _Greeting()
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            await _connect(to, greeting)
            key = base64.b64encode(os.urandom(16)).decode()
            greeting.transport.write(_upgrade(to, path, key, headers or {}))
            head = await greeting.head()
            if head.status != 101:
                raise await _refusal(head, greeting)
            _check(head, key)
    except TimeoutError:
        greeting.abort()
        raise DialFailed("the gateway did not answer in time") from None
    except ssl.SSLCertVerificationError as mistake:
        greeting.abort()
        raise DialFailed(f"the gateway's certificate is not trusted here: {mistake.verify_message}") from None
    except (OSError, UnicodeError, BadAnswer) as mistake:
        greeting.abort()
        raise DialFailed(f"the gateway cannot be reached: {_words(mistake)}") from None
    except BaseException:
        greeting.abort()
        raise
    return greeting.hand_over(Socket(listener, heart))


class _Greeting(asyncio.Protocol):
    """What is said before frames: heads of HTTP answers, one by one."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.buffer = b""
        self.ended = False
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, perhaps to a proxy only."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """More of an answer. What follows a head can wait: a gateway may send an order right behind it."""
        self.buffer += data
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (whatever it was, nobody answered)
        """The end."""
        self.ended = True
        self._wake()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    async def head(self) -> AnswerHead:
        """Wait for the head of the next answer; what follows it stays in `buffer`. Raises `BadAnswer`."""
        while (stop := self.buffer.find(b"\r\n\r\n")) < 0:
            if self.ended or len(self.buffer) > MAX_HEAD:
                raise BadAnswer("it closed the connection" if self.ended else "its answer is not HTTP")
            await self.more()
        block, self.buffer = self.buffer[:stop], self.buffer[stop + 4 :]
        return read_head(block)

    async def more(self) -> None:
        """Wait for bytes, or the end."""
        self._waiter = asyncio.get_running_loop().create_future()
        if not self.transport.is_closing():
            self.transport.resume_reading()
        await self._waiter

    def hand_over(self, socket: Socket) -> Socket:
        """The connection is the socket's from now on. Raises `DialFailed` if it has ended meanwhile."""
        if self.ended or self.transport.is_closing():
            raise DialFailed("the gateway closed the connection at once")
        self.transport.set_protocol(socket)
        socket.connection_made(self.transport)
        if self.buffer:
            socket.data_received(self.buffer)
        if not self.transport.is_closing():
            self.transport.resume_reading()
        return socket

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def _connect(to: Way, greeting: _Greeting) -> None:
    """TCP, CONNECT and TLS, as the way needs."""
    tls = trusting() if to.encrypted else None
    if to.proxy is None:
        await _reach(to.host, to.port, greeting, tls)
        return
    await _reach(to.proxy.host, to.proxy.port, greeting, None)
    target = f"[{to.host}]:{to.port}" if ":" in to.host else f"{to.host}:{to.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}"]
    if to.proxy.authorization:
        lines.append(f"proxy-authorization: {to.proxy.authorization}")
    greeting.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    head = await greeting.head()
    if head.status == 407:
        raise DialFailed("the proxy asks for a user name and password: put them into HTTPS_PROXY", status=407)
    if not 200 <= head.status < 300:
        raise DialFailed(f"the proxy does not let this machine through to the gateway (HTTP {head.status})")
    if greeting.buffer:
        raise DialFailed("the proxy speaks before the gateway does")
    if tls is not None:
        loop = asyncio.get_running_loop()
        greeting.transport = await loop.start_tls(greeting.transport, greeting, tls, server_hostname=to.host)


async def _reach(host: str, port: int, greeting: _Greeting, tls: ssl.SSLContext | None) -> None:
    """Connect to the first address of `host` that answers. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    try:
        addresses = [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]
    named = host if tls is not None else None
    for place in addresses[:-1]:
        try:
            async with asyncio.timeout(ADDRESS_SECONDS):
                await loop.create_connection(lambda: greeting, place, port, ssl=tls, server_hostname=named)
            return
        except ssl.SSLError:
            raise
        except (OSError, TimeoutError):
            greeting.ended, greeting.buffer = False, b""
    await loop.create_connection(lambda: greeting, addresses[-1], port, ssl=tls, server_hostname=named)


def _upgrade(to: Way, path: str, key: str, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"GET {to.path}{path} HTTP/1.1",
        f"host: {to.authority}",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-key: {key}",
        f"sec-websocket-version: {VERSION}",
        f"sec-websocket-protocol: {SUBPROTOCOL}",
        "user-agent: intertie-node",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if any(not line.isprintable() or not line.isascii() for line in lines):
        raise DialFailed("the gateway gave an address or a ticket that cannot be sent")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _check(head: AnswerHead, key: str) -> None:
    """Whether the other end really speaks our WebSocket."""
    told = head.headers
    upgraded = told.get("upgrade", "").lower() == "websocket" and "upgrade" in told.get("connection", "").lower()
    if not upgraded or told.get("sec-websocket-accept") != accept_key(key):
        raise DialFailed(_STRIPPED)
    if told.get("sec-websocket-protocol") != SUBPROTOCOL or "sec-websocket-extensions" in told:
        raise DialFailed("the gateway speaks another protocol; is it an older version?")


async def _refusal(head: AnswerHead, greeting: _Greeting) -> DialFailed:
    """What an HTTP answer means that is no upgrade."""
    status, wait = head.status, head.headers.get("retry-after", "")
    retry_after = min(float(wait), MAX_WAIT) if wait.isascii() and wait.isdigit() and len(wait) < 9 else None
    said = _message(await _body(head, greeting))
    if status in {200, 400, 426} and not said:
        return DialFailed(_STRIPPED, status=status, retry_after=retry_after)
    words = {
        404: "there is no gateway at this address, or it is too old for nodes",
        426: _STRIPPED,
        429: "the gateway is too busy",
        503: "the gateway is too busy or restarts",
    }
    reason = words.get(status, "the gateway refused the connection")
    return DialFailed(f"{reason} (HTTP {status}{': ' + said if said else ''})", status=status, retry_after=retry_after)


async def _body(head: AnswerHead, greeting: _Greeting) -> bytes:
    """The body of a refusal, as far as it is there soon and small."""
    counted = "".join(f"{name}: {head.headers[name]}\r\n" for name in _FRAMING if name in head.headers)
    reader = AnswerReader()
    body = b""
    try:
        reader.feed(f"HTTP/1.1 {head.status} \r\n{counted}\r\n".encode("latin-1"))
        async with asyncio.timeout(2.0):
            while not reader.done and len(body) < MAX_REASON:
                piece, greeting.buffer = greeting.buffer, b""
                body += reader.feed(piece)
                if greeting.ended:
                    break
                if not reader.done:
                    await greeting.more()
    except (BadAnswer, TimeoutError):
        pass
    return body


_FRAMING: Final = ("content-length", "transfer-encoding")


def _message(body: bytes) -> str:
    """The message of the house's error object, fit to be shown."""
    try:
        said = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return "".join(letter for letter in said[:200] if letter.isprintable()) if isinstance(said, str) else ""


def _words(mistake: BaseException) -> str:
    if isinstance(mistake, BadAnswer):
        return str(mistake)
    return plainly(mistake)
