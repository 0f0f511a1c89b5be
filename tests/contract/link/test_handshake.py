"""What the edge makes of requests that ask for a WebSocket, byte by byte on a real socket."""

from __future__ import annotations

import asyncio

import pytest

from intertie.core.wire.websocket import accept_key
from tests.contract.link.bed import Bed

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HEAD = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "other, intertie.link.1",
}


def request(path: str = "/link", method: str = "GET", **changed: str | None) -> bytes:
    """A handshake with some headers changed (underscores are dashes), or left out where they are `None`."""
    headers = {**HEAD, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


async def exchange(bed: Bed, *pieces: bytes) -> bytes:
    """The head of the answer, or of all answers until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    finally:
        writer.close()


async def test_a_proper_handshake_switches_and_leaves_the_edges_books(bed: Bed) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    writer.write(request())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()

    assert head.startswith("HTTP/1.1 101 ")
    assert f"\r\nsec-websocket-accept: {accept_key(KEY)}\r\n" in head
    assert "\r\nsec-websocket-protocol: intertie.link.1\r\n" in head
    assert (await reader.readexactly(2))[0] == 0x81, "the challenge"
    assert bed.server.statistics().connections == 0
    assert not bed.server.server_state.connections
    assert bed.links.connections == 1
    writer.close()


@pytest.mark.parametrize("cut", [1, 40, 10_000])
async def test_what_follows_the_head_belongs_to_the_websocket(bed: Bed, cut: int) -> None:
    content = request() + b"\x81\x80abcd"  # an empty text, which is no message
    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    for at in range(0, len(content), cut):
        writer.write(content[at : at + cut])
        if cut == 40:
            await asyncio.sleep(0.01)
    received = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert received.startswith(b"HTTP/1.1 101 ")
    assert b"\x0f\xa0a message is not JSON" in received, "closed with 4000"


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"Origin": "https://ai.example.com"}, 403, b"origin_refused"),
        ({"Origin": ""}, 403, b"origin_refused"),
        ({"Sec_WebSocket_Version": "8"}, 400, b"bad_handshake"),
        ({"Sec_WebSocket_Version": None}, 400, b"bad_handshake"),
        ({"Sec_WebSocket_Key": None}, 400, b"bad_handshake"),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400, b"bad_handshake"),
        ({"Sec_WebSocket_Protocol": "intertie.link.2"}, 400, b"bad_handshake"),
        ({"Sec_WebSocket_Protocol": None}, 400, b"bad_handshake"),
        ({"Host": "a b"}, 400, b"invalid_host"),
        ({"Host": None}, 400, b"invalid_host"),
    ],
)
async def test_a_bad_handshake_is_told_what_is_wrong(
    bed: Bed, changed: dict[str, str | None], status: int, code: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    writer.write(request("/link", "GET", **changed))
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert code in answer
    assert bed.links.connections == 0


async def test_a_second_key_is_refused(bed: Bed) -> None:
    doubled = request().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n\r\n")

    assert (await exchange(bed, doubled)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "asked",
    [
        request("/elsewhere"),
        request("/link/other"),
        request("/link", "POST", Content_Length="0"),
        request("/link", Upgrade="h2c"),
        request("/link", Upgrade=None, Connection=None),
        request("/link", Content_Length="2") + b"hi",
    ],
)
async def test_anything_else_is_an_ordinary_request(bed: Bed, asked: bytes) -> None:
    assert (await exchange(bed, asked)).startswith(b"HTTP/1.1 404 ")


async def test_a_websocket_does_not_begin_before_an_earlier_answer(bed: Bed) -> None:
    earlier = b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    writer.write(earlier + request())
    answers = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answers.startswith(b"HTTP/1.1 404 ")
    assert b"HTTP/1.1 400 " in answers

    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    writer.write(earlier)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
    writer.write(request())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 "), "after it, on the same connection"
    writer.close()
