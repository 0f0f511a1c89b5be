"""Similar questions through a running gateway: the real small model, an embeddings route, and the operator's doors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy
from tests.support.scripted import ScriptedUpstream

pytestmark = pytest.mark.slow

PRICE = [{"name": "m", "price": {"input": 1, "output": 2}}]
RESET, RESET_TOO = "How do I reset my password?", "Could you please tell me how to reset my password?"
TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(Healthy()).running() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One route by the local model, one by a route for embeddings."""
    kept = {"ttl": 600, "similar": {"threshold": 0.92}}
    routed = {"ttl": 600, "similar": {"threshold": 0.9, "embeddings": "vectors"}}
    routes = [
        {**route("local", "up"), "cache": kept},
        {**route("routed", "up"), "cache": routed},
        {**route("vectors", "up"), "cache": {"ttl": 600}},
    ]
    entries = configuration([upstream("up", server.base_url(), models=PRICE)], routes)
    with running(tmp_path_factory.mktemp("similar"), entries) as up:
        yield up


@pytest.fixture
def ask(gateway: Gateway) -> Iterator[Callable[..., Any]]:
    """One question by the official client; what it got with the headers."""

    def asked(text: str, model: str = "local", word: str = "", **more: Any) -> Any:
        headers = {"x-intertie-cache-control": word} if word else {}
        messages: Any = [{"role": "user", "content": text}]
        return client.chat.completions.with_raw_response.create(
            model=model, messages=messages, extra_headers=headers, **more
        )

    with OpenAI(base_url=gateway.base_url, api_key=CLIENT_KEY, max_retries=0) as client:
        yield asked


def known(gateway: Gateway, count: int) -> None:
    """Wait until so many questions can be compared with: vectors are made when the answer is on its way."""
    deadline = time.monotonic() + 20
    while (found := gateway.cli("cache", "status"))["similar_entries"] < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_the_local_model_finds_the_answer_and_the_client_reads_it(
    gateway: Gateway, server: ScriptedUpstream, ask: Callable[..., Any]
) -> None:
    first = ask(RESET)
    known(gateway, 1)
    asked = len(server.requests)
    second = ask(RESET_TOO)
    streamed = ask("How can I reset my password?", stream=True)

    assert (first.headers["x-intertie-cache"], second.headers["x-intertie-cache"]) == ("miss", "similar")
    assert second.headers["x-intertie-cache-match"] == first.headers["x-request-id"]
    assert 0.92 <= float(second.headers["x-intertie-cache-similarity"]) < 1
    assert second.headers["x-intertie-saved"] == first.headers["x-intertie-cost"]
    assert second.parse().choices[0].message.content == first.parse().choices[0].message.content
    assert streamed.headers["x-intertie-cache"] == "similar"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed.parse() if chunk.choices)
    assert text == first.parse().choices[0].message.content
    assert len(server.requests) == asked

    # what must not be given
    for other, more in (
        ("How do I not reset my password?", {}),
        ("How do I reset my router?", {}),
        ("How do I reset 2 passwords?", {}),
        (RESET_TOO, {"temperature": 0}),
        (RESET_TOO, {"tools": TOOLS}),
        (RESET_TOO, {"word": "exact"}),
    ):
        assert ask(other, **more).headers["x-intertie-cache"] == "miss", other


def test_books_metrics_and_status_count_it(gateway: Gateway, ask: Callable[..., Any]) -> None:
    ask("Who painted the Mona Lisa?")
    known(gateway, 1)
    before = _usage(gateway)
    deadline = time.monotonic() + 20
    while ask("Can you tell me who painted the Mona Lisa?").headers["x-intertie-cache"] != "similar":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    after = _usage(gateway)
    assert after["cache_hits"] > before["cache_hits"]
    assert after["saved_micros"] > before["saved_micros"]
    assert 'intertie_cache_requests_total{cache="similar",operation="chat",route="local"}' in gateway.get("/metrics")
    assert "similar: " in gateway.run("cache", "status").stdout


def test_an_embeddings_route_makes_vectors_that_are_booked(
    gateway: Gateway, server: ScriptedUpstream, ask: Callable[..., Any]
) -> None:
    """The scripted upstream has one vector for everything: only the literal guard tells texts apart."""
    first = ask("Why is the sky blue?", "routed")
    known(gateway, 1)
    deadline = time.monotonic() + 20
    while (second := ask("Can you explain why the sky is blue?", "routed")).headers["x-intertie-cache"] != "similar":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert second.headers["x-intertie-cache-match"] == first.headers["x-request-id"]
    assert ask("Why is the sky red?", "routed").headers["x-intertie-cache"] == "miss"
    rows = {row["name"]: row for row in gateway.cli("usage", "--by", "route")}
    assert rows["vectors"]["requests"] >= 2
    assert rows["vectors"]["input_tokens"] >= 5


def test_the_operators_doors(gateway: Gateway, ask: Callable[..., Any]) -> None:
    words = ["routes", "put", "third", "--target", "up/m"]
    gateway.cli(*words, "--cache", "60,project", "--similar", "0.95,words=0.7,embeddings=vectors")
    (third,) = [row for row in gateway.cli("routes", "list") if row["model"] == "third"]
    similar = {"threshold": 0.95, "words": 0.7, "embeddings": "vectors"}
    assert third["cache"] == {"ttl": 60.0, "scope": "project", "similar": similar}

    for wrong, told in (
        (["--similar", "0.9"], "--cache 3600"),
        (["--cache", "60", "--similar", "0.5"], "similar.threshold"),
        (["--cache", "60", "--similar", "near"], "0.92"),
        (["--cache", "60", "--similar", "0.9,letters=1"], "0.92"),
    ):
        ran = gateway.run(*words, *wrong)
        assert ran.returncode != 0
        assert told in ran.stdout + ran.stderr, ran.stdout + ran.stderr

    ask("What is a binary search tree?")
    known(gateway, 1)
    gateway.cli("cache", "clear")
    assert gateway.cli("cache", "status")["similar_entries"] == 0
    assert ask("Explain what a binary search tree is").headers["x-intertie-cache"] == "miss"


def _usage(gateway: Gateway) -> Any:
    (row,) = [row for row in gateway.cli("usage", "--by", "route") if row["name"] == "local"]
    return row
