"""The scripted upstream says what its scripts say: what the fault suites build on must itself be right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support import faults, oddities
from tests.support.caller import Heard, ask, chat_call, dial
from tests.support.replies import TEXT, Healthy, paced, packed, text_chunks, vector
from tests.support.scripted import ScriptedUpstream, refusing, soon
from tests.support.steps import Close, HalfClose, Script, Send, Stall, Wait

KEY = "sk-for-the-script"


@pytest.fixture
def healthy() -> Iterator[ScriptedUpstream]:
    """An upstream that does everything right."""
    with ScriptedUpstream(Healthy()).running() as server:
        yield server


async def chat(base_url: str, *, stream: bool = False, **more: object) -> Heard:
    """One chat call straight to the script."""
    return await ask(f"{base_url}/chat/completions", chat_call("m", stream=stream, **more), key=KEY)


async def test_a_healthy_upstream_answers_whole(healthy: ScriptedUpstream) -> None:
    heard = await chat(healthy.base_url())
    assert (heard.status, heard.text, heard.complete) == (200, TEXT, True)


async def test_a_healthy_upstream_streams_and_ends_with_the_marker(healthy: ScriptedUpstream) -> None:
    heard = await chat(healthy.base_url(), stream=True)
    assert (heard.text, heard.finished) == (TEXT, True)
    assert [chunk["choices"] for chunk in heard.chunks] == [chunk["choices"] for chunk in text_chunks()]


async def test_usage_comes_only_when_asked_for(healthy: ScriptedUpstream) -> None:
    heard = await chat(healthy.base_url(), stream=True, stream_options={"include_usage": True})
    assert heard.chunks[-1]["usage"]["total_tokens"] == 17


async def test_embeddings_come_in_both_codings(healthy: ScriptedUpstream) -> None:
    call = {"model": "m", "input": ["a", "b"]}
    floats = await ask(f"{healthy.base_url()}/embeddings", call, key=KEY)
    coded = await ask(f"{healthy.base_url()}/embeddings", {**call, "encoding_format": "base64"}, key=KEY)
    assert floats.json["data"][1]["embedding"] == vector(1)
    assert coded.json["data"][0]["embedding"] == "AAAAAAAAgDwAAAA9AABAPQAAgD0AAKA9AADAPQAA4D0="


async def test_each_request_is_remembered_with_its_name_credential_and_body(healthy: ScriptedUpstream) -> None:
    await chat(healthy.base_url("acme"), stream=True)
    (request,) = healthy.to("acme")
    assert (request.credential, request.streamed, request.call["model"]) == (KEY, True, "m")
    assert await soon(lambda: request.answered_at is not None, 1)


async def test_the_moment_a_peer_leaves_is_remembered() -> None:
    with ScriptedUpstream(lambda _: paced(10_000, 0.01)).running() as server:
        line = await dial(server.origin)
        heard = await line.send("/v1/chat/completions", packed(chat_call("m", stream=True)), {})
        await line.hear(heard, until=b"tick")
        left = line.hang_up()
        assert await soon(lambda: server.requests[0].left_at is not None, 1)
        assert server.open_connections() == 0
        assert abs((server.requests[0].left_at or 0) - left) < 0.5


async def test_two_requests_may_share_a_connection(healthy: ScriptedUpstream) -> None:
    line = await dial(healthy.origin)
    for _ in range(2):
        heard = await line.send("/v1/chat/completions", packed(chat_call("m")), {})
        assert (await line.hear(heard)).complete
    line.hang_up()
    assert [request.connection.number for request in healthy.requests] == [0, 0]


async def test_waits_are_kept() -> None:
    with ScriptedUpstream(lambda _: (Wait(0.2), *Healthy()(_))).running() as server:
        heard = await chat(server.base_url())
        assert heard.head_at is not None
        assert heard.head_at - heard.asked_at >= 0.19


@pytest.mark.parametrize("ending", [(Close(),), (HalfClose(), Wait(0.05), Close())], ids=["close", "half_close"])
async def test_an_answer_that_breaks_off_is_incomplete(ending: Script) -> None:
    script = (Send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), *ending)
    with ScriptedUpstream(lambda _: script).running() as server:
        heard = await chat(server.base_url())
    assert (heard.body, heard.complete, server.complaints) == (b"half", False, [])


async def test_a_stall_lasts_until_the_peer_leaves() -> None:
    with ScriptedUpstream(lambda _: (Stall(),)).running() as server:
        with pytest.raises(TimeoutError):
            await ask(server.base_url(), {}, key=KEY, timeout=0.2)
        assert await soon(lambda: server.requests[0].left_at is not None, 1)


async def test_a_reset_is_a_reset() -> None:
    scripts = {fault.name: fault.plain for fault in faults.before("")}
    with ScriptedUpstream(lambda _: scripts["reset_before_head"] or ()).running() as server:
        reader, writer = await asyncio.open_connection(*server.origin.removeprefix("http://").split(":"))
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_refusing_address_refuses() -> None:
    with refusing() as origin, pytest.raises(ConnectionRefusedError):
        await dial(origin)


@pytest.mark.parametrize("odd", oddities.odd(), ids=lambda odd: odd.name)
@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "plain"])
async def test_every_odd_answer_is_right(odd: oddities.Odd, streaming: bool) -> None:
    script = odd.script(streaming=streaming)
    if script is None:
        assert streaming is False
        return
    with ScriptedUpstream(lambda _: script).running() as server:
        heard = await chat(server.base_url(), stream=streaming)
    if streaming:
        assert heard.done
        before_end = heard.events[: heard.events.index("[DONE]")]
        assert len(before_end) >= len(odd.pieces)
        assert heard.chunks[: len(odd.pieces)] == list(odd.pieces)
    else:
        assert heard.text == odd.message


async def test_hundreds_of_paced_streams_are_cheap() -> None:
    """300 streams of 20 pieces each end in about the time of one."""
    with ScriptedUpstream(lambda _: paced(20, 0.05)).running() as server:
        started = time.monotonic()
        heard = await asyncio.gather(*(chat(server.base_url(), stream=True) for _ in range(300)))
    assert all(one.finished for one in heard)
    assert time.monotonic() - started < 8
