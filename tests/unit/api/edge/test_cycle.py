"""One request and its answer, over a connection that only remembers."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from intertie.api.edge.cycle import Cycle, Message
from intertie.api.edge.intake import Request
from intertie.api.edge.rules import RequestTarget


class Line:
    """A connection without a network."""

    def __init__(self) -> None:
        self.transport = cast(asyncio.Transport, self)
        self.flow = FlowControl(self.transport)
        self.written: list[bytes] = []
        self.events: list[str] = []

    def write(self, content: bytes) -> None:
        self.written.append(content)

    def answer_defaults(self) -> bytes:
        return b"date: today\r\n"

    def answered(self, cycle: Cycle) -> None:
        self.events.append("answered")

    def ended(self, cycle: Cycle) -> None:
        self.events.append("ended")

    def close(self) -> None:
        self.events.append("closed")

    def new_request_id(self) -> str:
        return "req_1"


def cycle(method: str = "POST", version: str = "1.1") -> tuple[Cycle, Line]:
    line = Line()
    return Cycle(line, Request(version, method, RequestTarget("/", b"/", b""), [], b"hello", version == "1.1")), line


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def test_head_and_body_of_known_length_leave_together() -> None:
    one, line = cycle()

    await one.send(start(200, (b"Content-Length", b"2")))
    await asyncio.sleep(0)
    assert line.written == []
    await one.send(body(b"hi"))

    assert line.written == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\nhi"]
    assert line.events == ["answered"]


async def test_nothing_put_into_a_stream_does_not_end_it() -> None:
    one, line = cycle()
    one.begin(200, b"", None)
    assert one.put(b"a")
    assert one.put(b"")
    assert not any(written.startswith(b"0") for written in line.written)
    one.end(b"b")
    assert line.written[-1] == b"1\r\nb\r\n0\r\n\r\n"


async def test_a_stream_leaves_in_chunks_and_its_head_at_the_next_turn_at_the_latest() -> None:
    one, line = cycle()

    await one.send(start())
    await asyncio.sleep(0)
    await one.send(body(b"a", more=True))
    await one.send(body(b"", more=True))
    await one.send(body(b"bc"))

    assert line.written[0].endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert b"".join(line.written[1:]) == b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"


async def test_the_first_chunk_takes_the_head_along() -> None:
    one, line = cycle()

    await one.send(start())
    await one.send(body(b"a", more=True))
    await asyncio.sleep(0)

    assert len(line.written) == 1
    assert line.written[0].endswith(b"\r\n\r\n1\r\na\r\n")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_answers_without_a_body_send_none(method: str, status: int) -> None:
    one, line = cycle(method)

    await one.send(start(status, (b"content-length", b"7")))
    await one.send(body(b"ignored"))

    assert b"".join(line.written).endswith(b"content-length: 7\r\n\r\n")
    assert line.events == ["answered"]


async def test_the_framing_of_the_application_is_not_believed() -> None:
    one, line = cycle()

    await one.send(start(200, (b"transfer-encoding", b"gzip"), (b"connection", b"keep-alive")))
    await one.send(body(b"a"))

    assert b"gzip" not in line.written[0]
    assert b"connection" not in line.written[0]


async def test_an_application_may_close_the_connection() -> None:
    one, line = cycle()

    await one.send(start(200, (b"connection", b"Close"), (b"content-length", b"0")))
    await one.send(body())

    assert line.written[0].count(b"connection: close\r\n") == 1
    assert not one.keep_alive


@pytest.mark.parametrize(
    "messages",
    [
        [body()],
        [start(), start()],
        [start(200, (b"content-length", b"1")), body(b"ab")],
        [start(200, (b"content-length", b"2")), body(b"a")],
        [start(200, (b"content-length", b"0")), body(), body()],
        [start(200, (b"x", b"a\r\nb: c"))],
    ],
)
async def test_messages_that_make_no_answer_are_errors(messages: list[Message]) -> None:
    one, _ = cycle()
    for message in messages[:-1]:
        await one.send(message)

    with pytest.raises(RuntimeError):
        await one.send(messages[-1])


async def test_the_whole_body_comes_first_and_disconnect_when_the_client_has_left() -> None:
    one, _ = cycle()
    assert await one.receive() == {"type": "http.request", "body": b"hello", "more_body": False}

    waiting = asyncio.ensure_future(one.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    one.leave()

    assert await waiting == {"type": "http.disconnect"}


async def test_F47_everyone_who_asked_is_told_once_even_if_one_fails() -> None:
    one, line = cycle()
    told: list[str] = []
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail() -> None:
        raise ValueError

    one.on_disconnect(lambda: told.append("first"))
    one.on_disconnect(fail)
    one.on_disconnect(lambda: told.append("last"))
    one.leave()
    one.leave()
    await asyncio.sleep(0)
    await one.send(start())

    assert told == ["first", "last"]
    assert len(failures) == 1
    assert line.written == []


async def test_F47_who_asks_too_late_is_told_soon() -> None:
    one, _ = cycle()
    told: list[str] = []
    one.leave()

    one.on_disconnect(lambda: told.append("late"))
    await asyncio.sleep(0)

    assert told == ["late"]


async def test_a_cancelled_application_leaves_a_broken_answer_not_a_hanging_one() -> None:
    one, line = cycle()

    async def application(scope: object, receive: object, send: object) -> None:
        await one.send(start())
        await asyncio.Event().wait()

    task = asyncio.ensure_future(one.run(application, {}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert line.events == ["closed", "ended"]


async def test_an_application_that_answers_nothing_gets_an_internal_error_in_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, line = cycle()

    async def application(scope: object, receive: object, send: object) -> None:
        await one.send(start(200, (b"content-length", b"5")))

    await one.run(application, {})

    assert line.written[0].startswith(b"HTTP/1.1 500 ")
    assert b'"request_id":"req_1"' in line.written[0]
    assert line.events == ["answered", "ended"]
    assert "without completing" in caplog.text
