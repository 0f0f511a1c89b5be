"""Hostile and odd bytes on a real socket: what is refused, how, and that nothing is served that was not asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from intertie.api.edge import EdgeLimits
from tests.support.edge_bed import Bed, Recorder, edge_bed

HOST = b"Host: localhost:8080\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(*headers: bytes, body: bytes = b"", target: bytes = b"/v1/x", version: bytes = b"1.1") -> bytes:
    """A POST with a valid Host."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST " + target + b" HTTP/" + version + b"\r\n" + HOST + lines + b"\r\n" + body


def get(target: bytes, *headers: bytes) -> bytes:
    """A GET with a valid Host that asks to close."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + lines + b"Connection: close\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
ONE_CHUNK = b"2\r\nhi\r\n0\r\n\r\n"

REFUSED: dict[str, tuple[bytes, int]] = {
    # appendix A.1, in its order
    "both lengths": (post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED), 400),
    "both lengths, other order": (post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED), 400),
    "different lengths": (post(b"Content-Length: 2", b"Content-Length: 3", body=b"hi!"), 400),
    "equal lengths": (post(b"Content-Length: 2", b"Content-Length: 2", body=b"hi"), 400),
    "list of lengths": (post(b"Content-Length: 2, 2", body=b"hi"), 400),
    "signed length": (post(b"Content-Length: +2", body=b"hi"), 400),
    "negative length": (post(b"Content-Length: -2", body=b"hi"), 400),
    "hexadecimal length": (post(b"Content-Length: 0x2", body=b"hi"), 400),
    "length with underscore": (post(b"Content-Length: 0_2", body=b"hi"), 400),
    "empty length": (post(b"Content-Length: ", body=b"hi"), 400),
    "length over 64 bits": (post(b"Content-Length: 18446744073709551618", body=b"hi"), 400),
    "unknown coding": (post(b"Transfer-Encoding: xchunked", body=ONE_CHUNK), 400),
    "identity coding": (post(b"Transfer-Encoding: identity", body=b""), 400),
    "repeated coding": (post(b"Transfer-Encoding: chunked, chunked", body=ONE_CHUNK), 400),
    "coding in two headers": (post(CHUNKED, CHUNKED, body=ONE_CHUNK), 400),
    "coding not final": (post(b"Transfer-Encoding: chunked, gzip", body=ONE_CHUNK), 400),
    "coding before chunked": (post(b"Transfer-Encoding: gzip, chunked", body=ONE_CHUNK), 400),
    "coding with a vertical tab": (post(b"Transfer-Encoding: \x0bchunked", body=ONE_CHUNK), 400),
    "chunked in HTTP/1.0": (post(CHUNKED, body=ONE_CHUNK, version=b"1.0"), 400),
    "space before colon": (post(b"Content-Length : 2", body=b"hi"), 400),
    "folded coding": (post(b"Transfer-Encoding:\r\n chunked", body=ONE_CHUNK), 400),
    "folded header": (post(b"X-A: 1\r\n  2", b"Content-Length: 0"), 400),
    "bare LF between headers": (b"POST /v1/x HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n", 400),
    "CR inside a value": (post(b"X-A: a\rb", b"Content-Length: 0"), 400),
    "NUL inside a value": (post(b"X-A: a\x00b", b"Content-Length: 0"), 400),
    "signed chunk size": (post(CHUNKED, body=b"+2\r\nhi\r\n0\r\n\r\n"), 400),
    "0x chunk size": (post(CHUNKED, body=b"0x2\r\nhi\r\n0\r\n\r\n"), 400),
    "chunk lines with bare LF": (post(CHUNKED, body=b"2\nhi\n0\n\n"), 400),
    "LF in a chunk extension": (post(CHUNKED, body=b"2;a=\nb\r\nhi\r\n0\r\n\r\n"), 400),
    "wrong bytes after a chunk": (post(CHUNKED, body=b"2\r\nhixx0\r\n\r\n"), 400),
    "chunk size over 64 bits": (post(CHUNKED, body=b"10000000000000002\r\nhi\r\n0\r\n\r\n"), 400),
    "empty chunk size": (post(CHUNKED, body=b"\r\nhi\r\n0\r\n\r\n"), 400),
    "no Host": (b"GET /v1/x HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /v1/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "Host with a path": (b"GET /v1/x HTTP/1.1\r\nHost: a/b?c=d\r\n\r\n", 400),
    "Host with a user": (b"GET /v1/x HTTP/1.1\r\nHost: me@a\r\n\r\n", 400),
    "Host with a fragment": (b"GET /v1/x HTTP/1.1\r\nHost: a#b\r\n\r\n", 400),
    "Host list": (b"GET /v1/x HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "empty Host": (b"GET /v1/x HTTP/1.1\r\nHost: \r\n\r\n", 400),
    "Host with a bad port": (b"GET /v1/x HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
    "no Host in HTTP/1.0": (b"GET /v1/x HTTP/1.0\r\n\r\n", 400),
    "absolute form": (get(b"http://other/v1/x"), 400),
    "absolute form of our own": (get(b"http://localhost:8080/v1/x"), 400),
    "absolute form, no path": (get(b"http://other"), 400),
    "authority form": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n" + SMUGGLED, 400),
    "authority form of GET": (get(b"localhost:80"), 400),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "bad character in a header name": (post(b"X(A: 1", b"Content-Length: 0"), 400),
    "empty header name": (post(b": 1", b"Content-Length: 0"), 400),
    "version 1.10": (post(b"Content-Length: 0", version=b"1.10"), 400),
    "version 2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "version 0.9": (post(b"Content-Length: 0", version=b"0.9"), 400),
    "no version": (b"GET /v1/x\r\n\r\n", 400),
    "unknown method": (b"BREW /v1/x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "underscore twin": (post(b"X-A: 1", b"X_A: 2", b"Content-Length: 0"), 400),
    "underscore length": (post(b"Content_Length: 5", b"Content-Length: 0", body=b""), 400),
    # paths that change under canonicalisation (T03)
    "dot segment": (get(b"/v1/./x"), 400),
    "dot dot segment": (get(b"/v1/../api/keys"), 400),
    "trailing dot dot": (get(b"/v1/.."), 400),
    "dot dot with parameter": (get(b"/v1/..;/api"), 400),
    "encoded dots": (get(b"/v1/%2e%2e/api"), 400),
    "encoded slash": (get(b"/v1%2Fchat/completions"), 400),
    "encoded slash in the console": (get(b"/console/a%2fb"), 400),
    "encoded backslash": (get(b"/v1/%5c..%5capi"), 400),
    "backslash": (get(b"/v1\\x"), 400),
    "encoded NUL": (get(b"/v1/x%00"), 400),
    "encoded CR LF": (get(b"/v1/x%0d%0aX-A:1"), 400),
    "encoded percent": (get(b"/v1/%252e%252e/x"), 400),
    "encoded letter": (get(b"/v1/%63hat/completions"), 400),
    "half an escape": (get(b"/v1/x%2"), 400),
    "not UTF-8": (get(b"/v1/x%ff"), 400),
    "double slash": (get(b"/v1//chat/completions"), 400),
    "leading double slash": (get(b"//other/v1/x"), 400),
    "fragment": (get(b"/v1/x#y"), 400),
    "raw non-ASCII": (get("/v1/é".encode()), 400),
    "dots in a model id": (get(b"/v1/models/a/../b"), 400),
    "encoded dots in a model id": (get(b"/v1/models/a%2F%2e%2e%2Fb"), 400),
    "two slashes in a model id": (get(b"/v1/models/a%2F%2Fb"), 400),
    "backslash in a model id": (get(b"/v1/models/a%5Cb"), 400),
    # what is too much, T07
    "head over 64 KiB": (get(b"/v1/x", b"X-A: " + b"a" * 70_000), 431),
    "head over 64 KiB, unfinished": (b"GET /v1/x HTTP/1.1\r\nX-A: " + b"a" * 70_000, 431),
    "target over 64 KiB": (get(b"/" + b"a" * 70_000), 431),
    "over 100 headers": (get(b"/v1/x", *[b"X-%d: 1" % n for n in range(101)]), 431),
    "endless trailers": (post(CHUNKED, body=b"0\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(3000))), 431),
    "announced over the limit": (post(b"Content-Length: 1000001"), 413),
    "announced over the limit, asking": (post(b"Content-Length: 1000001", b"Expect: 100-continue"), 413),
    "chunks over the limit": (post(CHUNKED, body=(b"20000\r\n" + b"a" * 0x20000 + b"\r\n") * 8), 413),
    "chunks of one byte": (post(CHUNKED, body=b"1\r\na\r\n" * 60_000), 400),
    "endless chunk extension": (post(CHUNKED, body=b"2;" + b"a" * 300_000), 400),
}


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with edge_bed(EdgeLimits(body_limit=1_000_000, linger_seconds=0.5)) as running:
        yield running


@pytest.mark.parametrize("name", REFUSED)
def test_T01_T02_T03_T07_refused_with_one_answer_and_closed(bed: Bed, name: str) -> None:
    content, status = REFUSED[name]
    before = len(bed.app.seen)

    answer = bed.exchange(content + SMUGGLED)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-should-retry: false" in head
    error = json.loads(body)["error"]
    assert error["type"] == "invalid_request_error"
    assert error["code"]
    assert error["param"] is None
    assert bed.app.seen[before:] == []


ACCEPTED: dict[str, tuple[bytes, str, bytes]] = {
    "baseline": (post(b"Content-Length: 2", b"Connection: close", body=b"hi"), "/v1/x", b"hi"),
    "chunked": (post(CHUNKED, b"Connection: close", body=ONE_CHUNK), "/v1/x", b"hi"),
    "chunked in capitals": (post(b"Transfer-Encoding: CHUNKED", b"Connection: close", body=ONE_CHUNK), "/v1/x", b"hi"),
    "chunk extension": (post(CHUNKED, b"Connection: close", body=b"2;a=b\r\nhi\r\n0\r\n\r\n"), "/v1/x", b"hi"),
    "HTTP/1.0 with Host": (post(b"Content-Length: 2", body=b"hi", version=b"1.0"), "/v1/x", b"hi"),
    "no body": (get(b"/v1/x"), "/v1/x", b""),
    "empty lines before": (b"\r\n\r\n" + get(b"/v1/x"), "/v1/x", b""),
    "query": (get(b"/v1/x?a=%2e%2e//b&c={}"), "/v1/x", b""),
    "trailing slash": (get(b"/console/"), "/console/", b""),
    "plain slashes in a model id": (get(b"/v1/models/org/name"), "/v1/models/org/name", b""),
    "encoded slashes in a model id": (get(b"/v1/models/org%2Fname:8b"), "/v1/models/org/name:8b", b""),
    "encoded model id on a node": (get(b"/nodes/rig-1/v1/models/org%2fname"), "/nodes/rig-1/v1/models/org/name", b""),
    "encoded space and umlaut": (get(b"/api/routes/a%20%C3%BC"), "/api/routes/a ü", b""),
    "IPv6 host": (b"GET /v1/x HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n", "/v1/x", b""),
    "wish for h2c": (
        post(
            b"Connection: Upgrade, HTTP2-Settings, close",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABk",
            b"Content-Length: 2",
            body=b"hi",
        ),
        "/v1/x",
        b"hi",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_T01_accepted_as_exactly_one_request(bed: Bed, name: str) -> None:
    content, path, body = ACCEPTED[name]
    before = len(bed.app.seen)

    answer = bed.exchange(content)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"ok " + path.encode())
    assert [(seen.path, seen.body) for seen in bed.app.seen[before:]] == [(path, body)]


@pytest.mark.parametrize("name", ACCEPTED)
def test_T01_the_same_one_byte_at_a_time(bed: Bed, name: str) -> None:
    content, path, body = ACCEPTED[name]
    before = len(bed.app.seen)

    with bed.connect() as wire:
        for byte in content:
            wire.send(bytes([byte]))
        answer = wire.rest()

    assert answer.endswith(b"ok " + path.encode())
    assert [(seen.path, seen.body) for seen in bed.app.seen[before:]] == [(path, body)]


def test_T01_bytes_after_a_request_that_closes_are_not_a_request(bed: Bed) -> None:
    before = len(bed.app.seen)

    answer = bed.exchange(get(b"/v1/x") + SMUGGLED)

    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1
    assert [seen.path for seen in bed.app.seen[before:]] == ["/v1/x"]


def test_T07_trailers_never_pose_as_headers(bed: Bed) -> None:
    trailer = b"2\r\nhi\r\n0\r\nAuthorization: Bearer other\r\nX-Extra: 1\r\n\r\n"

    bed.exchange(post(CHUNKED, b"Connection: close", b"Trailer: Authorization", body=trailer))

    assert {b"authorization", b"x-extra"}.isdisjoint(bed.app.seen[-1].headers)


@pytest.mark.parametrize(
    ("proxies", "client"), [((), b"127.0.0.1"), (("10.0.0.0/8",), b"127.0.0.1"), (("127.0.0.0/8",), b"203.0.113.9")]
)
def test_T04_the_client_is_whom_a_trusted_proxy_names_and_else_the_peer(
    proxies: tuple[str, ...], client: bytes
) -> None:
    """For each request of a connection anew, since a proxy sends many clients over one; the header itself is gone."""
    forged = get(b"/who", b"X-Forwarded-For: 198.51.100.1, 203.0.113.9").replace(b"Connection: close\r\n", b"")
    with edge_bed(EdgeLimits(proxies=proxies)) as bed:
        answers = bed.exchange(forged + get(b"/who"))
        seen = [request.headers for request in bed.app.seen]

    bodies = [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [client, b"127.0.0.1"]
    assert [b"x-forwarded-for" in headers for headers in seen] == [False, False]
    assert [b"x-intertie-forwarded" in headers for headers in seen] == [True, False]


def test_T04_headers_of_a_proxy_that_is_not_there_are_dropped(bed: Bed) -> None:
    bed.exchange(
        get(b"/v1/x", b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=1.2.3.4", b"X-Real_IP: 1.2.3.4", b"X-Kept: 1")
    )

    assert set(bed.app.seen[-1].headers) == {b"host", b"x-kept", b"connection", b"x-intertie-forwarded"}


def test_T02_host_outside_the_allow_list_is_misdirected() -> None:
    with edge_bed(EdgeLimits(hosts=("localhost", "[::1]", "*.example.com"))) as bed:
        for host, status in {
            b"LOCALHOST:9": 200,
            b"localhost.": 200,
            b"[::1]:8080": 200,
            b"ai.example.com": 200,
            b"example.com": 421,
            b"evil.com": 421,
            b"localhost.evil.com": 421,
        }.items():
            answer = bed.exchange(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 %d " % status), host


@pytest.mark.parametrize("value", [b"a\r\nx-split: 1", b"a\nb", b"a\rb", b"a\0b"])
def test_T09_a_header_that_would_split_the_answer_is_an_internal_error(
    value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with edge_bed(app=Recorder(headers=[(b"x-model", value)])) as bed:
        answer = bed.exchange(get(b"/v1/x"))

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"x-split" not in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "internal_error"
    assert "would split" in caplog.text


def test_F85_an_application_that_fails_becomes_a_json_error_with_a_request_id(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    answer = bed.exchange(get(b"/crash"))

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert re.search(rb'"request_id":"req_[0-9a-f]{24}"', answer)
    assert b"on purpose" not in answer
    assert "on purpose" in caplog.text


def test_F85_an_application_that_fails_mid_answer_leaves_a_visibly_broken_one(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    answer = bed.exchange(get(b"/crash-late"))

    assert answer.endswith(b"5\r\nbegun\r\n")
    assert "on purpose" in caplog.text


def test_an_http_1_0_client_never_gets_chunks(bed: Bed) -> None:
    answer = bed.exchange(b"GET /stream HTTP/1.0\r\n" + HOST + b"\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"0;1;2;3;4;5;6;7;8;9;"


def test_head_gets_the_head_only(bed: Bed) -> None:
    with bed.connect() as wire:
        wire.send(b"HEAD /v1/x HTTP/1.1\r\n" + HOST + b"\r\nHEAD /stream HTTP/1.1\r\n" + HOST + b"\r\n" + get(b"/v1/y"))
        answer = wire.rest()

    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"ok /v1/x") == 0
    assert answer.endswith(b"\r\n\r\nok /v1/y")


def test_the_head_of_a_stream_does_not_wait_for_its_first_chunk() -> None:
    with edge_bed(app=Recorder(tick=1.0, silent_first=True)) as bed, bed.connect() as wire:
        wire.send(get(b"/stream"))

        assert b";" not in wire.until(b"\r\n\r\n")


def test_continue_is_said_only_when_the_body_is_still_to_come(bed: Bed) -> None:
    head = post(b"Content-Length: 2", b"Expect: 100-continue", b"Connection: close")
    with bed.connect() as wire:
        wire.send(head)
        assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"hi")
        assert wire.rest().startswith(b"HTTP/1.1 200 ")

    assert bed.exchange(head + b"hi").startswith(b"HTTP/1.1 200 ")


def test_413_reaches_a_client_that_goes_on_sending() -> None:
    """Closing at once would reset the connection and destroy the answer on its way."""
    with edge_bed(EdgeLimits(body_limit=1000)) as bed, bed.connect() as wire:
        wire.send(post(b"Content-Length: 8000000", body=b"a" * 8_000_000))
        assert wire.rest().startswith(b"HTTP/1.1 413 ")
