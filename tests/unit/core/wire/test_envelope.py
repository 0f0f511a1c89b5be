"""Peeking at requests and editing them: T11 to T13, F51."""

from __future__ import annotations

import msgspec
import pytest

from intertie.core.errors import BadCall
from intertie.core.terms import Operation
from intertie.core.wire import envelope


def test_the_envelope_is_read_and_the_rest_stays_raw() -> None:
    call = envelope.peek(
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"x":{"y":[1]}}', Operation.CHAT, "req"
    )
    assert (call.model, call.stream, call.wants_usage) == ("m", True, True)
    assert bytes(call.fields["x"]) == b'{"y":[1]}'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"model":"m"} x', "invalid_json"),
        (b"\xff\xfe{\x00}\x00", "invalid_json"),
        (b'{"model":"m","a":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
        (b'{"model":"m","a":NaN}', "invalid_json"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}', "invalid_json"),
        (b"{}", "missing_required_parameter"),
        (b'{"model":""}', "missing_required_parameter"),
        (b'{"model":5}', "invalid_type"),
        (b'{"model":"m","stream":"yes"}', "invalid_type"),
    ],
)
def test_f51_t11_t13_a_malformed_body_is_the_callers_mistake(body: bytes, code: str) -> None:
    with pytest.raises(BadCall) as caught:
        envelope.peek(body, Operation.CHAT, "req")
    assert (caught.value.status, caught.value.code) == (400, code)


def test_t12_of_duplicate_members_the_one_checked_is_the_one_sent() -> None:
    call = envelope.peek(b'{"model":"first","model":"second"}', Operation.CHAT, "req")
    assert call.model == "second"
    assert envelope.encode(call.fields) == b'{"model":"second"}'


def test_usage_is_asked_for_without_losing_other_stream_options() -> None:
    call = envelope.peek(b'{"model":"m","stream":true,"stream_options":{"a":1}}', Operation.CHAT, "req")
    assert not call.wants_usage
    assert msgspec.json.decode(envelope.with_usage(call.fields)) == {"a": 1, "include_usage": True}


def test_stream_options_of_a_wrong_type_are_named() -> None:
    with pytest.raises(BadCall) as caught:
        envelope.peek(b'{"model":"m","stream":true,"stream_options":7}', Operation.CHAT, "req")
    assert caught.value.param == "stream_options"
