"""F18: a client that reads slowly slows its own upstream down; it does not fill the gateway's memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.caller import chat_call, dial
from tests.support.gateway import CLIENT_KEY, configuration, route, running, upstream
from tests.support.replies import DONE, LAST_CHUNK, chunked, delta, event, packed
from tests.support.scripted import ScriptedUpstream
from tests.support.steps import Send

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
CLIENTS = 4
_EVENT = event(delta({"content": "x" * 32_000}))
_PIECES = 1000
_HEADERS = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}


async def test_f18_a_burst_to_slow_readers_is_held_back(tmp_path: Path) -> None:
    """32 MiB for each of four clients that pause: memory grows by less than 4 MiB each; then all of it arrives."""
    script = (*chunked([_EVENT] * _PIECES), *chunked([DONE])[1:], Send(LAST_CHUNK))
    with ScriptedUpstream(lambda _: script).running() as server:
        entries = configuration([upstream("flood", server.base_url("flood"))], [route("flood", "flood")])
        with running(tmp_path, entries) as gateway:
            before = gateway.resident()
            lines = [await dial(gateway.url) for _ in range(CLIENTS)]
            call = packed(chat_call("flood", stream=True))
            heard = [await line.send("/v1/chat/completions", call, _HEADERS) for line in lines]
            await asyncio.gather(*(line.hear(one, b"data:") for line, one in zip(lines, heard, strict=True)))
            await asyncio.sleep(2)
            growth = gateway.resident() - before
            assert all(request.answered_at is None for request in server.requests)
            await asyncio.gather(*(line.hear(one) for line, one in zip(lines, heard, strict=True)))
            for line in lines:
                line.hang_up()
    assert [(one.complete, len(one.received) > _PIECES * 32_000) for one in heard] == [(True, True)] * CLIENTS
    assert growth < CLIENTS * 4 * MIB
