"""One HTTP/1.1 connection towards an upstream: parsing is httptools', the bounds and the backpressure are ours."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools

from intertie.core.errors import UpstreamInvalid, UpstreamReset
from intertie.core.wire.http import Head
from intertie.dataplane.transport.inbox import Inbox

MAX_HEAD: Final = 64 * 1024
MAX_HEADERS: Final = 100
MAX_INTERIM: Final = 10
"""1xx answers accepted before the real one (F20)."""

_KEPT: Final = frozenset((b"content-type", b"content-length", b"retry-after", b"retry-after-ms", b"date"))
"""Headers the gateway reads; the rest of an upstream's head goes no further."""


class Connection(Inbox, asyncio.Protocol):
    """Sends one request at a time and hands out its answer. After `finished` it may be used for the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._bodiless = 0  # bytes since the last of a body
        self._header_count = 0
        self._interim = 0
        self._until_end = False
        self._reusable = False
        self._closed = False
        self.answers = 0
        """Answers received whole; more than zero means that the connection has been used before."""
        self.idle_since = 0.0
        """Written by the pool."""

    def __repr__(self) -> str:
        state = "closed" if self._closed else "done" if self._done else "head" if self._head else "waiting"
        return f"<Connection {state} answers={self.answers} unread={self._unread}>"

    # -- for the transport -------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Nothing is wrong with it and no answer is under way."""
        return not self._closed and self._error is None and not self._transport.is_closing()

    @property
    def finished(self) -> bool:
        """The answer came whole, all of it was taken, and the upstream will take another request.

        What was left untaken would be the beginning of somebody else's answer.
        """
        sent = self._transport.get_write_buffer_size() == 0
        return self._done and self._reusable and self.usable and sent and not self._chunks

    @property
    def silent(self) -> bool:
        """Not one byte of the present answer has come."""
        return self._head is None and self._bodiless == 0

    def send(self, *pieces: bytes) -> None:
        """Send one request, and expect its answer."""
        self._expect()
        self._headers = {}
        self._bodiless = self._header_count = self._interim = 0
        self._until_end = self._reusable = False
        for piece in pieces:
            self._transport.write(piece)

    def abort(self) -> None:
        """Close at once, whatever is under way: this is what tells an upstream to stop working."""
        if self._transport is not None:
            self._transport.abort()

    # -- for the event loop ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer; any that belong to none end the connection."""
        self._bodiless += len(data)
        sink = self._sink
        if sink is not None and self._head is not None and not self._done:
            # A stream that flows: parse, hand on, done.
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as mistake:
                self._refuse(mistake)
            else:
                if self._chunks:
                    self._pour(sink)
                elif self._bodiless > MAX_HEAD:
                    self._overflow()
                if not self._done:
                    return
            self._wake()
            return
        if self._error is not None or (self._done and not self._waiter):
            self._fail(UpstreamInvalid("The upstream's answer is not valid.", detail="bytes after the answer"))
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as mistake:
            self._refuse(mistake)
        if self._bodiless > MAX_HEAD and not self._done:
            self._overflow()
        elif self._failed():
            self.abort()
        self._wake()

    def eof_received(self) -> bool:
        """The upstream has nothing more to say; close our side as well."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, proper or not."""
        self._closed = True
        if not self._done and self._error is None:
            if self._until_end and exc is None:
                self._done = True
            elif self._head is not None:
                kind = UpstreamInvalid if exc is None else UpstreamReset
                self._fail(kind("The upstream broke off its answer.", detail=str(exc or "closed too early")))
            else:
                detail = str(exc or "closed")
                self._fail(UpstreamReset("The upstream broke the connection without an answer.", detail=detail))
        self._parser = None
        self._wake()

    # -- for the parser ----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins; a second one was not asked for (F14)."""
        if self._done:
            self._reusable = False
            raise _Refused("bytes after the answer")
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which is dropped."""
        if self._head is not None:
            return
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            raise _Refused("too many headers")
        lowered = name.lower()
        if lowered in _KEPT:
            self._headers[lowered.decode("ascii")] = value.decode("latin-1")
        elif lowered == b"transfer-encoding":
            self._headers["transfer-encoding"] = ""

    def on_headers_complete(self) -> None:
        """The head is there."""
        status = self._parser.get_status_code()
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > MAX_INTERIM:
                raise _Refused(f"unexpected interim answer {status}")
            return
        framed = "content-length" in self._headers or self._headers.pop("transfer-encoding", None) is not None
        self._until_end = not framed and status not in (204, 304)
        self._reusable = framed and self._parser.should_keep_alive()
        self._head = Head(status, self._headers)

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        self._bodiless = 0
        if self._sink is not None:
            self._chunks.append(body)  # handed on before the next packet is read, so nothing piles up
        else:
            self._keep(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._head is not None:
            self._done = True
            self.answers += 1
            self._resume()  # nothing more is to be held back, and an idle connection must notice its end

    # -- what went wrong ----------------------------------------------------------------------------------------------

    def _refuse(self, mistake: Exception) -> None:
        """The parser gave up: an error while an answer is awaited, and the end of the connection in any case."""
        cause = mistake.__context__
        detail = str(cause if isinstance(cause, _Refused) else mistake)
        if not self._done:
            self._fail(UpstreamInvalid("The upstream's answer is not valid HTTP.", detail=detail))
        self._reusable = False
        self.abort()

    def _overflow(self) -> None:
        """More head or trailers than any answer needs; the parser would hold an endless header in memory (F19)."""
        self._fail(UpstreamInvalid("The upstream's answer is not valid HTTP.", detail="its headers are too large"))
        self.abort()
        self._wake()

    def _failed(self) -> bool:
        return self._error is not None


class _Refused(Exception):
    """Raised inside a parser callback to stop the parser; httptools wraps it."""
