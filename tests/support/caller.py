"""A raw HTTP client that shows what really arrived: every byte, whether the answer was complete, and when.

Official clients hide truncation and retry on their own; fault tests must see the wire.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from tests.support.replies import packed


@dataclass
class Heard:
    """What a client got for one request. Times are `time.monotonic()` seconds."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    received: bytearray = field(default_factory=bytearray)
    complete: bool = False
    """The answer ended as HTTP says it must (length reached, or final chunk seen)."""
    asked_at: float = 0.0
    head_at: float | None = None
    ended_at: float | None = None

    @property
    def body(self) -> bytes:
        """The body as far as it arrived."""
        return bytes(self.received)

    @property
    def json(self) -> dict[str, Any]:
        """The body as one JSON object."""
        return cast("dict[str, Any]", json.loads(self.body))

    @property
    def events(self) -> list[str]:
        """The payloads of the complete server-sent events, the terminal marker included, comments left out."""
        text = self.body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode().removeprefix("\ufeff")
        blocks = [block.split("\n") for block in text.split("\n\n")[:-1]]
        payloads = [[line[5:].removeprefix(" ") for line in lines if line.startswith("data:")] for lines in blocks]
        return ["\n".join(lines) for lines in payloads if lines]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The events that are JSON objects."""
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def done(self) -> bool:
        """Whether the terminal marker arrived."""
        return "[DONE]" in self.events

    @property
    def finished(self) -> bool:
        """Whether this client saw the end of a good answer."""
        streamed = self.headers.get("content-type", "").startswith("text/event-stream")
        return self.status == 200 and (self.done if streamed else self.complete)

    @property
    def text(self) -> str:
        """The text of the first choice, from a stream or a whole answer."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ()) if choice["index"] == 0]
            return "".join(choice["delta"].get("content") or "" for choice in choices)
        return cast("str", self.json["choices"][0]["message"]["content"])


class _Parsing:
    """Callbacks of the response parser."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.parser: Any = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.heard.complete:  # surplus bytes after the end are not part of the answer
            self.heard.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self.heard.complete:
            self.heard.status = self.parser.get_status_code()
            self.heard.head_at = time.monotonic()

    def on_body(self, body: bytes) -> None:
        if not self.heard.complete:
            self.heard.received += body

    def on_message_complete(self) -> None:
        if self.heard.status < 200:
            self.heard.headers.clear()  # an interim answer; the real one follows
        else:
            self.heard.complete = True


class Line:
    """One connection to a gateway, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parsing: _Parsing | None = None

    async def send(self, path: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> Heard:
        """Send one request; the answer is read by `hear` into what this returns."""
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()
        return Heard(asked_at=time.monotonic())

    async def hear(self, heard: Heard, until: bytes | None = None) -> Heard:
        """Read to the end of the answer, or until the body holds `until`. A broken connection ends it incomplete."""
        if self._parsing is None or self._parsing.heard is not heard:
            self._parsing = _Parsing(heard)
        parsing = self._parsing
        while not heard.complete and not (until is not None and until in heard.received):
            try:
                received = await self._reader.read(65536)
            except ConnectionError:
                break
            if not received:
                # Without a length, the end of the connection is the end of the answer.
                heard.complete = (
                    bool(heard.status) and not {"content-length", "transfer-encoding"} & heard.headers.keys()
                )
                break
            parsing.parser.feed_data(received)
        heard.ended_at = time.monotonic()
        return heard

    def hang_up(self) -> float:
        """Leave at once; the moment of leaving."""
        self._writer.transport.abort()
        return time.monotonic()


async def dial(url: str) -> Line:
    """A fresh connection to the host and port of `url`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return Line(*await asyncio.open_connection(parts.hostname, parts.port))


async def ask(
    url: str,
    call: object,
    *,
    key: str,
    timeout: float = 30.0,
    method: str = "POST",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Heard:
    """One request on its own connection, answered or timed out (`TimeoutError`). `headers` come on top of the usual."""
    line = await dial(url)
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
        body = b"" if method == "GET" else packed(call)
        heard = await line.send(urlsplit(url).path, body, headers, method)
        return await asyncio.wait_for(line.hear(heard), timeout)
    finally:
        line.hang_up()


def chat_call(model: str, *, stream: bool = False, **more: object) -> dict[str, object]:
    """The smallest chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "say something"}], "stream": stream, **more}
