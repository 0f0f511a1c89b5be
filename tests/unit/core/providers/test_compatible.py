"""The shared base: what every OpenAI-compatible provider does unless its file says otherwise (S2, F38)."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from intertie.core import errors
from intertie.core.providers._compatible import MAX_WAIT, Compatible, Quirks, retry_after
from intertie.core.terms import Call, Operation, Target, Upstream
from intertie.core.wire.envelope import peek
from intertie.core.wire.http import Head
from intertie.core.wire.openai_errors import WireError

NOW = 1_790_000_000.0
PLAIN = Compatible()


class Quirky(Compatible):
    base_url = "https://api.example.com/v1"
    quirks = Quirks(drop=frozenset({"store"}), rename=MappingProxyType({"max_tokens": "limit"}), stream_usage=False)


def call(operation: Operation = Operation.CHAT, **members: object) -> Call:
    return peek(json.dumps({"model": "asked", **members}).encode(), operation, "req_1")


def sent(adapter: Compatible, asked: Call, base_url: str = "") -> tuple[str, dict[str, object]]:
    request = adapter.request(asked, Target("u", "inner"), Upstream("u", "o", "u", "x", base_url))
    return request.url, json.loads(request.body)


def judged(status: int, body: object = "", headers: dict[str, str] | None = None) -> errors.UpstreamError:
    content = body if isinstance(body, str) else json.dumps(body)
    return PLAIN.classify(Head(status, headers or {}), content.encode(), NOW)


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        (Operation.CHAT, "/chat/completions"),
        (Operation.COMPLETION, "/completions"),
        (Operation.EMBEDDING, "/embeddings"),
    ],
)
def test_every_operation_has_its_path_under_the_base_address(operation: Operation, path: str) -> None:
    assert sent(PLAIN, call(operation), "http://a/v1/")[0] == f"http://a/v1{path}"


def test_the_providers_own_address_serves_where_the_operator_gave_none() -> None:
    assert sent(Quirky(), call())[0] == "https://api.example.com/v1/chat/completions"


def test_quirks_drop_and_rename_members_of_chat() -> None:
    assert sent(Quirky(), call(store=True, max_tokens=5, top_k=3))[1] == {"model": "inner", "limit": 5, "top_k": 3}


@pytest.mark.parametrize(
    ("members", "limit"), [({"limit": None}, 5), ({"limit": 3}, 3), ({"limit": 3, "max_tokens": None}, 3)]
)
def test_a_null_under_the_new_name_takes_no_bound_away(members: dict[str, object], limit: int) -> None:
    """Clients send null for what they leave out; a bound on the output must not get lost over it."""
    assert sent(Quirky(), call(Operation.CHAT, **{"max_tokens": 5, **members}))[1] == {"model": "inner", "limit": limit}


def test_a_completion_is_not_renamed() -> None:
    assert sent(Quirky(), call(Operation.COMPLETION, max_tokens=5))[1] == {"model": "inner", "max_tokens": 5}


def test_usage_is_not_asked_where_the_provider_refuses_the_question() -> None:
    asked = call(stream=True, stream_options={"include_usage": True})

    assert sent(Quirky(), asked)[1] == {"model": "inner", "stream": True}


def test_stream_options_of_a_request_that_does_not_stream_are_left_out() -> None:
    assert sent(PLAIN, call(stream_options={"include_usage": True}))[1] == {"model": "inner"}


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (400, errors.UpstreamRejected),
        (401, errors.UpstreamDenied),
        (402, errors.UpstreamExhausted),
        (403, errors.UpstreamDenied),
        (404, errors.UpstreamNoModel),
        (408, errors.UpstreamContended),
        (409, errors.UpstreamContended),
        (413, errors.UpstreamRejected),
        (422, errors.UpstreamRejected),
        (425, errors.UpstreamContended),
        (429, errors.UpstreamBusy),
        (500, errors.UpstreamFailed),
        (501, errors.UpstreamFailed),
        (502, errors.UpstreamUnavailable),
        (503, errors.UpstreamUnavailable),
        (504, errors.UpstreamUnavailable),
        (529, errors.UpstreamUnavailable),
        (302, errors.UpstreamInvalid),
    ],
)
def test_s2_a_status_means_what_the_table_says(status: int, means: type[errors.UpstreamError]) -> None:
    assert type(judged(status)) is means


@pytest.mark.parametrize("said", [{"code": "insufficient_quota"}, {"type": "billing_hard_limit_reached"}])
def test_s2_a_429_with_a_quota_code_is_not_worth_waiting_for(said: dict[str, str]) -> None:
    assert isinstance(judged(429, {"error": said}), errors.UpstreamExhausted)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (WireError(code="429"), errors.UpstreamBusy),
        (WireError(type="overloaded_error"), errors.UpstreamUnavailable),
        (WireError(code="context_length_exceeded"), errors.UpstreamRejected),
        (WireError(type="insufficient_quota"), errors.UpstreamExhausted),
        (WireError(message="boom"), errors.UpstreamFailed),
        (WireError(code="200"), errors.UpstreamFailed),
        (WireError(code="\u00b2"), errors.UpstreamFailed),
        (WireError(code="4" * 5000), errors.UpstreamFailed),
    ],
)
def test_s2_an_error_under_status_200_counts_as_that_error(said: WireError, means: type[errors.UpstreamError]) -> None:
    assert type(PLAIN.classify_object(said)) is means


def test_s16_a_rejections_text_code_and_parameter_reach_the_caller() -> None:
    error = judged(400, {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}})

    assert (error.public, error.code, error.param) == ("too long", "context_length_exceeded", "messages")


def test_s16_a_code_that_is_no_code_does_not_reach_the_caller() -> None:
    said = {"message": "no", "code": "see http://inner/x", "param": "a\n" * 500}
    error = judged(400, {"error": said})
    assert error.code == "invalid_request"
    assert error.param is not None
    assert len(error.param) <= 100


def test_s16_what_is_the_operators_business_never_reaches_the_caller() -> None:
    error = judged(401, {"error": {"message": "key of Example Ltd is revoked"}})

    assert "Example Ltd" not in error.public
    assert "Example Ltd" in error.detail


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "86400"}, MAX_WAIT),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:14:10 GMT"}, 50.0),
    ],
)
def test_f38_retry_after_is_read_in_every_spelling(headers: dict[str, str], seconds: float | None) -> None:
    """1,790,000,000 seconds after the epoch it was Monday, 21 September 2026, 14:13:20."""
    assert retry_after(headers, NOW) == seconds


def test_f16_an_answer_that_is_a_page_is_not_an_answer() -> None:
    with pytest.raises(errors.UpstreamInvalid):
        PLAIN.answer(call(), Head(200, {"content-type": "text/html"}), b"<html>")


def test_a_stream_needs_a_stream_of_events() -> None:
    with pytest.raises(errors.UpstreamInvalid):
        PLAIN.reader(call(stream=True), Head(200, {"content-type": "application/json"}))


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"too long","type":"exceed_context_size_error","code":400}}',
        b'{"error":{"message":"This model\'s maximum context length is 8192 tokens.","code":400}}',
        b'{"detail":"the request exceeds the available context size, try increasing it"}',
    ],
)
def test_a_prompt_that_is_too_long_has_one_code_whoever_says_it(body: bytes) -> None:
    error = Compatible().classify(Head(400, {}), body, 0.0)
    assert (error.status, error.code) == (400, "context_length_exceeded")
