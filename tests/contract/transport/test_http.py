"""The HTTP transport against real sockets: what every failure is called, and that leaving closes the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from intertie.core.errors import (
    UpstreamError,
    UpstreamInvalid,
    UpstreamReset,
    UpstreamUnreachable,
)
from intertie.core.terms import Secret
from intertie.core.wire.http import WireRequest
from intertie.dataplane.transport.http import HttpTransport
from tests.support.replies import Healthy, head, packed
from tests.support.scripted import Named, Reply, ScriptedUpstream, soon
from tests.support.steps import Close, Reset, Script, Send, Stall

BODY = packed({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
JSON = ("content-type", "application/json")
_REPLIES: dict[str, Script | Reply] = {
    "ok": Healthy(),
    "stall": (Stall(),),
    "reset": (Reset(),),
    "close": (Close(),),
    "short": (Send(head(200, [JSON, ("content-length", "100")]) + b"{}"), Close()),
    "unchunked": (Send(head(200, [JSON, ("transfer-encoding", "chunked")]) + b"zz\r\n"), Close()),
    "broken": (Send(head(200, [JSON, ("transfer-encoding", "chunked")]) + b"2\r\n{}\r\n"), Reset()),
    "garbage": (Send(b"SSH-2.0-OpenSSH\r\n\r\n"), Close()),
    "redirect": (Send(head(302, [("location", "/v1/ok"), ("content-length", "0")])),),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    """One script per name."""
    with ScriptedUpstream(Named(dict(_REPLIES))).running() as server:
        yield server


def _nothing() -> None:
    """Nobody asks whether it was sent."""


def request(server: ScriptedUpstream, name: str) -> WireRequest:
    return WireRequest(server.base_url(name) + "/chat/completions", {"content-type": "application/json"}, BODY)


async def test_f14_upstreams_never_share_a_connection_even_at_one_address(server: ScriptedUpstream) -> None:
    """Else an answer that does not end where it says would spoil another upstream's next one."""
    transport = HttpTransport(1.0)
    for pool in ("one", "one", "two"):
        async with transport.open(msgspec.structs.replace(request(server, "ok"), pool=pool), None, _nothing) as wire:
            await wire.whole()
    first, again, other = (asked.connection.number for asked in server.to("ok")[-3:])
    assert first == again != other
    await transport.close()


async def whole(server: ScriptedUpstream, name: str) -> tuple[int, bytes]:
    transport = HttpTransport(1.0)
    try:
        async with transport.open(request(server, name), Secret("k"), _nothing) as wire:
            return wire.head.status, await wire.whole()
    finally:
        await transport.close()


async def test_an_answer_comes_whole_and_the_credential_went_as_a_bearer(server: ScriptedUpstream) -> None:
    status, body = await whole(server, "ok")
    assert (status, body[:1]) == (200, b"{")
    assert server.to("ok")[-1].credential == "k"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reset", UpstreamReset),
        ("close", UpstreamReset),
        ("short", UpstreamInvalid),
        ("unchunked", UpstreamInvalid),
        ("broken", UpstreamError),
        ("garbage", UpstreamError),
    ],
)
async def test_f09_f13_f16_every_failure_is_renamed(
    server: ScriptedUpstream, name: str, kind: type[UpstreamError]
) -> None:
    with pytest.raises(kind) as caught:
        await whole(server, name)
    assert "127.0.0.1" not in str(caught.value), "addresses stay out of errors"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://name.invalid/v1"])
async def test_f02_f04_what_cannot_be_reached_is_called_so(url: str) -> None:
    transport = HttpTransport(1.0)
    with pytest.raises(UpstreamUnreachable):
        async with transport.open(WireRequest(url, {}, BODY), None, _nothing):
            pass
    await transport.close()


async def test_f21_a_redirect_is_not_followed(server: ScriptedUpstream) -> None:
    before = len(server.to("ok"))
    assert (await whole(server, "redirect"))[0] == 302
    assert len(server.to("ok")) == before


async def test_s10_leaving_early_closes_the_upstream_connection(server: ScriptedUpstream) -> None:
    transport = HttpTransport(1.0)

    async def ask() -> None:
        async with transport.open(request(server, "stall"), None, _nothing):
            pass

    task = asyncio.create_task(ask())
    assert await soon(lambda: bool(server.to("stall")), 2)
    task.cancel()
    assert await soon(lambda: server.to("stall")[-1].left_at is not None, 1)
    await transport.close()
