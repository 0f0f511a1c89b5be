"""The official Python client, unmodified: only `base_url` and `api_key` are set."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageFunctionToolCall, ChatCompletionMessageParam
from pydantic import BaseModel

from tests.e2e.doors import PRIVATE_KEY, SLASHED_MODEL, Door
from tests.support.gateway import UPSTREAM_KEY
from tests.support.replies import TEXT, vector
from tests.support.scripted import eventually

pytestmark = pytest.mark.slow

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello in one short sentence."}]
WEATHER: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class City(BaseModel):
    """What `parse` is asked to return."""

    name: str
    country: str


@pytest.fixture
def client(door: Door) -> Iterator[OpenAI]:
    """A client of either gateway that does not retry on its own."""
    with OpenAI(base_url=door.gateway.base_url, api_key=door.gateway.key, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def to_scripts(scripted: Door) -> Iterator[OpenAI]:
    """A client of the scripted gateway with the client's own default of two retries."""
    with OpenAI(base_url=scripted.gateway.base_url, api_key=scripted.gateway.key, timeout=30) as client:
        yield client


def assert_speaks(door: Door, text: str | None) -> None:
    """The script's exact words, or some of the real model's."""
    assert text
    if not door.real:
        assert text == TEXT


def test_create(client: OpenAI, door: Door) -> None:
    """A whole answer with text, usage and a request id."""
    answer = client.chat.completions.create(model=door.model, messages=HELLO, max_tokens=24, temperature=0)
    assert_speaks(door, answer.choices[0].message.content)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer._request_id


def test_stream(client: OpenAI, door: Door) -> None:
    """Chunks of one id add up to the text; no usage chunk comes unasked, though the gateway asks for one itself."""
    with client.chat.completions.create(
        model=door.model, messages=HELLO, max_tokens=24, temperature=0, stream=True
    ) as stream:
        chunks = list(stream)
    assert_speaks(door, "".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk for chunk in chunks if chunk.usage is not None or not chunk.choices] == []
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


def test_stream_with_usage(client: OpenAI, door: Door) -> None:
    """Asked for, usage comes last, in a chunk without choices."""
    options: Any = {"include_usage": True}
    with client.chat.completions.create(
        model=door.model, messages=HELLO, max_tokens=24, temperature=0, stream=True, stream_options=options
    ) as stream:
        *_, last = stream
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_the_stream_helper(client: OpenAI, door: Door) -> None:
    """`.stream()` assembles the final completion."""
    with client.chat.completions.stream(model=door.model, messages=HELLO, max_tokens=24, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta"} <= kinds
    assert_speaks(door, final.choices[0].message.content)


async def test_four_async_calls_at_once(door: Door) -> None:
    """The async client's calls run side by side and none is mixed up."""
    async with AsyncOpenAI(base_url=door.gateway.base_url, api_key=door.gateway.key, timeout=60) as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model=door.model, messages=HELLO, max_tokens=8 + n) for n in range(4))
        )
    for answer in answers:
        assert_speaks(door, answer.choices[0].message.content)
    assert len({answer._request_id for answer in answers}) == 4


async def test_async_stream(door: Door) -> None:
    """An async iteration over chunks."""
    async with AsyncOpenAI(base_url=door.gateway.base_url, api_key=door.gateway.key, timeout=60) as client:
        stream = await client.chat.completions.create(
            model=door.model, messages=HELLO, max_tokens=24, temperature=0, stream=True
        )
        assert_speaks(door, "".join([chunk.choices[0].delta.content or "" async for chunk in stream]))


def _only_call(answer: ChatCompletion) -> ChatCompletionMessageFunctionToolCall:
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    return call


def test_tools_there_and_back(client: OpenAI, door: Door) -> None:
    """The model calls the tool; given its result, it answers in words."""
    asked = client.chat.completions.create(
        model=door.model, messages=WEATHER, tools=TOOLS, max_tokens=80, temperature=0
    )
    assert asked.choices[0].finish_reason == "tool_calls"
    call = _only_call(asked)
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)
    turn = cast("ChatCompletionMessageParam", asked.choices[0].message.model_dump(exclude_none=True))
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees, sunny"}
    told = client.chat.completions.create(
        model=door.model, messages=[*WEATHER, turn, result], tools=TOOLS, max_tokens=40, temperature=0
    )
    assert_speaks(door, told.choices[0].message.content)


def test_streamed_tools(client: OpenAI, door: Door) -> None:
    """Tool-call deltas join to the same call, by the client's own accumulator."""
    with client.chat.completions.stream(
        model=door.model, messages=WEATHER, tools=TOOLS, max_tokens=80, temperature=0
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)


def test_parse(client: OpenAI, door: Door) -> None:
    """A JSON schema goes through and the answer obeys it."""
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Name a city and its country."}]
    parsed = client.chat.completions.parse(
        model=door.model, messages=question, response_format=City, max_tokens=200, temperature=0, frequency_penalty=0.6
    )
    assert isinstance(parsed.choices[0].message.parsed, City)


def test_legacy_completions(client: OpenAI, door: Door) -> None:
    """The old endpoint, whole and streamed."""
    whole = client.completions.create(model=door.model, prompt="Once upon a time", max_tokens=12, temperature=0)
    stream = client.completions.create(
        model=door.model, prompt="Once upon a time", max_tokens=12, temperature=0, stream=True
    )
    assert_speaks(door, whole.choices[0].text)
    assert_speaks(door, "".join(chunk.choices[0].text for chunk in stream))


def test_embeddings(client: OpenAI, door: Door) -> None:
    """One vector per input, as floats by default; base64, decoded, holds the same numbers."""
    floats = client.embeddings.create(model=door.model, input=["a cat", "a dog"])
    raw = client.embeddings.with_raw_response.create(
        model=door.model, input=["a cat", "a dog"], encoding_format="base64"
    )
    coded = [base64.b64decode(row["embedding"]) for row in json.loads(raw.text)["data"]]
    decoded = [list(struct.unpack(f"<{len(row) // 4}f", row)) for row in coded]
    vectors = [row.embedding for row in floats.data]
    assert [row.index for row in floats.data] == [0, 1]
    assert len(vectors[0]) == len(vectors[1]) >= 8
    assert decoded == [pytest.approx(numbers, rel=1e-4, abs=1e-6) for numbers in vectors]
    if not door.real:
        assert vectors == [vector(0), vector(1)]
    assert floats.usage.prompt_tokens > 0


def test_models(client: OpenAI, door: Door) -> None:
    """The list holds the route, and one can be asked for by id."""
    listed = {model.id for model in client.models.list()}
    assert door.model in listed
    found = client.models.retrieve(door.model)
    assert (found.id, found.object) == (door.model, "model")


def test_a_wrong_key_is_an_authentication_error(door: Door) -> None:
    """401, and the message does not repeat the key."""
    with (
        OpenAI(base_url=door.gateway.base_url, api_key="not-a-key-at-all", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(model=door.model, messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    assert "not-a-key" not in str(caught.value)


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    """404 with the code clients look for."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


# -- only where the upstream can be told what to do ------------------------------------------------------------------


def test_model_ids_may_have_slashes(to_scripts: OpenAI, scripted: Door) -> None:
    """Such a model is listed, retrieved and called, and the target gets its own name."""
    assert to_scripts.models.retrieve(SLASHED_MODEL).id == SLASHED_MODEL
    to_scripts.chat.completions.create(model=SLASHED_MODEL, messages=HELLO)
    assert scripted.scripted.to("good")[-1].call["model"] == "m/with/slashes"


def test_what_the_client_sends_reaches_the_upstream_unharmed(to_scripts: OpenAI, scripted: Door) -> None:
    """Known and unknown members pass; the credential is the upstream's, the client's stays here."""
    extra = {"made_up": {"deep": [1, None, "ü"]}}
    to_scripts.chat.completions.create(
        model=scripted.model, messages=HELLO, seed=7, user="u-1", temperature=0.25, extra_body=extra
    )
    received = scripted.scripted.to("good")[-1]
    sent = {"model": "m", "messages": HELLO, "seed": 7, "user": "u-1", "temperature": 0.25}
    assert received.call == sent | extra
    assert received.credential == UPSTREAM_KEY
    assert scripted.gateway.key not in json.dumps(received.headers)


def test_raw_responses_carry_the_gateways_headers(to_scripts: OpenAI, scripted: Door) -> None:
    """Who served it, in how many attempts, under which id."""
    raw = to_scripts.chat.completions.with_raw_response.create(model=scripted.model, messages=HELLO)
    assert raw.headers["x-intertie-route"] == scripted.model
    assert raw.headers["x-intertie-target"] == "good/m"
    assert raw.headers["x-intertie-model"] == "m"
    assert raw.headers["x-intertie-attempts"] == "1"
    assert raw.headers["x-request-id"] == raw.request_id
    assert int(raw.headers["openai-processing-ms"]) >= 0


def test_closing_a_stream_cancels_the_upstream(to_scripts: OpenAI, scripted: Door) -> None:
    """Within a second (S10)."""
    stream = to_scripts.chat.completions.create(model="slow", messages=HELLO, stream=True)
    next(iter(stream))
    stream.close()
    assert eventually(lambda: scripted.scripted.to("slow")[-1].left_at is not None, 1)


def test_the_upstreams_refusal_of_a_value_is_a_bad_request(to_scripts: OpenAI, scripted: Door) -> None:
    """A 400 is the caller's own: its code arrives, and nobody retries it."""
    with pytest.raises(openai.BadRequestError) as caught:
        to_scripts.chat.completions.create(model="rejects", messages=HELLO)
    assert caught.value.code == "invalid_value"
    assert len(scripted.scripted.to("rejects")) == 1


def test_the_upstreams_401_is_never_an_authentication_error(to_scripts: OpenAI) -> None:
    """The caller's key is fine: it is the operator's that is not."""
    with pytest.raises(openai.InternalServerError) as caught:
        to_scripts.with_options(max_retries=0).chat.completions.create(model="denies", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_auth")


def test_the_client_waits_as_long_as_it_is_told(to_scripts: OpenAI, scripted: Door) -> None:
    """A 429 with Retry-After is retried by the client itself, after that time, and then works."""
    begun = time.monotonic()
    answer = to_scripts.chat.completions.create(model="busy", messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    assert time.monotonic() - begun >= 1
    assert len(scripted.scripted.to("busy")) == 2


def test_the_client_stops_when_told_that_retrying_is_useless(scripted: Door) -> None:
    """A 503 that no retry can mend carries `x-should-retry: false`, and the client asks only once."""
    sent: list[str] = []
    hooks = {"request": [lambda request: sent.append(request.method)]}
    with openai.DefaultHttpxClient(event_hooks=hooks) as http:
        client = OpenAI(base_url=scripted.gateway.base_url, api_key=PRIVATE_KEY, http_client=http)
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=scripted.model, messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (503, "no_eligible_target")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert sent == ["POST"]


def test_a_picture_of_twenty_megabytes_reaches_a_node_unharmed(node: Door) -> None:
    """More than one frame, more than the memory an agent keeps of a body, and every byte of it."""
    picture = "data:image/png;base64," + "iVBORw0KGgo" * (20 * 1024 * 1024 // 11)
    part = {"type": "image_url", "image_url": {"url": picture}}
    with OpenAI(base_url=node.gateway.base_url, api_key=node.gateway.key, timeout=60, max_retries=0) as client:
        answer = client.chat.completions.create(
            model=node.model,
            messages=[{"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}],  # type: ignore[list-item]
        )
    assert answer.choices[0].message.content
    received = [request for request in node.scripted.requests if request.method == "POST"][-1]
    assert received.call["messages"][0]["content"][1]["image_url"]["url"] == picture
