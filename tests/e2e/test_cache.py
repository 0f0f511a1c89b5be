"""The official client reads what was kept as it reads a fresh answer, whichever form was kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy
from tests.support.scripted import ScriptedUpstream

pytestmark = pytest.mark.slow

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello."}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
ASKED: Any = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The same upstream behind a route that keeps answers and one that does not."""
    with ScriptedUpstream(Healthy()).running() as server:
        routes = [{**route("kept", "up"), "cache": {"ttl": 60}}, route("direct", "up")]
        with running(
            tmp_path_factory.mktemp("cache"), configuration([upstream("up", server.base_url())], routes)
        ) as up:
            yield up


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """Unmodified, without retries of its own."""
    with OpenAI(base_url=gateway.base_url, api_key=CLIENT_KEY, max_retries=0) as made:
        yield made


def answer(client: OpenAI, model: str, *, stream: bool, **more: Any) -> tuple[ChatCompletion, str]:
    """The answer as one object, and what the cache did."""
    if not stream:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, **more)
        return raw.parse(), raw.headers["x-intertie-cache"]
    opened = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, **ASKED, **more)
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    for chunk in opened.parse():
        state.handle_chunk(chunk)
    made = state.get_final_completion()
    return ChatCompletion.model_validate(made.model_dump()), opened.headers["x-intertie-cache"]


def meaning(completion: ChatCompletion) -> list[Any]:
    """What an application reads of it."""
    usage = completion.usage
    assert usage is not None
    said: list[Any] = [completion.model, usage.prompt_tokens, usage.completion_tokens, usage.total_tokens]
    for choice in completion.choices:
        calls = [
            (call.id, call.type, call.function.name, call.function.arguments)
            for call in choice.message.tool_calls or []
            if call.type == "function"
        ]
        said.append((choice.index, choice.finish_reason, choice.message.role, choice.message.content or "", calls))
    return said


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("bought_streamed", [False, True])
def test_both_forms_of_a_kept_answer_say_what_a_direct_one_says(
    client: OpenAI, bought_streamed: bool, tools: bool
) -> None:
    more: dict[str, Any] = {"tools": TOOLS} if tools else {}
    more["seed"] = int(bought_streamed)
    direct = meaning(answer(client, "direct", stream=False, **more)[0])
    bought, did = answer(client, "kept", stream=bought_streamed, **more)
    assert (meaning(bought), did) == (direct, "miss")
    for stream in (False, True):
        given, did = answer(client, "kept", stream=stream, **more)
        assert (meaning(given), did) == (direct, "hit")


def test_usage_comes_only_to_those_who_ask(client: OpenAI) -> None:
    answer(client, "kept", stream=False, seed=7)
    plain = client.chat.completions.create(model="kept", messages=HELLO, stream=True, seed=7)
    assert all(chunk.usage is None and chunk.choices for chunk in plain)


@pytest.mark.parametrize("stream", [False, True])
def test_text_completions_and_embeddings_are_kept_as_well(client: OpenAI, stream: bool) -> None:
    prompt: dict[str, Any] = {"model": "kept", "prompt": f"a{stream}"}
    if stream:
        text = "".join(piece.choices[0].text for piece in client.completions.create(**prompt, stream=True))
    else:
        text = client.completions.create(**prompt).choices[0].text
    again = client.completions.with_raw_response.create(**prompt)
    assert again.headers["x-intertie-cache"] == "hit"
    assert again.parse().choices[0].text == text
    vectors = [client.embeddings.with_raw_response.create(model="kept", input=["a", "b"]) for _ in range(2)]
    assert vectors[1].headers["x-intertie-cache"] == "hit"
    assert vectors[0].parse().data == vectors[1].parse().data


def test_a_client_that_sets_a_key_is_answered_once(client: OpenAI) -> None:
    def order() -> Any:
        key = {"Idempotency-Key": "order-17"}
        return client.chat.completions.with_raw_response.create(model="direct", messages=HELLO, extra_headers=key)

    first, second = order(), order()
    assert second.headers["idempotent-replayed"] == "true"
    assert first.parse() == second.parse()
