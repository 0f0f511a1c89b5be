"""Error objects in both directions: S16, T09, T39, T40."""

from __future__ import annotations

import json

import pytest

from intertie.core.errors import RetryBudgetSpent, UpstreamTimeout
from intertie.core.wire.openai_errors import error_event, error_object, read_error, sanitise


def test_s16_the_error_object_has_every_member_clients_read() -> None:
    error = json.loads(error_object(UpstreamTimeout("too slow", detail="secret detail"), "req_1", 2))["error"]
    assert error == {
        "message": "too slow",
        "type": "upstream_error",
        "param": None,
        "code": "upstream_timeout",
        "request_id": "req_1",
        "retryable": True,
        "attempts": 2,
    }


def test_a_refusal_that_retrying_cannot_mend_says_so() -> None:
    assert json.loads(error_object(RetryBudgetSpent("spent"), "req"))["error"]["retryable"] is False


def test_an_in_band_error_is_one_event_that_clients_raise_on() -> None:
    data = error_event(UpstreamTimeout("too slow"), "req", 1)
    assert data.startswith(b'data: {"error":{')
    assert data.endswith(b"}}\n\n")
    assert data.count(b"\n") == 2


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error":{"message":"m","code":401,"type":"t"}}', "m", "401"),
        (b'{"error":"plain"}', "plain", ""),
        (b'{"detail":"from a framework"}', "from a framework", ""),
        (b'{"message":"m","code":"c"}', "m", "c"),
    ],
)
def test_upstream_errors_are_read_whatever_their_spelling(body: bytes, message: str, code: str) -> None:
    error = read_error(body)
    assert error is not None
    assert (error.message, error.code) == (message, code)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"error":null}', b"\xff"])
def test_bodies_without_an_error_give_none(body: bytes) -> None:
    assert read_error(body) is None


@pytest.mark.parametrize(
    "secret",
    [
        "https://api.vendor.example/v1?key=abc",
        "10.1.2.3:8000",
        "sk-proj-abcdef0123456789",
        "gsk_ABCDEFGH12345678",
        "a" * 40,
    ],
)
def test_t39_t40_nothing_that_looks_like_an_address_or_a_key_passes(secret: str) -> None:
    assert secret not in sanitise(f"Incorrect key provided: {secret} at host")


def test_t09_control_characters_and_length_are_tamed() -> None:
    assert sanitise("a\r\nb\x00c\u202ed") == "a b c d"
    assert len(sanitise("word " * 1000)) <= 600


def test_a_list_of_violations_is_read_without_repeating_the_callers_content() -> None:
    body = (
        b'{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","logprobs"],'
        b'"msg":"Extra inputs are not permitted","input":"the caller said this"}]},"type":"invalid_request_error"}'
    )

    said = read_error(body)

    assert said is not None
    assert said.message == "body.logprobs: Extra inputs are not permitted"
