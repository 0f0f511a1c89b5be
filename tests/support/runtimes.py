"""Fake runtimes: servers that answer an agent as the six real ones do, and misbehave when told to.

    async with FakeRuntime("ollama", [FakeModel("llama3.2:3b")]) as ollama:
        ...discover([Approved(ollama.url)], loopback=False)...
        ollama.unload("llama3.2:3b")

or, in a test without an event loop, `with FakeRuntime("vllm").threaded() as vllm:`. Attributes may be changed while it
runs; a change holds for the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.support.shapes import METRICS, SERVERS, SHAPES, FakeModel

KINDS = ("ollama", "vllm", "llama_cpp", "lm_studio", "sglang", "tgi")
NAMES = {
    "ollama": "llama3.2:3b",
    "vllm": "Qwen/Qwen3-8B-AWQ",
    "llama_cpp": "gemma-3-4b",
    "lm_studio": "qwen/qwen3-8b",
    "sglang": "Qwen/Qwen3-14B",
    "tgi": "meta-llama/Llama-3.1-8B-Instruct",
}
"""A model each kind has unless told otherwise."""


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    ended_at: float | None = None
    cancelled: bool = False
    """The caller hung up before the answer was whole."""
    tokens: int = 0
    """Output tokens generated, also those after the caller left."""

    @property
    def call(self) -> dict[str, Any]:
        """The JSON body; an empty one is an empty object."""
        decoded: dict[str, Any] = json.loads(self.body) if self.body else {}
        return decoded


class Cut(Exception):
    """The answer ends here, without its end."""


@dataclass(eq=False)
class FakeRuntime:
    """One server on a free loopback port."""

    kind: str
    """A key of `shapes.SHAPES`: one of `KINDS`, or `compatible`, `gateway`, `proxy`."""
    given: Sequence[FakeModel] = ()
    """Its models; one of a usual name if empty."""
    key: str = ""
    """Bearer secret it asks for; empty for none."""
    slots: int = 4
    """Requests it works on at a time; others wait."""
    version: str = "1.2.3"
    metrics: bool = True
    """Where a runtime has metrics only if told so."""
    rate: float = 200.0
    """Output tokens per second and stream."""
    first: float = 0.0
    """Seconds before the first output."""

    # -- switches
    slow: float = 0.0
    """Seconds before every answer."""
    hang: bool = False
    """Accept and never answer."""
    cut: int | None = None
    """Output tokens after which the connection breaks off."""
    ignore_disconnect: bool = False
    """Generate to the end although the caller has left."""
    lie: bytes = b""
    """Answered to every question instead of the truth, raw, without even a status line of its own if it has none."""
    foreign: int = 0
    """Requests of its owner's that it works on, besides ours."""
    host: str = "127.0.0.1"
    """What it listens on; `0.0.0.0` for every address of the machine."""
    refuse: int = 0
    """Status with which completions are refused; 0 for none."""

    # -- what happened
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    """`http://127.0.0.1:port` while it runs."""
    open_connections: int = 0
    _running: int = 0
    _queued: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        named = self.given or [FakeModel(NAMES.get(self.kind, "some-model"))]
        self.models: dict[str, FakeModel] = {model.name: model for model in named}

    # -- looking at it and changing it

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.url.rpartition(":")[2])

    @property
    def working(self) -> int:
        """Requests it works on, its owner's among them."""
        return min(self._running + self.foreign, self.slots)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._queued + max(0, self._running + self.foreign - self.slots)

    @property
    def generating(self) -> int:
        """Requests of ours that it generates for, also for callers who left."""
        return self._running

    def completions(self) -> list[Asked]:
        """Requests for output, in order."""
        return [one for one in self.asked if one.method == "POST" and one.path.startswith("/v1/")]

    @property
    def cancelled(self) -> int:
        """Completions whose caller hung up."""
        return sum(1 for one in self.completions() if one.cancelled)

    def load(self, name: str) -> None:
        """The model is in memory now."""
        self.models[name].loaded = True

    def unload(self, name: str) -> None:
        """It is not."""
        self.models[name].loaded = False

    # -- running it

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def threaded(self) -> Iterator[FakeRuntime]:
        """Serve in a thread of its own until the block ends."""
        loop, ready, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

        async def serve() -> None:
            async with self:
                ready.set()
                await over.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name=f"fake-{self.kind}")
        thread.start()
        try:
            if not ready.wait(5):
                raise RuntimeError("the fake runtime did not start")
            yield self
        finally:
            loop.call_soon_threadsafe(over.set)
            thread.join(5)
            loop.close()

    # -- one connection, one request

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open_connections += 1
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, Cut):
            pass
        finally:
            self.open_connections -= 1
            self._tasks.discard(task)
            writer.transport.abort() if self.cut is not None else writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(method, path, headers, body, time.monotonic())
        self.asked.append(asked)
        if self.hang:
            await reader.read()
            return
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.lie:
            writer.write(self.lie)
            await writer.drain()
        elif self.key and headers.get("authorization") != f"Bearer {self.key}":
            self._write(writer, 401, {"error": {"message": "Invalid API Key", "type": "authentication_error"}})
        elif method == "POST" and path.startswith("/v1/"):
            await self._complete(asked, reader, writer)
        else:
            self._tell(asked, writer)
        asked.ended_at = time.monotonic()
        await writer.drain()

    def _tell(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """An answer about itself."""
        path = asked.path.partition("?")[0]
        shape = SHAPES[self.kind].get(path)
        told = shape(self, asked.call) if shape is not None else None
        if told is not None:
            self._write(writer, 200, told)
        elif path in {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}:
            self._write(writer, 405, {"detail": "Method Not Allowed"})
        else:
            self._write(writer, 404, {"error": {"message": "File Not Found", "code": 404}})

    def _write(self, writer: asyncio.StreamWriter, status: int, told: Any) -> None:
        body = told.encode() if isinstance(told, str) else json.dumps(told).encode()
        kind = METRICS if isinstance(told, str) else "application/json"
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {kind}", f"content-length: {len(body)}"]
        if server := SERVERS.get(self.kind):
            lines.append(f"Server: {server}")
        if self.kind == "gateway":
            lines.append("x-intertie-attempts: 0")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    # -- output

    async def _complete(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asked.call
        model = self.models.get(str(call.get("model")))
        if self.refuse:
            self._write(writer, self.refuse, {"error": {"message": "refused on purpose", "type": "server_error"}})
            return
        if asked.path == "/v1/embeddings":
            self._embed(call, model, writer)
            return
        if model is None or not isinstance(call.get("messages", call.get("prompt")), list | str):
            self._write(writer, 404 if model is None else 400, {"error": {"message": "no", "type": "invalid"}})
            return
        work = asyncio.ensure_future(self._generate(asked, call, writer))
        gone = asyncio.ensure_future(reader.read())  # nothing more is sent, so this ends when the caller leaves
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                asked.cancelled = True
                if not self.ignore_disconnect:
                    work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _embed(self, call: Mapping[str, Any], model: FakeModel | None, writer: asyncio.StreamWriter) -> None:
        if model is None or not model.embedding:
            self._write(writer, 400 if self.kind != "llama_cpp" else 501, {"error": {"message": "no embeddings"}})
            return
        texts = call["input"] if isinstance(call["input"], list) else [call["input"]]
        rows = [{"object": "embedding", "index": n, "embedding": [0.5, 0.25]} for n in range(len(texts))]
        usage = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
        self._write(writer, 200, {"object": "list", "data": rows, "model": model.name, "usage": usage})

    async def _generate(self, asked: Asked, call: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        self._queued += 1
        try:
            while self._running + self.foreign >= self.slots:
                await asyncio.sleep(0.005)
        finally:
            self._queued -= 1
        self._running += 1
        try:
            await asyncio.sleep(self.first)
            await self._say(asked, call, writer)
        finally:
            self._running -= 1

    async def _say(self, asked: Asked, call: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        total = int(call.get("max_completion_tokens") or call.get("max_tokens") or 16)
        chat, streamed = asked.path == "/v1/chat/completions", call.get("stream") is True
        usage = {"prompt_tokens": 100, "completion_tokens": total, "total_tokens": 100 + total}
        if streamed:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        began = time.monotonic()
        for n in range(total):
            if self.cut is not None and n >= self.cut:
                raise Cut
            await asyncio.sleep(max(0.0, began + (n + 1) / self.rate - time.monotonic()))
            asked.tokens += 1
            if streamed:
                self._event(writer, self._chunk(call, f"w{n} ", chat=chat, end=n == total - 1))
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
        if not streamed:
            text = "".join(f"w{n} " for n in range(total))
            said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            choice = {"index": 0, "finish_reason": "stop", **said}
            kind = "chat.completion" if chat else "text_completion"
            self._write(writer, 200, {"id": "c1", "object": kind, "choices": [choice], "usage": usage})
            return
        if (call.get("stream_options") or {}).get("include_usage"):
            self._event(writer, {**self._chunk(call, "", chat=chat, end=False), "choices": [], "usage": usage})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _chunk(self, call: Mapping[str, Any], text: str, *, chat: bool, end: bool) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": "stop" if end else None, **said}
        kind = "chat.completion.chunk" if chat else "text_completion"
        return {"id": "c1", "object": kind, "created": 1754600000, "model": call["model"], "choices": [choice]}

    def _event(self, writer: asyncio.StreamWriter, value: object) -> None:
        event = b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
