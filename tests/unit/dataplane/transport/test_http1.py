"""A connection towards an upstream, packet by packet: when it may be used again, and what it refuses to hold."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from intertie.core.errors import UpstreamInvalid
from intertie.dataplane.transport.http1 import MAX_HEAD, Connection
from intertie.dataplane.transport.inbox import HIGH_WATER

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """The transport below a connection."""

    def __init__(self) -> None:
        self.reading = True
        self.aborted = False

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return 0


def asked() -> tuple[Connection, Wire]:
    """A connection that has sent its first request."""
    wire: Any = Wire()
    connection = Connection()
    connection.connection_made(wire)
    connection.send(b"GET")
    return connection, wire


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def test_an_answer_that_nobody_took_never_becomes_the_beginning_of_the_next_one() -> None:
    connection, _ = asked()
    connection.data_received(answer(b"for somebody else"))
    await connection.head()
    assert not connection.finished

    assert await connection.chunk() == b"for somebody else"
    assert connection.finished


async def test_f18_a_connection_paused_by_the_last_packet_of_an_answer_reads_the_next_one() -> None:
    connection, wire = asked()
    connection.data_received(answer(b"x" * HIGH_WATER * 2))
    assert not await connection.pour(lambda _: False)
    assert connection.finished
    assert wire.reading


async def test_f18_reading_pauses_in_the_midst_of_an_answer_and_goes_on_when_it_is_taken() -> None:
    connection, wire = asked()
    connection.data_received(CHUNKED + b"40000\r\n" + b"x" * HIGH_WATER * 2)
    assert not wire.reading
    await connection.chunk()
    assert wire.reading


@pytest.mark.parametrize("pouring", [False, True])
async def test_f19_an_endless_trailer_is_refused(pouring: bool) -> None:
    connection, wire = asked()
    connection.data_received(CHUNKED + b"1\r\nx\r\n")
    waiting = asyncio.create_task(connection.pour(bool)) if pouring else None
    await asyncio.sleep(0)
    connection.data_received(b"0\r\nname: ")
    for _ in range(MAX_HEAD // 1000 + 1):
        connection.data_received(b"x" * 1000)
    assert wire.aborted
    with pytest.raises(UpstreamInvalid):
        await (waiting or connection.whole(10))


async def test_a_long_stream_of_small_chunks_is_not_mistaken_for_a_trailer() -> None:
    connection, wire = asked()
    connection.data_received(CHUNKED)
    for _ in range(MAX_HEAD // 2):
        connection.data_received(b"1\r\nx")
        connection.data_received(b"\r\n")
    assert not wire.aborted
