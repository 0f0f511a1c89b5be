"""The gateway's end of the link on a real socket, and an agent made of somebody else's WebSocket library."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from intertie.api.edge import EdgeLimits, EdgeServer, make_server
from intertie.api.edge.cycle import Scope
from intertie.api.links import LinkDoor
from intertie.controlplane import migrate
from intertie.controlplane.control import Control
from intertie.controlplane.snapshot import Snapshots
from intertie.core.wire.enrolment import auth_message, challenge_message
from intertie.core.wire.http import WireRequest
from intertie.core.wire.link import SUBPROTOCOL
from intertie.dataplane.transport.link import Links, LinkTransport, Presence
from intertie.settings import Settings
from intertie.store import nodes, revision
from intertie.store.nodes import NodeKeyRow, NodeRow

NODE = "node_rig"
PATIENCE = 5.0


def packed(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unpacked(text: str) -> bytes:
    """The bytes again."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def soon(condition: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait until `condition` holds; fail if it does not."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "did not happen"
        await asyncio.sleep(0.005)


class Machine:
    """An enrolled machine: its key, and the connections it opens."""

    def __init__(self, bed: Bed, node: str, key: Ed25519PrivateKey, instance: str = "instance-1") -> None:
        self._bed = bed
        self.node = node
        self.key = key
        self.instance = instance

    async def dial(self, path: str = "/link", ticket: str = "", **more: Any) -> ClientConnection:
        """One connection; `more` goes to the library."""
        headers = {"authorization": f"Bearer {ticket}"} if ticket else {}
        return await connect(
            f"ws://127.0.0.1:{self._bed.port}{path}",
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers={**headers, **more.pop("headers", {})},
            compression=None,
            ping_interval=None,
            proxy=None,
            **more,
        )

    def answer(self, challenge: Mapping[str, Any], **instead: object) -> dict[str, object]:
        """AUTH for a challenge, with some members changed; the signature is made over the changed ones."""
        said: dict[str, Any] = {
            "t": "auth",
            "node": self.node,
            "key": "k",
            "protocol": 1,
            "instance": self.instance,
            "origin": challenge["origin"],
            "version": "1.0",
            "fingerprint": "f",
            **instead,
        }
        message = auth_message(
            origin=said["origin"],
            nonce=unpacked(challenge["nonce"]),
            connection=challenge["connection"],
            node=said["node"],
            instance=said["instance"],
        )
        return {"signature": packed(self.key.sign(message)), **said}

    async def attach(self, slots: int = 4) -> Attachment:
        """Connect, prove itself, and say how many slots it has."""
        control = await self.dial()
        challenge = json.loads(await control.recv())
        self._bed.check(challenge)
        await control.send(json.dumps(self.answer(challenge)))
        welcome = json.loads(await control.recv())
        assert welcome["t"] == "welcome", welcome
        await control.send(json.dumps({"t": "inventory", "revision": 1, "slots": slots, "models": [{"name": "m"}]}))
        await soon(lambda: bool(self._bed.links.of(self.node)) and self._bed.slots(self.node) == slots)
        return Attachment(self, control, welcome)


class Attachment:
    """A connected machine."""

    def __init__(self, machine: Machine, control: ClientConnection, welcome: dict[str, Any]) -> None:
        self.machine = machine
        self.control = control
        self.welcome = welcome

    async def lane(self, ticket: str | None = None) -> ClientConnection:
        """A data lane, parked."""
        return await self.machine.dial("/link/lane", self.welcome["ticket"] if ticket is None else ticket)

    async def said(self) -> dict[str, Any]:
        """The next message on the control lane."""
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.control.recv(), PATIENCE))
        return message


async def closing(connection: ClientConnection) -> tuple[int | None, str]:
    """Wait for the gateway to close; its code and reason."""
    try:
        while True:
            await asyncio.wait_for(connection.recv(), PATIENCE)
    except ConnectionClosed:
        return connection.close_code, connection.close_reason or ""


async def taken(lane: ClientConnection) -> tuple[dict[str, Any], bytes]:
    """Wait for an exchange on a parked lane: its OPEN and its body."""
    opening: dict[str, Any] = json.loads(await asyncio.wait_for(lane.recv(), PATIENCE))
    body = b""
    while len(body) < opening["length"]:
        piece = await asyncio.wait_for(lane.recv(), PATIENCE)
        assert isinstance(piece, bytes)
        body += piece
    return opening, body


async def say(connection: ClientConnection, kind: str, **members: object) -> None:
    """Send a text message."""
    await connection.send(json.dumps({"t": kind, **members}))


async def head(lane: ClientConnection, status: int = 200, kind: str = "text/event-stream") -> None:
    """Begin an answer."""
    await say(lane, "head", status=status, headers={"content-type": kind})


class Bed:
    """Server, links and database."""

    def __init__(self, control: Control, snapshots: Snapshots, links: Links, door: LinkDoor) -> None:
        self.control = control
        self.snapshots = snapshots
        self.links = links
        self.door = door
        self.server: EdgeServer
        self.transport = LinkTransport(links, 1.0)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.addresses[0][1]

    def slots(self, node: str = NODE) -> int:
        """What a connected node may do at a time."""
        attached = self.links.of(node)
        return -1 if attached is None else attached.slots

    def check(self, challenge: Mapping[str, Any]) -> None:
        """The challenge is the gateway's, for this address."""
        signed = challenge_message(
            origin=challenge["origin"],
            nonce=unpacked(challenge["nonce"]),
            connection=challenge["connection"],
            time=challenge["time"],
        )
        assert challenge["origin"] == f"http://127.0.0.1:{self.port}"
        assert unpacked(challenge["key"]) == self.control.vault.signer.public
        Ed25519PublicKey.from_public_bytes(unpacked(challenge["key"])).verify(unpacked(challenge["signature"]), signed)

    def enrol(self, node: str = NODE, state: str = "active") -> Machine:
        """A machine as enrolment leaves it."""
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes_raw()
        row = NodeRow(
            organisation="default",
            id=node,
            name=node.removeprefix("node_"),
            state=state,
            trust="own",
            labels=(),
            drained=False,
            slots=None,
            epoch=0,
            instance="",
            fingerprint="f",
            ephemeral=False,
            inventory={},
            version="1",
            platform="linux",
            enrolled_at=time.time(),
            enrolled_by="tok_1",
        )
        with self.control.database.write() as connection:
            nodes.write(connection, row)
            nodes.add_key(connection, NodeKeyRow("default", f"key_{node}", node, public, time.time()))
            revision.bump(connection)
        return Machine(self, node, key)

    async def set_state(self, node: str, state: str) -> None:
        """Change the node's state as an operator does, and put the snapshot in force."""
        with self.control.database.write() as connection:
            row = nodes.by_id(connection, node)
            assert row is not None
            nodes.write(connection, _with(row, state=state))
            revision.bump(connection)
        await asyncio.to_thread(self.snapshots.refresh)

    async def set_limits(self, node: str, *, drained: bool = False, slots: int | None = None) -> None:
        """Drain or cap the node."""
        with self.control.database.write() as connection:
            row = nodes.by_id(connection, node)
            assert row is not None
            nodes.write(connection, _with(row, drained=drained, slots=slots))
            revision.bump(connection)
        await asyncio.to_thread(self.snapshots.refresh)

    def request(self, body: bytes = b"{}", *, whole: bool = False, node: str = NODE) -> WireRequest:
        """What the node adapter sends."""
        told = {"x-intertie-model": "m", "x-intertie-request": "req_1", "x-intertie-whole": str(whole).lower()}
        headers = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}
        return WireRequest(f"link:{node}/v1/chat/completions", {**headers, **told}, body)


def _with(row: NodeRow, **changed: Any) -> NodeRow:
    return msgspec.structs.replace(row, **changed)


async def _nothing_here(scope: Scope, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def running(
    folder: Path, *, public_url: str | None = None, rate: float = 1000.0, proxies: tuple[str, ...] = ()
) -> AsyncIterator[Bed]:
    """A bed with an empty database; at the end nothing may be left open."""
    loop = asyncio.get_running_loop()
    control = migrate.start(Settings(data=folder), clock=time.time, prices=lambda *_: None)
    snapshots = Snapshots(control)
    links = Links()
    door = LinkDoor(
        control,
        links,
        snapshot=lambda: snapshots.current,
        refresh=snapshots.refresh,
        public_url=public_url,
        rate=rate,
    )
    bed = Bed(control, snapshots, links, door)
    limits = EdgeLimits(proxies=proxies)
    bed.server = make_server(_nothing_here, host="127.0.0.1", port=0, limits=limits, lifespan="off", upgrades=door)
    snapshots.swapped = lambda: loop.call_soon_threadsafe(door.reconcile)
    # Not `serve`, whose end alone takes as long as most of these tests.
    bed.server.config.load()
    bed.server.lifespan = bed.server.config.lifespan_class(bed.server.config)
    await bed.server.startup()
    try:
        yield bed
    finally:
        await door.close()
        assert links.connections == 0
        bed.server.stop_accepting()
        bed.server.abort_connections()
        control.database.close()


def nothing() -> None:
    """Nobody asks whether it was sent."""


def presence(bed: Bed) -> Presence:
    """The one connected node."""
    (one,) = bed.links.presence()
    return one


async def attached(bed: Bed, lanes: int = 1, slots: int = 4) -> tuple[Attachment, list[ClientConnection]]:
    """A node with some lanes parked."""
    attachment = await bed.enrol().attach(slots)
    opened = [await attachment.lane() for _ in range(lanes)]
    await soon(lambda: presence(bed).lanes_parked == lanes)
    return attachment, opened


async def whole(bed: Bed, body: bytes = b"{}") -> tuple[int, bytes]:
    """Ask and read all of the answer."""
    pieces: list[bytes] = []

    def take(piece: bytes) -> bool:
        pieces.append(piece)
        return True

    async with bed.transport.open(bed.request(body), None, nothing) as wire:
        assert await wire.pour(take)
        return wire.head.status, b"".join(pieces)
