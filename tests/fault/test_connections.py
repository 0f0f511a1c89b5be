"""Pooled connections to upstreams: reused when sound, never after a fault, and never mixing credentials."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.support.books import books
from tests.support.caller import Heard, ask, chat_call
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import TEXT, Healthy, chat, packed, whole
from tests.support.scripted import Recorded, Reply, ScriptedUpstream
from tests.support.steps import Close, Reset, Script, Send, Wait, spoken

pytestmark = pytest.mark.slow


async def call(gateway: Gateway, model: str, *, stream: bool = False) -> Heard:
    """One call to a route."""
    return await ask(f"{gateway.base_url}/chat/completions", chat_call(model, stream=stream), key=CLIENT_KEY)


def gateway_before(server: ScriptedUpstream) -> dict[str, object]:
    """A configuration with one route to this server."""
    return configuration([upstream("one", server.base_url("one"))], [route("one", "one")])


async def test_a_sound_connection_is_used_again(tmp_path: Path) -> None:
    """Six calls in a row, streamed and not, share one connection."""
    with ScriptedUpstream(Healthy()).running() as server, running(tmp_path, gateway_before(server)) as gateway:
        heard = [await call(gateway, "one", stream=number % 2 == 0) for number in range(6)]
    assert [one.text for one in heard] == [TEXT] * 6
    assert len(server.connections) == 1


class Stale:
    """A `Reply` that serves each connection once and breaks it at the next request, as an idle timeout would."""

    def __init__(self, ending: Script) -> None:
        self._ending = ending
        self._used: set[int] = set()

    def __call__(self, request: Recorded) -> Script:
        """Answer the first request of a connection only."""
        if request.connection.number in self._used:
            return self._ending
        self._used.add(request.connection.number)
        return Healthy()(request)


@pytest.mark.parametrize("ending", [(Reset(),), (Close(),)], ids=["reset", "close"])
async def test_f10_a_stale_connection_is_replaced_without_penalty(tmp_path: Path, ending: Script) -> None:
    """Every call succeeds in one attempt on a fresh connection; nobody's health suffers."""
    with ScriptedUpstream(Stale(ending)).running() as server, running(tmp_path, gateway_before(server)) as gateway:
        heard = [await call(gateway, "one", stream=number % 2 == 0) for number in range(12)]
        entries = books(gateway).attempts()
    assert [(one.status, one.text) for one in heard] == [(200, TEXT)] * 12
    assert {one.headers["x-intertie-attempts"] for one in heard} == {"1"}
    assert [entry["state"] for entry in entries] == ["ok"] * 12


_GOOD = whole(packed(chat({"content": TEXT})))
_SMUGGLED = whole(packed(chat({"content": "an answer nobody asked for"})))


@pytest.mark.parametrize(
    "script",
    [
        (*_GOOD, *_SMUGGLED),
        (*_GOOD, Wait(0.05), *_SMUGGLED),
        (Send(spoken(_GOOD) + spoken(_SMUGGLED)[:30]),),
    ],
    ids=["at_once", "later", "in_part"],
)
async def test_f14_surplus_bytes_never_answer_the_next_call(tmp_path: Path, script: Script) -> None:
    """Bytes after the end of an answer are dropped with their connection; the next call uses another."""
    reply: Reply = lambda request: script  # noqa: E731 - a reply is a function
    with ScriptedUpstream(reply).running() as server, running(tmp_path, gateway_before(server)) as gateway:
        heard = []
        for _ in range(5):
            heard.append(await call(gateway, "one"))
            await asyncio.sleep(0.1)
    assert [one.text for one in heard] == [TEXT] * 5
    assert len({request.connection.number for request in server.requests}) == 5


async def test_t44_credentials_never_mix(tmp_path: Path) -> None:
    """A thousand interleaved calls with ten credentials over shared connections: each upstream got exactly its own."""
    names = [f"account-{number}" for number in range(10)]
    environ = {f"KEY_{number}": f"credential-of-{name}-0123456789" for number, name in enumerate(names)}
    with ScriptedUpstream(Healthy()).running() as server:
        upstreams = [
            upstream(name, server.base_url(name), credentials=(f"KEY_{number}",)) for number, name in enumerate(names)
        ]
        entries = configuration(upstreams, [route(name, name) for name in names])
        with running(tmp_path, entries, environ) as gateway:
            order = names * 100
            random.Random(44).shuffle(order)
            turns = asyncio.Semaphore(16)

            async def one(name: str) -> int:
                async with turns:
                    return (await call(gateway, name)).status

            statuses = Counter(await asyncio.gather(*(one(name) for name in order)))
    assert statuses == {200: 1000}
    assert {request.credential for request in server.requests if request.credential not in environ.values()} == set()
    assert all(request.credential == f"credential-of-{request.name}-0123456789" for request in server.requests)
    assert len(server.connections) < 100
