"""The inference door: `/v1/*`, without a framework between the edge and the pipeline."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from intertie.core.errors import GatewayError, NotFound, UnknownModel, WrongMethod
from intertie.core.routing.resolve import visible
from intertie.core.terms import Caller, Operation, Snapshot
from intertie.core.wire.openai_errors import error_object
from intertie.dataplane.authenticate import authenticate
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.pipeline import BrokenReply, serve
from intertie.dataplane.reply import error_head, whole_head

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPERATIONS: Final = {
    "/v1/chat/completions": Operation.CHAT,
    "/v1/completions": Operation.COMPLETION,
    "/v1/embeddings": Operation.EMBEDDING,
}
_MODELS: Final = "/v1/models"


class EdgeReply:
    """One HTTP answer, written to the edge itself: ASGI's messages would cost a coroutine each."""

    __slots__ = ("_connection", "put", "started")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.started = False
        self.put: Callable[[bytes], bool] = connection.put
        """Send part of the body without waiting; false if the client is behind."""

    async def start(self, status: int, head: bytes, length: int | None) -> None:
        """Send the head."""
        self.started = True
        self._connection.begin(status, head, length)

    async def write(self, body: bytes) -> None:
        """Send part of the body; waits while the client is slow."""
        if not self.put(body):
            await self._connection.drained()

    async def drained(self) -> None:
        """Return once the client has caught up (or left)."""
        await self._connection.drained()

    async def finish(self, body: bytes = b"") -> None:
        """Send the last part of the body."""
        self._connection.end(body)


class Inference:
    """Turns HTTP requests into exchanges, and knows which are under way."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._d = dataplane
        self._numbers = itertools.count(1)
        # Unique across restarts, so that the books never see the same request id twice.
        self._boot = f"{int(time.time()):08x}{os.urandom(4).hex()}"
        self._live: dict[Exchange, asyncio.Task[Any]] = {}

    def __repr__(self) -> str:
        return f"<Inference {len(self._live)} requests under way>"

    def stop(self, reason: GatewayError) -> None:
        """End every request under way, telling its client `reason`."""
        for x, task in self._live.items():
            if not x.settled:  # else its answer is booked and on its way
                x.stopped = reason
                task.cancel()

    async def __call__(self, scope: Scope, receive: Receive) -> None:
        """Answer one request under `/v1`. The answer goes to the edge, not through ASGI's `send`."""
        path: str = scope["path"]
        operation = OPERATIONS.get(path)
        request_id = f"req_{self._boot}{next(self._numbers):08x}"
        if operation is not None and scope["method"] == "POST":
            await self._infer(scope, receive, Exchange(request_id, operation, *_headers(scope)))
        else:
            await self._browse(scope, request_id)

    async def _infer(self, scope: Scope, receive: Receive, x: Exchange) -> None:
        x.started = self._d.monotonic()
        x.started_at = self._d.wall()
        x.body = (await receive())["body"]  # whole: the edge waits for the last byte, bounded in size and time
        task = asyncio.current_task()
        assert task is not None

        def gone() -> None:
            x.gone = True
            task.cancel()

        connection = scope["extensions"]["intertie"]
        connection.on_disconnect(gone)
        self._live[x] = task
        try:
            await serve(x, EdgeReply(connection), self._d)
        except BrokenReply:
            connection.abort()
        finally:
            del self._live[x]

    async def _browse(self, scope: Scope, request_id: str) -> None:
        """`GET /v1/models[/id]`, and errors for everything else."""
        x = Exchange(request_id, Operation.CHAT, *_headers(scope))
        x.started = self._d.monotonic()
        reply = EdgeReply(scope["extensions"]["intertie"])
        try:
            body = self._models(scope, x)
            await reply.start(200, whole_head(x, self._d.monotonic(), priced=False), len(body))
        except GatewayError as error:
            body = error_object(error, request_id)
            await reply.start(error.status, error_head(x, error), len(body))
        await reply.finish(body)

    def _models(self, scope: Scope, x: Exchange) -> bytes:
        path: str = scope["path"]
        if path in OPERATIONS:
            raise WrongMethod(f"{path} takes POST.")
        if path != _MODELS and not path.startswith(_MODELS + "/"):
            raise NotFound(f"There is nothing at {path[:100]}. Served here: {', '.join([*OPERATIONS, _MODELS])}.")
        if scope["method"] not in ("GET", "HEAD"):
            raise WrongMethod(f"{_MODELS} takes GET.")
        snapshot = self._d.snapshots.current
        caller = authenticate(x.headers, snapshot, self._d.hash_key, self._d.wall())
        wanted = path[len(_MODELS) + 1 :]  # the edge has decoded it; once is enough (T03)
        names = visible(caller, snapshot)
        if not wanted:
            return msgspec.json.encode({"object": "list", "data": [_model(name, caller, snapshot) for name in names]})
        if wanted not in names:
            raise UnknownModel(f"There is no model '{wanted[:100]}' for this key; GET /v1/models lists them.")
        return msgspec.json.encode(_model(wanted, caller, snapshot))


def _model(name: str, caller: Caller, snapshot: Snapshot) -> dict[str, object]:
    """One row of the model list, in OpenAI's shape."""
    route = snapshot.routes.get((caller.organisation, name))
    owners = sorted({snapshot.upstreams[t.upstream].provider for t in route.targets}) if route is not None else []
    return {"id": name, "object": "model", "created": 0, "owned_by": ",".join(owners) or "intertie"}


def _headers(scope: Scope) -> tuple[dict[bytes, bytes], bytes]:
    """Header dictionary and an empty body, as `Exchange` takes them.

    Two different Authorization headers become two different keys, which authentication refuses (T26).
    """
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs) and len({value for name, value in pairs if name == b"authorization"}) > 1:
        headers[b"x-api-key"] = next(value for name, value in pairs if name == b"authorization")
    return headers, b""
