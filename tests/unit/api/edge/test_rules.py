"""The rules of the edge, case by case; the same over a real socket is in tests/fault/test_edge_raw.py."""

from __future__ import annotations

import json

import pytest

from intertie.api.edge.rules import (
    FORWARDED,
    Framing,
    RequestTarget,
    check_host,
    read_head,
    read_target,
    refusal,
    without_upgrade,
)
from intertie.core.errors import BadCall, ClientTooSlow, Overloaded

HOST = (b"host", b"localhost")


def test_head_with_length() -> None:
    assert read_head([HOST, (b"content-length", b"12")], "1.1") == Framing(b"localhost", 12)


def test_head_with_chunks_and_expectation() -> None:
    headers = [HOST, (b"transfer-encoding", b"Chunked"), (b"expect", b"100-Continue")]

    assert read_head(headers, "1.1") == Framing(b"localhost", chunked=True, expects=True)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HOST, HOST],
        [HOST, (b"content-length", b"1"), (b"content-length", b"1")],
        [HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [HOST, (b"content-length", b"1_0")],
        [HOST, (b"content-length", "²".encode("latin-1"))],
        [HOST, (b"transfer-encoding", b"gzip, chunked")],
        [HOST, (b"x-a", b"1"), (b"x_a", b"2")],
    ],
)
def test_T01_T02_T04_ambiguous_heads_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadCall):
        read_head(headers, "1.1")


def test_T01_chunks_in_http_1_0_are_refused() -> None:
    with pytest.raises(BadCall):
        read_head([HOST, (b"transfer-encoding", b"chunked")], "1.0")


def test_T04_spoofed_and_underscored_names_are_removed_in_place() -> None:
    headers = [HOST, (b"x-forwarded-for", b"1.2.3.4"), (b"x_real_ip", b"1.2.3.4"), (b"x-kept", b"1")]

    read_head(headers, "1.1")

    assert headers == [HOST, (b"x-kept", b"1"), FORWARDED]


def test_what_was_forwarded_is_kept_apart_for_those_who_are_trusted() -> None:
    """Several headers are one list, as the standard has it; other spellings of it are not read."""
    headers = [
        HOST,
        (b"x-forwarded-for", b"1.1.1.1"),
        (b"x-real-ip", b"3.3.3.3"),
        (b"x-forwarded-for", b"2.2.2.2, 4.4.4.4"),
    ]

    assert read_head(headers, "1.1").forwarded == b"1.1.1.1,2.2.2.2, 4.4.4.4"
    assert read_head([HOST, (b"content-length", b"1"), (b"x-forwarded-for", b"1.1.1.1")], "1.1").forwarded == b"1.1.1.1"
    assert read_head([HOST, (b"x_forwarded_for", b"1.1.1.1")], "1.1").forwarded == b""


def test_t04_nothing_is_added_where_nothing_was_forwarded() -> None:
    headers = [HOST, (b"x_team", b"a")]

    read_head(headers, "1.1")

    assert headers == [HOST]


@pytest.mark.parametrize(
    ("value", "hosts", "status"),
    [
        (b"localhost:8080", ["localhost"], None),
        (b"LocalHost.", ["localhost"], None),
        (b"[::1]:8080", ["[::1]"], None),
        (b"my_gateway", ["*"], None),
        (b"a.example.com", ["*.example.com"], None),
        (b"example.com", ["*.example.com"], 421),
        (b"notexample.com", ["*.example.com"], 421),
        (b"localhost.evil.com", ["localhost"], 421),
        (b"", ["*"], 400),
        (b"a/b", ["*"], 400),
        (b"a b", ["*"], 400),
        (b"a@b", ["*"], 400),
        (b"a:b", ["*"], 400),
        (b"a:1:2", ["*"], 400),
        (b"[::1", ["*"], 400),
        (b"a\n", ["*"], 400),
        ("ü".encode(), ["*"], 400),
    ],
)
def test_T02_host(value: bytes, hosts: list[str], status: int | None) -> None:
    if status is None:
        check_host(value, hosts)
        return
    with pytest.raises(BadCall) as refused:
        check_host(value, hosts)
    assert refused.value.status == status


def test_target_with_query() -> None:
    assert read_target(b"/a/b?c=/../%2f") == RequestTarget("/a/b", b"/a/b", b"c=/../%2f")


def test_a_model_id_is_decoded_once() -> None:
    assert read_target(b"/v1/models/org%2Fname%3A8b").path == "/v1/models/org/name:8b"


@pytest.mark.parametrize("url", [b"/v1%2Fmodels/x", b"/v1/models%2Fx", b"/v1/modelsx/a%2Fb", b"/x/v1/models/a%2Fb"])
def test_T03_slashes_are_encoded_in_model_ids_only(url: bytes) -> None:
    with pytest.raises(BadCall):
        read_target(url)


def test_the_wish_for_another_protocol_is_left_out() -> None:
    headers = [
        HOST,
        (b"connection", b"Upgrade, HTTP2-Settings, close"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"A"),
    ]

    head = without_upgrade(b"POST", b"/x", "1.1", headers)

    assert head == b"POST /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def test_refusal_is_a_whole_answer_in_the_shape_of_openai() -> None:
    answer = refusal(ClientTooSlow("Too slow."), "req_1", b"date: today\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 408 Request Timeout",
        b"date: today",
        b"content-type: application/json",
        b"cache-control: no-store",
        b"connection: close",
        b"content-length: %d" % len(body),
        b"x-request-id: req_1",
        b"x-should-retry: false",
    ]
    error = json.loads(body)["error"]
    assert (error["message"], error["code"], error["request_id"]) == ("Too slow.", "request_timeout", "req_1")


def test_refusal_of_an_overload_says_when_to_come_back() -> None:
    assert b"\r\nretry-after: 3\r\n" in refusal(Overloaded("Full.", retry_after=2.1), "req_1", b"")
