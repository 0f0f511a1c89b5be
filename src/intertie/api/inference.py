"""The inference door: `/v1/*` and `/nodes/<name>/v1/*`, without a framework between the edge and the pipeline."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final

import msgspec

from intertie.core.errors import GatewayError, NotFound, Unauthenticated, UnknownModel, WrongMethod
from intertie.core.routing.resolve import visible, visible_direct
from intertie.core.terms import NODE, Caller, Operation, Snapshot, Upstream
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
_NODES: Final = "/nodes/"
_OWNERS: Final = 3
"""Machines and providers that a model's `owned_by` names, at most."""


def is_inference(path: str) -> bool:
    """True for the paths that `Inference` answers."""
    return path.startswith(("/v1/", _NODES)) or path == "/v1"


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

    def running(self) -> Collection[Exchange]:
        """The requests under way."""
        return self._live.keys()

    def stop(self, reason: GatewayError) -> None:
        """End every request under way, telling its client `reason`."""
        for x, task in self._live.items():
            if not x.settled:  # else its answer is booked and on its way
                x.stopped = reason
                task.cancel()

    def recheck(self) -> None:
        """A new snapshot is in force: end what runs with a key that is no longer valid (T49)."""
        now, snapshot = self._d.wall(), self._d.snapshots.current
        for x, task in self._live.items():
            if x.caller is None or x.settled or x.stopped is not None:
                continue
            try:
                authenticate(x.headers, snapshot, self._d.hash_key, now)
            except GatewayError:
                x.stopped = Unauthenticated("This API key was revoked while the request ran.", code="key_revoked")
                task.cancel()

    async def __call__(self, scope: Scope, receive: Receive) -> None:
        """Answer one request whose path `is_inference`. The answer goes to the edge, not through ASGI's `send`."""
        path: str = scope["path"]
        node, path = (None, path) if path.startswith("/v1") else _direct(path)
        operation = OPERATIONS.get(path)
        request_id = f"req_{self._boot}{next(self._numbers):08x}"
        x = Exchange(request_id, operation or Operation.CHAT, *_headers(scope))
        x.direct = node
        if operation is not None and scope["method"] == "POST":
            await self._infer(scope, receive, x)
        else:
            await self._browse(scope, path, x)

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

    async def _browse(self, scope: Scope, path: str, x: Exchange) -> None:
        """`GET /v1/models[/id]`, and errors for everything else. `path` is the part behind a node's name."""
        x.started = self._d.monotonic()
        reply = EdgeReply(scope["extensions"]["intertie"])
        try:
            body = self._models(scope["method"], path, x)
            await reply.start(200, whole_head(x, self._d.monotonic(), priced=False), len(body))
        except GatewayError as error:
            body = error_object(error, x.id)
            await reply.start(error.status, error_head(x, error), len(body))
        await reply.finish(body)

    def _models(self, method: str, path: str, x: Exchange) -> bytes:
        if path in OPERATIONS:
            raise WrongMethod(f"{path} takes POST.")
        if path != _MODELS and not path.startswith(_MODELS + "/"):
            base = "" if x.direct is None else _NODES + x.direct
            served = ", ".join([*OPERATIONS, _MODELS]) + (" of each node" if base else "")
            raise NotFound(f"There is nothing at {(base + path)[:200]}. Served here: {served}.")
        if method not in ("GET", "HEAD"):
            raise WrongMethod(f"{_MODELS} takes GET.")
        snapshot = self._d.snapshots.current
        caller = authenticate(x.headers, snapshot, self._d.hash_key, self._d.wall())
        wanted = path[len(_MODELS) + 1 :]  # the edge has decoded it; once is enough (T03)
        names = visible(caller, snapshot) if x.direct is None else visible_direct(caller, snapshot, x.direct)
        if x.direct is not None and not names:
            # The same for a node that does not exist, is somebody else's, or has nothing for this key.
            raise UnknownModel(f"There is no node '{x.direct[:100]}' with a model for this key.")
        owner = _owner(caller, snapshot) if x.direct is None else lambda _: str(x.direct)
        if not wanted:
            return msgspec.json.encode({"object": "list", "data": [_model(name, owner(name)) for name in names]})
        if wanted not in names:
            raise UnknownModel(f"There is no model '{wanted[:100]}' for this key; GET {_MODELS} lists them.")
        return msgspec.json.encode(_model(wanted, owner(wanted)))


def _direct(path: str) -> tuple[str | None, str]:
    """`/nodes/lab/v1/models` as the node `lab` and `/v1/models`; a path without a name is left as it is."""
    name, slash, rest = path[len(_NODES) :].partition("/")
    return (name, slash + rest) if name else (None, path)


def _model(name: str, owner: str) -> dict[str, object]:
    """One row of the model list, in OpenAI's shape."""
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _owner(caller: Caller, snapshot: Snapshot) -> Callable[[str], str]:
    """Model -> who answers for it, as far as this key may reach: providers, and machines by their names."""

    def kind(upstream: Upstream) -> str:
        return upstream.name if upstream.provider == NODE else upstream.provider

    def owner(model: str) -> str:
        route = snapshot.routes.get((caller.organisation, model))
        targets = route.targets if route is not None else ()
        upstreams = (snapshot.upstreams[target.upstream] for target in targets)
        owners = sorted({kind(one) for one in upstreams if one.trust.within(caller.trust)})
        more = f" and {len(owners) - _OWNERS} more" if len(owners) > _OWNERS else ""
        return (",".join(owners[:_OWNERS]) + more) or "intertie"

    return owner


def _join_repeated(headers: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> None:
    """Headers that were sent more than once hold all their values, or a tag or a ceiling could be sent unheard."""
    for name in list(headers):
        values = list(dict.fromkeys(value for other, value in pairs if other == name))
        if len(values) > 1 and name == b"authorization":
            headers[b"x-api-key"] = values[0]
        elif len(values) > 1:
            headers[name] = b", ".join(values)


def _headers(scope: Scope) -> tuple[dict[bytes, bytes], bytes]:
    """Header dictionary and an empty body, as `Exchange` takes them.

    Two different Authorization headers become two different keys, which authentication refuses (T26).
    """
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        _join_repeated(headers, pairs)
    return headers, b""
