"""Small requests to runtimes over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from intertie.agent.http import Address, RuntimeGone, address, fetch, request_head
from tests.support.replies import EVENTS, LAST_CHUNK, chunked, head, whole
from tests.support.scripted import Recorded, ScriptedUpstream, refusing, soon
from tests.support.steps import Close, Reset, Script, Send, Stall, sliced

_ANSWERS: dict[str, Script] = {
    "/ok": whole(b'{"a":1}', more=[("x-version", "1.2")]),
    "/chunked": (*chunked([b"ab", b"cd"], kind=EVENTS), Send(LAST_CHUNK)),
    "/until-end": (Send(b"HTTP/1.0 200 OK\r\n\r\nall of it"), Close()),
    "/slow": sliced(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone", 7, 0.005),
    "/redirect": whole(b"", 302, more=[("location", "/ok")]),
    "/large": whole(b"x" * 5_000_000),
    "/liar": (Send(head(200, [("content-length", "10")]) + b"short"), Close()),
    "/reset": (Reset(),),
    "/silent": (Stall(),),
    "/ssh": (Send(b"SSH-2.0-x\r\n\r\n"), Stall()),
}


def reply(request: Recorded) -> Script:
    return _ANSWERS[request.path.partition("?")[0]]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/ok?x=1", 200, b'{"a":1}'),
        ("/chunked", 200, b"abcd"),
        ("/until-end", 200, b"all of it"),
        ("/slow", 404, b"gone"),
        ("/redirect", 302, b""),
    ],
)
async def test_answers_of_every_shape(path: str, status: int, body: bytes) -> None:
    with ScriptedUpstream(reply).running() as server:
        fetched = await fetch(server.origin + path)
        assert (fetched.status, fetched.body) == (status, body)
        assert [request.path for request in server.requests] == [path]
        assert await soon(lambda: server.open_connections() == 0, 2)


@pytest.mark.parametrize("path", ["/large", "/liar", "/reset", "/silent", "/ssh"])
async def test_everything_else_is_one_error_soon(path: str) -> None:
    with ScriptedUpstream(reply).running() as server:
        began = time.monotonic()
        with pytest.raises(RuntimeGone) as caught:
            await fetch(server.origin + path, timeout=0.3)
        assert time.monotonic() - began < 1
        assert server.origin.rpartition(":")[2] not in str(caught.value)
        assert await soon(lambda: server.open_connections() == 0, 2)


async def test_a_request_is_sent_as_it_is() -> None:
    with ScriptedUpstream(reply).running() as server:
        await fetch(server.origin + "/ok", method="POST", body=b"{}", headers={"authorization": "Bearer k"})
        got = server.requests[0]
        assert (got.method, got.body, got.credential) == ("POST", b"{}", "k")


async def test_nobody_there() -> None:
    with refusing() as origin, pytest.raises(RuntimeGone, match="Connection refused"):
        await fetch(origin)


async def test_a_proxy_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing() as nobody, ScriptedUpstream(reply).running() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, nobody)
        assert (await fetch(server.origin + "/ok")).status == 200


async def test_cancelling_closes_the_connection_at_once() -> None:
    with ScriptedUpstream(reply).running() as server:
        task = asyncio.create_task(fetch(server.origin + "/silent", timeout=30))
        assert await soon(lambda: server.requests != [], 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await soon(lambda: server.open_connections() == 0, 0.5)


async def test_a_port_that_accepts_and_never_speaks_costs_its_time_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        began = time.monotonic()
        with pytest.raises(RuntimeGone):
            await fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout=0.2)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/v1",
        "ftp://x",
        "http://",
        "http://a:b@x",
        "http://x:99999",
        "http://x/a b",
        "http://x/\r\nx: y",
        "http://é/",
    ],
)
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RuntimeGone):
        await fetch(url)


def test_addresses_and_heads_have_one_form() -> None:
    assert address("http://[::1]:11434/base/").authority == "[::1]:11434"
    assert address("https://host").authority == "host"
    assert address("http://127.0.0.1:8080") == Address("127.0.0.1", 8080, encrypted=False, base="")
    head = request_head(address("http://h/base"), "POST", "/v1/x", 0, {}, "key")
    assert head.startswith(b"POST /base/v1/x HTTP/1.1\r\nhost: h\r\n")
    assert b"content-length: 0\r\nauthorization: Bearer key\r\n" in head
    for broken in ({"a": "b\r\nc: d"}, {"a\r\nb": "c"}, {"a": "é"}):
        with pytest.raises(ValueError, match="visible ASCII"):
            request_head(address("http://h"), "GET", "/", 0, broken, "")
