"""Clients that are slow, silent, gone or too many: bounded, and never seen by the application (F45 to F49).

The deadlines are far shorter than the real ones; what is tested is that each exists, and about when it strikes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import msgspec
import pytest

from intertie.api.edge import EdgeLimits
from tests.support.edge_bed import Bed, Recorder, Wire, edge_bed, eventually

QUICK = EdgeLimits(
    silent_seconds=0.6,
    head_seconds=0.4,
    body_seconds=0.5,
    body_rate=40_000,
    body_rate_above=16 << 10,
    idle_seconds=0.5,
    stall_seconds=0.5,
    linger_seconds=0.3,
    sweep_seconds=0.02,
)
START = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n"
ASK = b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def ask(path: bytes) -> bytes:
    """A GET that keeps the connection."""
    return b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


def drip(wire: Wire, first: bytes, unit: bytes, pause: float) -> None:
    """Send `first`, then `unit` again and again until the server has had enough."""
    wire.send(first)
    for _ in range(100):
        if wire.readable(pause):
            return
        wire.send(unit)


SLOW: dict[str, tuple[Callable[[Wire], None], float]] = {
    "no bytes at all": (lambda wire: None, QUICK.silent_seconds),
    "partial head, silence": (lambda wire: wire.send(START), QUICK.head_seconds),
    "head drip": (lambda wire: drip(wire, START, b"X-A: 1\r\n", 0.03), QUICK.head_seconds),
    "body silence": (lambda wire: wire.send(START + b"Content-Length: 9\r\n\r\n"), QUICK.body_seconds),
    "body drip": (
        lambda wire: drip(wire, START + b"Content-Length: 900\r\n\r\n", b"a", 0.03),
        QUICK.body_seconds,
    ),
    "chunk drip": (
        lambda wire: drip(wire, START + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", 0.03),
        QUICK.body_seconds,
    ),
    "large body, below the rate": (
        lambda wire: drip(wire, START + b"Content-Length: 9000000\r\n\r\n", b"a" * 600, 0.03),
        QUICK.body_seconds,
    ),
    "large body that stops": (
        lambda wire: wire.send(START + b"Content-Length: 9000000\r\n\r\n" + b"a" * 200_000),
        QUICK.body_seconds,
    ),
}


@pytest.mark.parametrize("pattern", SLOW)
def test_F46_slow_senders_get_408_in_time_and_never_reach_the_application(pattern: str) -> None:
    act, deadline = SLOW[pattern]
    with edge_bed(QUICK) as bed, bed.connect() as wire:
        begun = time.monotonic()
        act(wire)
        answer = wire.rest()
        took = time.monotonic() - begun

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
        assert deadline <= took < deadline + 0.5
        assert bed.app.seen == []
        eventually(lambda: bed.server.statistics().connections == 0)
        assert bed.server.statistics().refusals == {"request_timeout": 1}


def test_T05_leading_empty_lines_do_not_buy_time() -> None:
    with edge_bed(QUICK) as bed, bed.connect() as wire:
        begun = time.monotonic()
        drip(wire, b"\r\n", b"\r\n", 0.03)

        assert wire.rest().startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begun < QUICK.silent_seconds + 0.5


def test_T05_a_large_body_that_keeps_the_rate_may_take_longer_than_body_seconds() -> None:
    with edge_bed(QUICK) as bed, bed.connect() as wire:
        wire.send(START + b"Content-Length: 100000\r\nConnection: close\r\n\r\n")
        begun = time.monotonic()
        for _ in range(50):
            wire.send(b"a" * 2000)
            time.sleep(0.02)
        took = time.monotonic() - begun

        assert wire.rest().startswith(b"HTTP/1.1 200 ")
        assert took > QUICK.body_seconds
        assert len(bed.app.seen[0].body) == 100_000


def test_T05_an_idle_connection_is_closed_without_a_word_and_a_busy_one_is_not() -> None:
    with edge_bed(QUICK) as bed, bed.connect() as wire:
        for _ in range(3):
            wire.send(ASK)
            wire.until(b"ok /v1/x")
            time.sleep(QUICK.idle_seconds / 2)
        begun = time.monotonic()

        assert wire.rest() == b""
        assert time.monotonic() - begun < QUICK.idle_seconds
        assert len(bed.app.seen) == 3


def test_T05_a_request_under_way_has_no_deadline_here() -> None:
    with edge_bed(QUICK, Recorder(tick=0.2)) as bed, bed.connect() as wire:
        wire.send(ask(b"/stream"))

        assert wire.until(b"0\r\n\r\n").endswith(b"9;\r\n0\r\n\r\n")


def test_F46_a_reader_that_stalls_is_cut_off_and_the_application_is_told() -> None:
    with edge_bed(QUICK) as bed, bed.connect(receive_buffer=4096) as wire:
        wire.send(ask(b"/flood"))
        wire.until(b"xxxx")

        eventually(lambda: bed.app.left == ["/flood"])
        eventually(lambda: bed.app.ended == ["/flood"])
        eventually(lambda: bed.server.statistics().connections == 0)
        assert bed.server.statistics().refusals == {"write_stalled": 1}


def test_F46_a_reader_that_is_slow_but_reads_is_served() -> None:
    with edge_bed(QUICK) as bed, bed.connect(receive_buffer=4096) as wire:
        wire.send(ask(b"/flood"))
        end = time.monotonic() + 3 * QUICK.stall_seconds
        received = 0
        while time.monotonic() < end:
            received += wire.read(1 << 20)
            time.sleep(0.001)

        assert bed.app.left == []
        assert received > 0


def test_T05_an_answer_nobody_reads_does_not_hold_its_closing_connection() -> None:
    """After the last byte there is no application left to wait: the close itself has a deadline."""
    big = Recorder(headers=[(b"x-big", b"a" * 8_000_000)])
    with edge_bed(QUICK, big) as bed, bed.connect(receive_buffer=4096) as wire:
        wire.send(ask(b"/v1/x").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

        eventually(lambda: bed.app.ended == ["/v1/x"])
        eventually(lambda: bed.server.statistics().connections == 0)


@pytest.mark.parametrize("manner", ["close", "reset", "half_close"])
@pytest.mark.parametrize("path", [b"/hang", b"/stream"])
def test_F47_F48_the_application_is_told_once_when_the_client_leaves(manner: str, path: bytes) -> None:
    with edge_bed(app=Recorder(tick=0.1)) as bed, bed.connect() as wire:
        wire.send(ask(path))
        eventually(lambda: len(bed.app.seen) == 1)
        left_at = time.monotonic()
        getattr(wire, manner)()

        eventually(lambda: bed.app.ended == [path.decode()])
        assert time.monotonic() - left_at < 1
        assert bed.app.left == [path.decode()]


def test_F47_nobody_is_told_when_the_client_leaves_after_its_answer() -> None:
    with edge_bed() as bed:
        with bed.connect() as wire:
            wire.send(ASK)
            wire.until(b"ok /v1/x")
        eventually(lambda: bed.server.statistics().connections == 0)

        assert bed.app.left == []


def test_F47_a_client_that_leaves_before_its_request_is_whole_never_was() -> None:
    with edge_bed() as bed:
        with bed.connect() as wire:
            wire.send(START + b"Content-Length: 9\r\n\r\nabc")
            eventually(lambda: bed.server.statistics().body_bytes == 3)
        eventually(lambda: bed.server.statistics().connections == 0)

        assert bed.app.seen == []
        assert bed.server.statistics().body_bytes == 0


def test_F49_pipelined_requests_are_answered_in_order_without_cross_talk() -> None:
    paths = [b"/v1/%d" % number for number in range(6)]
    content = b"".join(
        START.replace(b"/v1/x", path) + b"Content-Length: 6\r\n\r\n" + path[-6:] + b" " for path in paths
    )
    with edge_bed() as bed, bed.connect() as wire:
        wire.send(content)
        answers = wire.until(b"ok /v1/5")

        assert answers.count(b"HTTP/1.1 200 ") == 6
        assert [seen.path for seen in bed.app.seen] == [path.decode() for path in paths]
        assert [seen.body.strip() for seen in bed.app.seen] == [path[-6:] for path in paths]


def test_F49_a_request_during_a_stream_waits_for_its_end() -> None:
    with edge_bed() as bed, bed.connect() as wire:
        wire.send(ask(b"/stream"))
        wire.until(b"0;")
        wire.send(ASK)
        answer = wire.until(b"ok /v1/x")

        stream, _, second = answer.partition(b"0\r\n\r\n")
        assert b"HTTP/1.1" not in stream
        assert second.startswith(b"HTTP/1.1 200 ")
        assert bed.app.ended == ["/stream", "/v1/x"]


def test_F49_garbage_during_a_stream_is_refused_after_its_end() -> None:
    with edge_bed() as bed, bed.connect() as wire:
        wire.send(ask(b"/stream"))
        wire.until(b"0;")
        wire.send(b"\x00garbage\r\n\r\n")
        stream, _, second = wire.rest().partition(b"0\r\n\r\n")

        assert b"HTTP/1.1" not in stream
        assert second.startswith(b"HTTP/1.1 400 ")
        assert bed.app.left == []


def test_F49_a_slow_request_behind_a_stream_is_refused_after_its_end() -> None:
    with edge_bed(QUICK, Recorder(tick=0.1)) as bed, bed.connect() as wire:
        wire.send(ask(b"/stream") + START)
        stream, _, second = wire.rest().partition(b"0\r\n\r\n")

        assert b"9;" in stream
        assert second.startswith(b"HTTP/1.1 408 ")


def test_F49_continue_waits_for_the_answer_before_it() -> None:
    with edge_bed() as bed, bed.connect() as wire:
        wire.send(ask(b"/stream") + START + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        stream, _, rest = wire.until(b"100 Continue\r\n\r\n").partition(b"0\r\n\r\n")
        wire.send(b"hi")

        assert b"9;" in stream
        assert rest == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert wire.until(b"ok /v1/x").startswith(b"HTTP/1.1 200 ")
        assert bed.app.seen[1].body == b"hi"


def test_F49_more_requests_in_line_than_allowed_end_the_connection_after_those_allowed() -> None:
    limits = EdgeLimits(pipelined=3)
    with edge_bed(limits) as bed, bed.connect() as wire:
        wire.send(ask(b"/stream") + ASK * 20)
        answer = wire.rest()

        assert answer.count(b"HTTP/1.1 200 ") == 4
        assert answer.count(b"HTTP/1.1 400 ") == 1
        assert len(bed.app.seen) == 4


def test_bodies_over_the_budget_of_the_process_are_refused_until_others_are_answered() -> None:
    limits = EdgeLimits(body_budget=100_000)
    body = b"Content-Length: 60000\r\n\r\n" + b"a" * 60_000
    with edge_bed(limits) as bed, bed.connect() as first:
        first.send(START.replace(b"/v1/x", b"/hang") + body)
        eventually(lambda: len(bed.app.seen) == 1)

        answer = bed.exchange(START + body)

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
        first.close()
        eventually(lambda: bed.server.statistics().body_bytes == 0)
        with bed.connect() as again:
            again.send(START + body)
            assert again.until(b"ok /v1/x").startswith(b"HTTP/1.1 200 ")


def test_F45_500_idle_connections_are_closed_on_time_while_others_are_served() -> None:
    limits = msgspec.structs.replace(QUICK, silent_seconds=2.0)
    with edge_bed(limits) as bed:
        idle = [bed.connect() for _ in range(500)]
        eventually(lambda: bed.server.statistics().connections == 500)
        begun = time.monotonic()
        with bed.connect() as wire:
            for _ in range(50):
                wire.send(ASK)
                wire.until(b"ok /v1/x")

        assert all(wire.rest().startswith(b"HTTP/1.1 408 ") for wire in idle)
        assert time.monotonic() - begun < limits.silent_seconds + 1
        for wire in idle:
            wire.close()
        eventually(lambda: bed.server.statistics().connections == 0)


def test_F45_connections_over_the_limit_are_refused() -> None:
    with edge_bed(EdgeLimits(connections=2)) as bed, bed.connect() as first, bed.connect() as second:
        for wire in (first, second):
            wire.send(ASK)
            wire.until(b"ok /v1/x")

        assert b"too_many_connections" in bed.exchange(b"")
        first.send(ASK)
        first.until(b"ok /v1/x")


def drained(bed: Bed) -> bool:
    """Nothing is in flight, nothing is connected."""
    return bed.server.in_flight == 0 and bed.server.statistics().connections == 0


def test_S12_a_drain_lets_answers_finish_and_closes_what_is_idle() -> None:
    with edge_bed() as bed, bed.connect() as idle, bed.connect() as busy, bed.connect() as sending:
        idle.send(ASK)
        idle.until(b"ok /v1/x")
        busy.send(ask(b"/stream"))
        busy.until(b"0;")
        sending.send(START + b"Content-Length: 2\r\n\r\n")
        eventually(lambda: bed.server.in_flight == 2)

        bed.call(bed.server.begin_drain)
        with bed.connect() as late:
            late.send(ASK)
            assert b"\r\nconnection: close\r\n" in late.rest()
        bed.call(bed.server.stop_accepting)
        with pytest.raises(ConnectionRefusedError):
            bed.connect()
        bed.call(bed.server.close_idle)

        assert idle.rest() == b""
        sending.send(b"hi")
        assert b"\r\nconnection: close\r\n" in sending.rest()
        assert busy.rest().endswith(b"9;\r\n0\r\n\r\n")
        eventually(lambda: drained(bed))


def test_S12_at_the_limit_of_a_drain_connections_are_cut_and_the_application_is_told() -> None:
    with edge_bed() as bed, bed.connect() as wire:
        wire.send(ask(b"/hang"))
        eventually(lambda: len(bed.app.seen) == 1)

        bed.call(bed.server.abort_connections)

        assert wire.rest() == b""
        eventually(lambda: drained(bed))
        assert bed.app.left == ["/hang"]
