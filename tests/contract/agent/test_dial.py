"""Dialling a gateway: proxies, TLS, and everything that may answer instead of one."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from intertie.agent import dial as dialling
from intertie.agent.dial import DialFailed, dial, way
from intertie.agent.socket import Heart, Socket
from intertie.core.wire.link import SUBPROTOCOL
from intertie.core.wire.websocket import TEXT, accept_key
from tests.support.proxy import ConnectProxy
from tests.support.scripted import refusing, soon

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.end: tuple[int, str] | None = None

    def met(self, socket: Socket) -> None: ...

    def message(self, opcode: int, payload: bytes) -> None:
        self.heard.append(payload)

    def lost(self, code: int, reason: str) -> None:
        self.end = (code, reason)

    def stuck(self) -> None: ...

    def flowing(self) -> None: ...


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


async def called(link: str, ear: Ear | None = None) -> tuple[Socket, Ear]:
    ear = ear or Ear()
    return await dial(await way(link), "/lane", ear, Heart(lambda: None), {"authorization": "Bearer t"}), ear


async def echo(socket: ServerConnection) -> None:
    assert socket.request is not None
    assert (socket.request.path, socket.request.headers["authorization"]) == ("/link/lane", "Bearer t")
    async for message in socket:
        await socket.send(message)


@asynccontextmanager
async def gateway(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    subprotocols = [Subprotocol(SUBPROTOCOL)]
    async with serve(echo, "127.0.0.1", 0, subprotocols=subprotocols, ssl=context, close_timeout=0.2) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """A server of the test's own; the address of a link on it."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/link"


def answering(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in head.decode().split("\r\n") if line.startswith("sec-websocket-key: "))
        writer.write(answer.replace(b"ACCEPT", accept_key(key.partition(": ")[2]).encode()))
        await writer.drain()

    return talk


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A gateway's certificate for the name gateway.test, which this machine trusts for the length of the test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway.test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("gateway.test"), x509.DNSName("localhost")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "gateway.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())
    monkeypatch.setattr(dialling, "trusting", lambda: client)
    return server


async def test_a_socket_carries_messages_both_ways_and_closes_properly() -> None:
    async with gateway() as port:
        socket, ear = await called(f"http://127.0.0.1:{port}/link")
        for size in (0, 1, 125, 126, 65535, 65536):
            socket.send(TEXT, b"x" * size)
        assert await soon(lambda: [len(one) for one in ear.heard] == [0, 1, 125, 126, 65535, 65536], 2)
        socket.close(1000, "done")
        assert ear.end == (1000, "done")


async def test_encrypted_and_trusted(certificates: ssl.SSLContext) -> None:
    async with gateway(certificates) as port:
        socket, ear = await called(f"https://localhost:{port}/link")
        socket.send(TEXT, b"x" * 500_000)
        assert await soon(lambda: ear.heard == [b"x" * 500_000], 2)
        socket.abort()
        assert ear.end == (1006, "")


@pytest.mark.parametrize("encrypted", [True, False])
async def test_through_a_proxy_with_a_password(
    certificates: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    context = certificates if encrypted else None
    proxy = ConnectProxy("user", "p@ss")
    async with gateway(context) as port, proxy.running():
        proxy.sends_to = ("127.0.0.1", port)
        monkeypatch.setenv("HTTPS_PROXY" if encrypted else "HTTP_PROXY", proxy.url.replace("//", "//user:p%40ss@"))
        scheme = "https" if encrypted else "http"
        socket, ear = await called(f"{scheme}://gateway.test:{port}/link")
        socket.send(TEXT, b"hello")
        assert await soon(lambda: ear.heard == [b"hello"], 2)
        assert proxy.asked == [f"CONNECT gateway.test:{port} HTTP/1.1"]
        socket.close()
        monkeypatch.setenv("NO_PROXY", "gateway.test")
        assert (await way(f"{scheme}://gateway.test/link")).proxy is None


@pytest.mark.parametrize(
    ("password", "said"), [("wrong", "asks for a user name and password"), ("", "asks for a user name and password")]
)
async def test_a_proxy_that_wants_another_password(monkeypatch: pytest.MonkeyPatch, password: str, said: str) -> None:
    async with ConnectProxy("user", "right").running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", f"//user:{password}@") if password else proxy.url)
        with pytest.raises(DialFailed, match=said) as caught:
            await called("http://gateway.test/link")
        assert "wrong" not in str(caught.value)


async def test_a_certificate_that_is_not_trusted_is_said_to_be(
    certificates: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "trusting", ssl.create_default_context)
    async with gateway(certificates) as port:
        with pytest.raises(DialFailed, match="certificate is not trusted"):
            await called(f"https://127.0.0.1:{port}/link")


_UPGRADED = b"HTTP/1.1 101 OK\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
_OURS = b"sec-websocket-protocol: intertie.link.1\r\n"
_REFUSED = b'{"error":{"message":"no such thing\\u0007"}}'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "does not let WebSocket upgrades through"),
        (b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n", "does not let WebSocket upgrades through"),
        (b"HTTP/1.1 101 OK\r\nupgrade: websocket\r\nconnection: close\r\n\r\n", "does not let WebSocket upgrades"),
        (_UPGRADED + _OURS + b"sec-websocket-accept: wrong\r\n\r\n", "does not let WebSocket upgrades through"),
        (_UPGRADED + b"sec-websocket-accept: ACCEPT\r\n\r\n", "another protocol"),
        (
            _UPGRADED + _OURS + b"sec-websocket-accept: ACCEPT\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n",
            "another protocol",
        ),
        (
            b"HTTP/1.1 404 No\r\ncontent-length: %d\r\n\r\n" % len(_REFUSED) + _REFUSED,
            r"no gateway .*404: no such thing\)",
        ),
        (b"HTTP/1.1 403 No\r\n\r\n" + _REFUSED, r"refused the connection \(HTTP 403: no such thing\)"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://evil/\r\ncontent-length: 0\r\n\r\n", "refused the connection"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000, "not HTTP"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 1", "closed the connection"),
    ],
)
async def test_what_answers_instead_of_a_gateway_is_told_in_words(answer: bytes, said: str) -> None:
    async with talking(answering(answer)) as link:
        with pytest.raises(DialFailed, match=said) as caught:
            await called(link)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("header", "wait"), [("7", 7.0), ("999999", 600.0), ("soon", None), ("-5", None), ("٣", None), ("9" * 400, None)]
)
async def test_a_busy_gateway_says_how_long_to_wait(header: str, wait: float | None) -> None:
    answer = f"HTTP/1.1 503 Busy\r\nretry-after: {header}\r\ncontent-length: 0\r\n\r\n".encode()
    async with talking(answering(answer)) as link:
        with pytest.raises(DialFailed, match="too busy") as caught:
            await called(link)
        assert (caught.value.status, caught.value.retry_after) == (503, wait)


async def test_an_order_right_behind_the_handshake_is_not_lost() -> None:
    frames = b"\x81\x05hello" + b"\x82\x7e\xff\xff" + b"x" * 65535
    many = _UPGRADED + _OURS + b"sec-websocket-accept: ACCEPT\r\n\r\n" + frames * 20
    async with talking(answering(many)) as link:
        _, ear = await called(link)
        assert await soon(lambda: len(ear.heard) == 40, 2)
        assert await soon(lambda: ear.end == (1006, ""), 2)


async def test_silence_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "DIAL_SECONDS", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(silent) as link:
        with pytest.raises(DialFailed, match="in time"):
            await called(link)


async def test_nobody_there() -> None:
    with refusing() as origin, pytest.raises(DialFailed, match="Connection refused"):
        await called(f"{origin}/link")


@pytest.mark.parametrize("link", ["", "ftp://x/link", "http://x:99999/link", "http:///link"])
async def test_an_address_that_is_none(link: str) -> None:
    with pytest.raises(DialFailed):
        await called(link)
