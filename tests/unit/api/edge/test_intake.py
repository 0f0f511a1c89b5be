"""Bytes in, whole messages out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.api.edge.intake import Intake, Request
from intertie.api.edge.rules import EdgeLimits
from intertie.api.edge.state import Edge
from intertie.api.edge.upgrade import Handshake
from intertie.core.errors import BadCall, ClientTooSlow, GatewayError, Overloaded, TooLarge

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n"


class Basket:
    """Keeps what it is given, as if every answer were still to come."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    @property
    def waiting(self) -> int:
        return max(0, len(self.requests) - 1)

    def take(self, request: Request) -> None:
        self.requests.append(request)

    def hand_over(self, handshake: Handshake, rest: bytes) -> None:
        raise AssertionError((handshake, rest))


def intake(limits: EdgeLimits | None = None) -> tuple[Intake, Basket, Edge]:
    edge, basket = Edge(limits or EdgeLimits()), Basket()
    return Intake(edge, basket), basket, edge


def read(pieces: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], str]:
    """Paths and bodies of the messages in `pieces`, and the code of the refusal that ended them."""
    reader, basket, _ = intake()
    code = ""
    try:
        for piece in pieces:
            reader.feed(piece)
            if reader.receiving:
                reader.await_rest(0.0)
    except GatewayError as error:
        code = error.code
    return [(request.target.path, request.body) for request in basket.requests], code


def test_a_message_in_one_piece() -> None:
    reader, basket, edge = intake()

    reader.feed(HEAD + b"X-A: 1\r\nContent-Length: 2\r\n\r\nhi")

    (request,) = basket.requests
    assert (request.version, request.method, request.target.path, request.body) == ("1.1", "POST", "/v1/x", b"hi")
    assert request.headers == [(b"host", b"localhost"), (b"x-a", b"1"), (b"content-length", b"2")]
    assert request.keep_alive
    assert not reader.receiving
    assert edge.body_bytes == 2


MESSAGES = (
    HEAD + b"Content-Length: 2\r\n\r\nhi",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\nX-Trailer: 1\r\n\r\n",
    b"GET /v1/models/a%2Fb HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    b"\r\n" + HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET //x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"nonsense\r\n\r\n",
)


@given(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4), st.data())
def test_T01_how_bytes_are_cut_into_pieces_changes_nothing(messages: list[bytes], drawn: st.DataObject) -> None:
    content = b"".join(messages)
    cuts = sorted(drawn.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]

    assert read(pieces) == read([content])


@given(st.sampled_from(MESSAGES), st.integers(0, 200), st.binary(max_size=4), st.integers(0, 4))
def test_T01_mutated_messages_are_refused_or_read_but_never_break(
    message: bytes, at: int, inserted: bytes, dropped: int
) -> None:
    mutated = message[:at] + inserted + message[at + dropped :]

    _, code = read([mutated, MESSAGES[0]])

    assert code != "internal_error"


def test_T07_head_too_large_in_small_pieces() -> None:
    reader, _, _ = intake(EdgeLimits(head_bytes=1000))
    for piece in (HEAD + b"X-A: ", *[b"a" * 100] * 9):
        reader.feed(piece)
        reader.await_rest(0.0)
    reader.feed(b"a" * 100)

    with pytest.raises(BadCall) as refused:
        reader.await_rest(0.0)

    assert refused.value.status == 431


def test_a_large_body_does_not_count_for_the_head_behind_it() -> None:
    reader, basket, _ = intake(EdgeLimits(head_bytes=1000))

    reader.feed(HEAD + b"Content-Length: 5000\r\n\r\n" + b"a" * 5000 + HEAD)
    reader.await_rest(0.0)
    reader.feed(b"\r\n")

    assert [len(request.body) for request in basket.requests] == [5000, 0]


def test_a_body_over_the_limit_is_refused_by_its_announcement_and_by_its_bytes() -> None:
    for framing in (b"Content-Length: 11\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nb\r\n" + b"a" * 11):
        reader, _, edge = intake(EdgeLimits(body_limit=10))
        with pytest.raises(TooLarge):
            reader.feed(HEAD + framing)
        reader.forget()
        assert edge.body_bytes == 0


def test_the_budget_counts_what_arrived_and_is_given_back_when_forgotten() -> None:
    edge, basket = Edge(EdgeLimits(body_budget=10)), Basket()
    first, second = Intake(edge, basket), Intake(edge, basket)
    first.feed(HEAD + b"Content-Length: 8\r\n\r\n1234567")

    with pytest.raises(Overloaded):
        second.feed(HEAD + b"Content-Length: 8\r\n\r\n1234567")
    second.forget()
    assert edge.body_bytes == 7
    first.close()
    assert edge.body_bytes == 0


def test_F49_no_more_messages_than_may_wait() -> None:
    reader, basket, _ = intake(EdgeLimits(pipelined=2))

    with pytest.raises(BadCall):
        reader.feed(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 9)

    assert len(basket.requests) == 3


def test_the_body_is_asked_for_once_and_only_if_it_is_to_come() -> None:
    reader, _, _ = intake()
    reader.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert [reader.wants_continue(), reader.wants_continue()] == [True, False]

    reader, _, _ = intake()
    reader.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nh")
    assert not reader.wants_continue()


def test_T05_deadlines_run_from_the_first_byte_and_from_the_end_of_the_head() -> None:
    limits = EdgeLimits(head_seconds=10, body_seconds=30)
    reader, _, _ = intake(limits)

    reader.feed(HEAD)
    assert reader.await_rest(100.0) == 110.0
    reader.feed(b"X-A: 1\r\n")
    assert reader.await_rest(105.0) == 110.0
    reader.feed(b"Content-Length: 9\r\n\r\n")
    assert reader.await_rest(109.0) == 139.0
    reader.feed(b"a")
    assert reader.await_rest(120.0) == 139.0


@pytest.mark.parametrize(
    ("length", "received", "at", "enough"),
    [
        (128 << 10, 100 << 10, 30.0, False),  # small bodies have 30 s, whatever their rate
        (10 << 20, 200 << 10, 30.0, True),
        (10 << 20, 100 << 10, 30.0, False),
        (10 << 20, 200 << 10, 51.0, False),
    ],
)
def test_T05_after_30_s_only_large_bodies_at_4_kib_per_second_go_on(
    length: int, received: int, at: float, enough: bool
) -> None:
    reader, _, _ = intake()
    reader.feed(HEAD + b"Content-Length: %d\r\n\r\n" % length)
    reader.await_rest(0.0)
    reader.feed(b"a" * received)
    reader.await_rest(at - 1)

    if enough:
        reader.expire(at)
    else:
        with pytest.raises(ClientTooSlow):
            reader.expire(at)


def test_T05_a_large_body_may_not_fall_silent() -> None:
    reader, _, _ = intake()
    reader.feed(HEAD + b"Content-Length: 9000000\r\n\r\n" + b"a" * 8_000_000)
    reader.await_rest(0.0)

    reader.expire(29.9)
    with pytest.raises(ClientTooSlow):
        reader.expire(30.0)
