"""Answers of HTTP/1.1 servers, bytes in, bodies out: what an agent needs to talk to a runtime, and nothing else.

Standard library only and no I/O: the agent carries this file. Everything that a hostile or broken server may send is
bounded, and whatever is not HTTP raises `BadAnswer` and never anything else. Trailers are dropped, nothing is decoded.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final, NamedTuple

MAX_HEAD: Final = 64 * 1024
MAX_HEADERS: Final = 100
MAX_INTERIM: Final = 10
"""1xx answers accepted before the real one."""
MAX_CHUNK_LINE: Final = 1024
MAX_TRAILERS: Final = 16 * 1024

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n\x00]*)?")
_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}):([^\r\n\x00]*)")
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,13})[ \t]*(?:;[^\r\n\x00]*)?")


class BadAnswer(ValueError):
    """The peer sent what is not a valid or not a bearable HTTP answer. The message quotes nothing of it."""


class AnswerHead(NamedTuple):
    """Status and headers; names in lower case, repeated ones joined by a comma."""

    status: int
    headers: dict[str, str]


class _At(IntEnum):
    """What the next bytes are."""

    HEAD = 0
    COUNTED = 1
    UNTIL_END = 2
    CHUNK_LINE = 3
    CHUNK = 4
    CHUNK_END = 5
    TRAILERS = 6
    DONE = 7


def read_head(block: bytes) -> AnswerHead:
    """A status line and headers, without the blank line after them. Raises `BadAnswer`."""
    first, *lines = block.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise BadAnswer("the answer does not begin with a status line")
    if len(lines) > MAX_HEADERS:
        raise BadAnswer("the answer has too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise BadAnswer("the answer has a header that is none")
        name, value = found[1].decode("ascii").lower(), found[2].strip(b" \t").decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return AnswerHead(int(status[1]), headers)


class AnswerReader:
    """Reads one answer to one request that was no HEAD. Look at `head` and `done` after each `feed`."""

    __slots__ = ("_at", "_held", "_interim", "_missing", "_scanned", "_trailers", "head")

    def __init__(self) -> None:
        self.head: AnswerHead | None = None
        self._at = _At.HEAD
        self._held = b""
        self._scanned = 0
        self._interim = 0
        self._missing = 0
        self._trailers = 0

    def __repr__(self) -> str:
        return f"<AnswerReader {self._at.name}>"

    @property
    def done(self) -> bool:
        """The answer is whole. Bytes after it are dropped."""
        return self._at is _At.DONE

    def feed(self, piece: bytes) -> bytes:
        """The part of the body that `piece` brought, often nothing. Raises `BadAnswer`; no more may be fed then."""
        held = self._held + piece if self._held else piece
        start, end = 0, len(held)
        if self._at is _At.HEAD:
            start = self._take_heads(held)
        if self._at is _At.HEAD:
            self._held = held[start:]
            if len(self._held) > MAX_HEAD:
                raise BadAnswer("the head of the answer is too large")
            return b""
        parts: list[bytes] = []
        while start < end:
            at = self._at
            if at is _At.COUNTED or at is _At.CHUNK:
                stop = min(end, start + self._missing)
                parts.append(held[start:stop])
                self._missing -= stop - start
                start = stop
                if not self._missing:
                    self._at = _At.DONE if at is _At.COUNTED else _At.CHUNK_END
            elif at is _At.UNTIL_END:
                parts.append(held[start:])
                start = end
            elif at is _At.DONE:
                start = end
            else:
                after = self._take_line(held, start)
                if after == start:
                    break
                start = after
        self._held = held[start:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self) -> None:
        """The connection ended. Raises `BadAnswer` if that was too early."""
        if self._at is _At.UNTIL_END:
            self._at = _At.DONE
        if self._at is not _At.DONE:
            raise BadAnswer("the answer broke off" if self.head else "the connection ended without an answer")

    def _take_heads(self, held: bytes) -> int:
        """Where the body begins, or the head that is not complete."""
        start = 0
        while (stop := held.find(b"\r\n\r\n", max(start, self._scanned - 3))) >= 0:
            if stop - start > MAX_HEAD:
                raise BadAnswer("the head of the answer is too large")
            head = read_head(held[start:stop])
            start, self._scanned = stop + 4, 0
            if head.status >= 200:
                self.head = head
                self._begin_body(head)
                return start
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:
                raise BadAnswer("the answer switches protocols or never begins")
        self._scanned = len(held) - start
        return start

    def _begin_body(self, head: AnswerHead) -> None:
        coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
        if head.status in {204, 304}:
            self._at = _At.DONE
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadAnswer("the answer's length cannot be told")
            self._at = _At.CHUNK_LINE
        elif length is not None:
            counts = {count.strip() for count in length.split(",")}
            count = counts.pop()
            if counts or not _DIGITS.fullmatch(count):
                raise BadAnswer("the answer's length cannot be told")
            self._missing = int(count)
            self._at = _At.COUNTED if self._missing else _At.DONE
        else:
            self._at = _At.UNTIL_END

    def _take_line(self, held: bytes, start: int) -> int:
        """One line of the chunked coding; where the next one begins, or `start` if it is not complete."""
        stop = held.find(b"\r\n", start)
        if (stop if stop >= 0 else len(held)) - start > MAX_CHUNK_LINE:
            raise BadAnswer("a chunk of the answer is not announced properly")
        if stop < 0:
            return start
        if self._at is _At.CHUNK_LINE:
            size = _CHUNK.fullmatch(held, start, stop)
            if size is None:
                raise BadAnswer("a chunk of the answer is not announced properly")
            self._missing = int(size[1], 16)
            self._at = _At.CHUNK if self._missing else _At.TRAILERS
        elif self._at is _At.CHUNK_END:
            if stop != start:
                raise BadAnswer("a chunk of the answer is longer than announced")
            self._at = _At.CHUNK_LINE
        else:
            self._trailers += stop + 2 - start
            if self._trailers > MAX_TRAILERS:
                raise BadAnswer("the answer has too many trailers")
            if stop == start:
                self._at = _At.DONE
        return stop + 2
