"""A gateway's end of the link, played by somebody else's WebSocket library: obedient, or as hostile as a test likes."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from intertie.agent.forward import Forwarder
from intertie.agent.inventory import Model, Runtime
from intertie.agent.keys import SigningKey, encode
from intertie.agent.link import Link
from intertie.core.wire.enrolment import auth_message, challenge_message
from intertie.core.wire.link import SUBPROTOCOL, Refusal

CHAT = "/v1/chat/completions"


@dataclass
class Fresh:
    """A new key of a test's node."""

    key: SigningKey
    kept: list[str]

    @property
    def public(self) -> bytes:
        return self.key.public

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)

    def keep(self, key_id: str) -> None:
        self.kept.append(key_id)


@dataclass
class Who:
    """A node's identity in memory."""

    link: str
    gateway_keys: tuple[bytes, ...]
    signer: SigningKey = field(default_factory=SigningKey.generate)
    node: str = "node-1"
    key: str = "key-1"
    kept: list[str] = field(default_factory=list)
    retries: int = 0
    pending: bool = False

    @property
    def origin(self) -> str:
        return self.link.removesuffix("/link")

    def sign(self, message: bytes) -> bytes:
        return self.signer.sign(message)

    def fresh_key(self) -> Fresh:
        return Fresh(SigningKey.generate(), self.kept)

    def retry_with_pending(self) -> bool:
        self.retries += 1
        return self.pending

    def accepted(self, key_id: str = "") -> None: ...


@dataclass
class Heard:
    """What came back for one exchange."""

    head: dict[str, Any] | None = None
    body: bytes = b""
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """How it ended."""
        return str(self.last.get("t", "closed"))

    @property
    def code(self) -> str:
        return str(self.last.get("code", ""))


@dataclass
class Lane:
    """One data lane of the agent."""

    socket: ServerConnection
    ticket: str
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, body: bytes = b"{}", *, cuts: int = 65536, **members: Any) -> None:
        """OPEN and the body, without waiting for anything."""
        opening = {"t": "open", "id": "req_1", "path": CHAT, "model": "m", "headers": {}, "whole": False}
        await self.socket.send(json.dumps({**opening, "length": len(body), **members}))
        for start in range(0, len(body), cuts):
            await self.socket.send(body[start : start + cuts])

    async def hear(self, *, pieces: int | None = None, seconds: float = 10.0) -> Heard:
        """The answer to its end, or its first `pieces`."""
        heard = Heard()
        left = pieces
        async with asyncio.timeout(seconds):
            while left is None or left > 0:
                try:
                    message = await self.socket.recv()
                except ConnectionClosed as closed:
                    heard.last = {"t": "closed", "code": closed.rcvd.code if closed.rcvd else 1006}
                    return heard
                if isinstance(message, bytes):
                    heard.body += message
                    left = None if left is None else left - 1
                    continue
                said = json.loads(message)
                if said["t"] != "head":
                    heard.last = said
                    return heard
                heard.head = said
        return heard

    async def close(self) -> None:
        await self.socket.close()


@dataclass
class FarEnd:
    """The gateway. `controls` and `parked` fill as the agent dials in; everything it says is in `said`."""

    signer: SigningKey = field(default_factory=SigningKey.generate)
    url: str = ""
    """Of the link."""
    challenge: dict[str, Any] = field(default_factory=dict)
    """Members that replace those of an honest challenge."""
    welcome: dict[str, Any] = field(default_factory=dict)
    greet: Callable[[FarEnd, ServerConnection], Awaitable[bool]] | None = None
    """Plays the control lane instead; true to go on as usual after it."""
    refuse: Callable[[Request], Response | None] = lambda _request: None
    connections: list[str] = field(default_factory=list)
    """Their ids."""
    controls: list[ServerConnection] = field(default_factory=list)
    auths: list[dict[str, Any]] = field(default_factory=list)
    proofs: list[bytes] = field(default_factory=list)
    """What each AUTH should be a signature of."""
    said: list[dict[str, Any]] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    parked: asyncio.Queue[Lane] = field(default_factory=asyncio.Queue)
    tickets: int = 0

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[FarEnd]:
        """Serve on loopback until the block ends."""
        server = await serve(
            self._serve, "127.0.0.1", port, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None,
            process_request=lambda _, request: self.refuse(request), close_timeout=0.2, max_size=1 << 20,
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/link"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/link")

    async def say(self, **message: Any) -> None:
        """On the newest control lane."""
        await self.controls[-1].send(json.dumps(message))

    async def lane(self, seconds: float = 5.0) -> Lane:
        """A parked lane that still lives."""
        async with asyncio.timeout(seconds):
            while True:
                lane = await self.parked.get()
                if not lane.gone.is_set():
                    return lane

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Everything said of one kind."""
        return [message for message in self.said if message["t"] == kind]

    @property
    def living(self) -> int:
        """Data lanes that are open."""
        return sum(1 for lane in self.lanes if not lane.gone.is_set())

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        with suppress(ConnectionClosed):
            if socket.request.path == "/link":
                await self._control(socket)
                return
        lane = Lane(socket, socket.request.headers.get("authorization", ""))
        self.lanes.append(lane)
        self.parked.put_nowait(lane)
        await socket.wait_closed()
        lane.gone.set()

    async def _control(self, socket: ServerConnection) -> None:
        self.controls.append(socket)
        if self.greet is not None and not await self.greet(self, socket):
            return
        nonce, connection = secrets.token_bytes(32), secrets.token_hex(8)
        signed = challenge_message(origin=self.origin, nonce=nonce, connection=connection, time=1)
        self.connections.append(connection)
        honest = {
            "t": "challenge",
            "nonce": encode(nonce),
            "connection": connection,
            "origin": self.origin,
            "time": 1,
            "protocols": [1],
            "key": encode(self.signer.public),
            "signature": encode(self.signer.sign(signed)),
        }
        await socket.send(json.dumps({**honest, **self.challenge}))
        auth = json.loads(await socket.recv())
        self.auths.append(auth)
        self.proofs.append(
            auth_message(origin=auth["origin"], nonce=nonce, connection=connection, node=auth["node"],
                         instance=auth["instance"])
        )  # fmt: skip
        self.tickets += 1
        welcome = {"t": "welcome", "node": auth["node"], "name": "rig", "epoch": 1, "ticket": f"ticket-{self.tickets}",
                   "slots": None, "drained": False, "pending": False}  # fmt: skip
        await socket.send(json.dumps({**welcome, **self.welcome}))
        async for message in socket:
            self.said.append(json.loads(message))


@dataclass
class Bed:
    """An agent's link on a far end, with its runtimes."""

    far: FarEnd
    link: Link
    forwarder: Forwarder
    who: Who
    runtimes: list[Runtime]
    unwilling: list[Refusal] = field(default_factory=list)


def runtime(origin: str, *models: str, slots: int = 4, key: str = "") -> Runtime:
    """A runtime as it is known after discovery."""
    return Runtime("test", origin, key, models=tuple(Model(name) for name in models or ("m",)), slots=slots)


@asynccontextmanager
async def linked(
    far: FarEnd, runtimes: Sequence[Runtime], *, slots: int = 4, link: str = "", **more: Any
) -> AsyncIterator[Bed]:
    """A running link, closed at the end of the block."""
    kept = list(runtimes)
    unwilling: list[Refusal] = []
    forwarder = Forwarder(lambda: kept, lambda: unwilling[-1] if unwilling else None, **more)
    who = Who(link or far.url, (far.signer.public,))
    end = Link(who, forwarder, slots=lambda: slots, version="0", fingerprint="f", changed=lambda: None)
    task = asyncio.create_task(end.run())
    try:
        yield Bed(far, end, forwarder, who, kept, unwilling)
    finally:
        end.close()
        await asyncio.wait_for(task, 5)


def unpack(text: str) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
