"""The official Python client under limits: it waits where it is told to, and stops where waiting does not help."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.caller import chat_call, dial
from tests.support.gateway import Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy, chat, delta, event, finished, packed, whole
from tests.support.scripted import Recorded, ScriptedUpstream
from tests.support.steps import Script, Wait

pytestmark = pytest.mark.slow

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello."}]


def _limited() -> dict[str, Any]:
    return {
        "rated": {"limits": {"rpm": 60}},
        "spent": {"budgets": [{"amount": 1.003, "per": "month"}], "max_output": 1000},
        "bound": {"budgets": [{"amount": 1, "per": "total"}], "max_output": 7},
        "narrow": {"limits": {"concurrency": 1, "wait": 5}},
        "shut": {"limits": {"concurrency": 1}},
        "raised": {"limits": {"concurrency": 1, "wait": 30}},
    }


def _upstream(request: Recorded) -> Script:
    if request.name == "endless":
        pieces = [event(delta({"content": f"{n} "})) for n in range(500)]
        return finished(pieces, every=0.001) if request.streamed else whole(packed(chat({"content": "x"})))
    return (Wait(30.0 if b'"seed":30' in request.body else 0.3), *Healthy()(request))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One project and key per kind of limit."""
    with ScriptedUpstream(_upstream).running() as server:
        models = [{"name": "m", "price": {"input": 1, "output": 1000}}]
        places = [upstream(name, server.base_url(name), models=models) for name in ("slow", "endless")]
        entries = configuration(places, [route("slow", "slow"), route("endless", "endless")])
        entries["projects"] = [
            {"name": name, "keys": [{"name": "dev", "value": {"env": f"KEY_{name.upper()}"}}], **limits}
            for name, limits in _limited().items()
        ]
        environ = {f"KEY_{name.upper()}": _key(name) for name in _limited()}
        with running(tmp_path_factory.mktemp("limits"), entries, environ) as started:
            yield started


def _key(project: str) -> str:
    return f"limited-key-of-{project}-0123456789"


def _client(gateway: Gateway, project: str, retries: int = 2) -> OpenAI:
    return OpenAI(base_url=gateway.base_url, api_key=_key(project), max_retries=retries, timeout=30)


def test_a_rate_limit_is_waited_for_as_told(gateway: Gateway) -> None:
    """Sixty calls empty the minute; the next one comes back after the second it was told, and passes.

    A second gives one call back, so on a slow machine it takes a few calls more.
    """
    told: list[float] = []

    def hear(response: Any) -> None:
        if response.status_code == 429:
            told.append(float(response.headers["retry-after"]))

    http = openai.DefaultHttpxClient(event_hooks={"response": [hear]})
    with OpenAI(base_url=gateway.base_url, api_key=_key("rated"), timeout=30, http_client=http) as client:
        raw, started = client.chat.completions.with_raw_response, time.monotonic()
        first = raw.create(model="endless", messages=HELLO)
        assert first.headers["x-ratelimit-limit-requests"] == "60"
        passed, waited = 1, 0.0
        while not waited and passed < 300:
            begun = time.monotonic()
            if raw.create(model="endless", messages=HELLO).retries_taken:
                waited = time.monotonic() - begun
            passed += 1

    assert 60 < passed <= 61 + (time.monotonic() - started)
    assert 0 < told[0] <= waited < 5


def test_a_budget_stop_is_not_retried(gateway: Gateway) -> None:
    """After one call too little is left for another: one request, one refusal, with the code applications know."""
    with _client(gateway, "spent") as client:
        client.chat.completions.create(model="slow", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="slow", messages=HELLO)

    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert int(caught.value.response.headers["retry-after"]) > 0
    (row,) = (row for row in gateway.cli("usage", "--by", "project") if row["name"] == "spent")
    assert (row["requests"], row["errors"]) == (2, 1)


def test_an_unbound_stream_ends_with_length(gateway: Gateway) -> None:
    """The client sees an ordinary end, not an error."""
    with _client(gateway, "bound") as client:
        stream = client.chat.completions.create(
            model="endless", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "0 1 2 3 4 5 6 "
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7


def test_calls_wait_for_their_turn_where_they_may(gateway: Gateway) -> None:
    """Three at once through one place: all answered, one after the other; without waiting, refused and retried."""

    def ask(project: str) -> int:
        with _client(gateway, project) as client:
            return client.chat.completions.with_raw_response.create(model="slow", messages=HELLO).retries_taken

    with ThreadPoolExecutor(3) as pool:
        begun = time.monotonic()
        assert list(pool.map(ask, ["narrow"] * 3)) == [0, 0, 0]
        assert time.monotonic() - begun > 0.85
        assert sum(pool.map(ask, ["shut"] * 2)) >= 1


def test_a_raised_limit_lets_in_who_waits(gateway: Gateway) -> None:
    """At once, and not only when the call that has the place ends."""

    async def both() -> tuple[int, float]:
        headers = {"authorization": f"Bearer {_key('raised')}", "content-type": "application/json"}
        first, second = await dial(gateway.url), await dial(gateway.url)
        await first.send("/v1/chat/completions", packed(chat_call("slow", seed=30)), headers)
        await asyncio.sleep(0.3)
        heard = await second.send("/v1/chat/completions", packed(chat_call("slow")), headers)
        await asyncio.to_thread(gateway.cli, *["limits", "set", "project:raised", "--concurrency", "2", "--wait", "30"])
        await second.hear(heard)
        first.hang_up()
        second.hang_up()
        return heard.status, time.monotonic() - heard.asked_at

    status, seconds = asyncio.run(both())
    assert status == 200
    assert seconds < 15
