"""Which requests may change the protocol of their connection."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.api.edge.intake import Intake, Request
from intertie.api.edge.rules import EdgeLimits, Header
from intertie.api.edge.state import Edge
from intertie.api.edge.upgrade import Handshake, asks, read_handshake, switching
from intertie.core.errors import BadCall, GatewayError

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEADERS: list[Header] = [
    (b"host", b"localhost"),
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-protocol", b"a, link.1"),
]
HEAD = (
    b"GET /link HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: link.1\r\n\r\n"
)


class Door:
    """Takes WebSockets on one path."""

    paths = frozenset({"/link"})
    subprotocol = "link.1"

    def accept(self, handshake: Handshake) -> asyncio.Protocol:
        raise AssertionError(handshake)


class Basket:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.handed: list[tuple[Handshake, bytes]] = []
        self.waiting = 0

    def take(self, request: Request) -> None:
        self.requests.append(request.target.path)

    def hand_over(self, handshake: Handshake, rest: bytes) -> None:
        self.handed.append((handshake, rest))


def fed(*pieces: bytes) -> Basket:
    basket = Basket()
    intake = Intake(Edge(EdgeLimits(hosts=("localhost",)), Door()), basket)
    for piece in pieces:
        if basket.handed:
            handshake, rest = basket.handed.pop()
            basket.handed.append((handshake, rest + piece))
        else:
            intake.feed(piece)
    return basket


@given(st.lists(st.integers(0, len(HEAD) + 6), max_size=6))
def test_however_it_is_cut_the_connection_is_handed_over_with_what_follows(cuts: list[int]) -> None:
    content = HEAD + b"\x81\x80abcd"
    ends = sorted(cuts)
    pieces = [content[a:b] for a, b in zip([0, *ends], [*ends, len(content)], strict=True)]

    basket = fed(*pieces)

    ((handshake, rest),) = basket.handed
    assert (handshake.path, handshake.key, rest) == ("/link", KEY.decode(), b"\x81\x80abcd")
    assert handshake.headers[b"host"] == b"localhost"
    assert not basket.requests


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ((b"Host: localhost", b"Host: elsewhere"), "misdirected_request"),
        ((b"Host: localhost\r\n", b""), "invalid_host"),
        ((b"Version: 13", b"Version: 7"), "bad_handshake"),
        ((b"GET /link", b"GET /link//"), "invalid_target"),
    ],
)
def test_the_checks_are_those_of_any_request(change: tuple[bytes, bytes], code: str) -> None:
    with pytest.raises(GatewayError) as caught:
        fed(HEAD.replace(*change))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "change", [(b"/link", b"/x"), (b"GET", b"PUT"), (b"websocket", b"h2c"), (b"websocket", b"a, b")]
)
def test_elsewhere_the_wish_is_ignored(change: tuple[bytes, bytes]) -> None:
    basket = fed(HEAD.replace(*change))

    assert len(basket.requests) == 1
    assert not basket.handed


def test_a_wish_is_for_one_thing() -> None:
    assert asks(b"GET", [(b"upgrade", b"WebSocket")])
    assert not asks(b"GET", [(b"upgrade", b"websocket"), (b"upgrade", b"h2c")])
    assert not asks(b"GET", [])


@pytest.mark.parametrize("name", [b"sec-websocket-key", b"sec-websocket-version", b"authorization"])
def test_what_must_be_said_once_is(name: bytes) -> None:
    twice = [*HEADERS, (name, b"x"), (name, b"x")]
    with pytest.raises(BadCall):
        read_handshake("/link", "1.1", twice, "link.1")


@pytest.mark.parametrize("value", [b"https://ai.example.com", b"null", b""])
def test_no_page_in_a_browser_may_connect(value: bytes) -> None:
    with pytest.raises(BadCall) as caught:
        read_handshake("/link", "1.1", [*HEADERS, (b"origin", value)], "link.1")
    assert caught.value.status == 403


def test_an_older_http_has_no_websockets() -> None:
    with pytest.raises(BadCall):
        read_handshake("/link", "1.0", HEADERS, "link.1")


def test_the_answer_proves_that_it_was_understood() -> None:
    answer = switching(read_handshake("/link", "1.1", HEADERS, "link.1"), "link.1", b"date: today\r\n")

    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\ndate: today\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: link.1\r\n\r\n"
    )
