"""Server-sent events, byte by byte: feed what the network gave, get the `data` of each completed event.

Lines end at CR, LF or CRLF bytes only; other Unicode line separators are ordinary content (WHATWG HTML, section 9.2.6).
"""

from __future__ import annotations

import re
from typing import Final

MAX_EVENT: Final = 1024 * 1024
"""Bytes one event may have before the stream is refused."""

DONE: Final = b"[DONE]"
DONE_EVENT: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"

_LINE_END: Final = re.compile(rb"[\r\n]")
_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event grew past `MAX_EVENT` bytes."""


def event(data: bytes) -> bytes:
    """One event carrying `data`, whose lines end at LF only."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"data: " + data + b"\n\n"


class EventSplitter:
    """Splits a byte stream into events. Comments, ids and event names are dropped; data lines are joined by LF."""

    __slots__ = ("_buffer", "_data", "_data_size", "_scanned", "_skip_lf", "_started")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._skip_lf = False
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events that `chunk` completes. Raises `EventTooLarge`."""
        if not self._buffer and not self._data and chunk.startswith(b"data: ") and chunk.endswith(b"\n\n"):
            # Nearly every read of a healthy upstream is whole events in this one spelling: three scans in C.
            pieces = chunk[6:-2].split(b"\n\ndata: ")
            if chunk.count(b"\n") == 2 * len(pieces) and b"\r" not in chunk and len(chunk) <= MAX_EVENT:
                self._started = True
                self._skip_lf = False
                return pieces
        return self._feed_lines(chunk)

    @property
    def idle(self) -> bool:
        """True if nothing is held: the next byte begins a line that begins an event."""
        return not (self._buffer or self._data or self._skip_lf)

    @property
    def partial(self) -> bool:
        """True if bytes of an unfinished event are held: the stream ended inside an event."""
        return bool(self._buffer) or bool(self._data)

    def _feed_lines(self, chunk: bytes) -> list[bytes]:
        buffer = self._buffer
        if self._skip_lf and chunk:
            # A CRLF split over two reads: its CR already ended the line.
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        buffer += chunk
        if not self._started:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                return []
            if buffer.startswith(_BOM):
                del buffer[:3]
            self._started = True
        events: list[bytes] = []
        start = 0
        position = self._scanned
        while match := _LINE_END.search(buffer, position):
            end = match.start()
            self._take_line(bytes(buffer[start:end]), events)
            start = end + 1
            if buffer[end] == 0x0D:
                if start == len(buffer):
                    self._skip_lf = True
                elif buffer[start] == 0x0A:
                    start += 1
            position = start
        del buffer[:start]
        self._scanned = len(buffer)
        if len(buffer) + self._data_size > MAX_EVENT:
            raise EventTooLarge(f"an event passed {MAX_EVENT} bytes")
        return events

    def _take_line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._data_size = 0
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            self._data_size += len(line)
            if self._data_size > MAX_EVENT:
                raise EventTooLarge(f"an event passed {MAX_EVENT} bytes")
        elif line == b"data":
            self._data.append(b"")
