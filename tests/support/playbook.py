"""A data plane whose upstreams are scripts and whose client is a list: whole requests without a socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from intertie.core.ledger import Opening, Progress, Settlement
from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per
from intertie.core.providers import load
from intertie.core.routing.room import Room
from intertie.core.terms import (
    NODE,
    Caller,
    Credential,
    Node,
    Operation,
    Price,
    Route,
    Secret,
    Snapshot,
    Target,
    Timeouts,
    Trust,
    Upstream,
)
from intertie.core.wire.http import Head, WireRequest
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.observe import RequestLog
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.pipeline import serve
from intertie.dataplane.shadow import Shadows
from intertie.dataplane.shedding import Shedder

KEY = "sk-it-test"
CALLER = Caller("org", "project", "key_1", "dev")
STALL = "stall"
LATER = "later"
"""Everything else that can run gets its turn first."""
TURN = "turn"
"""As a step: the next one comes a turn of the event loop later."""

Step = bytes | Exception | str
_TURNS = 50


class Script:
    """What one upstream answers to one request: a head, then steps; or an exception instead of a head."""

    def __init__(self, *steps: Step, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.steps = steps
        self.head = Head(status, headers or {})


class ScriptedTransport:
    """Answers each request with the next script, and remembers what was asked."""

    def __init__(self, scripts: Sequence[Script | Exception]) -> None:
        self.scripts = list(scripts)
        self.requests: list[tuple[WireRequest, str]] = []
        self.open_now = 0

    @asynccontextmanager
    async def open(self, request: WireRequest, secret: Secret | None, sent: Callable[[], None]) -> Any:
        self.requests.append((request, secret.reveal() if secret else ""))
        script = self.scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        sent()
        self.open_now += 1
        try:
            yield _ScriptedReply(script)
        finally:
            self.open_now -= 1

    async def close(self) -> None:
        """Nothing is pooled."""


class _ScriptedReply:
    def __init__(self, script: Script) -> None:
        self.head = script.head
        self._steps = list(script.steps)

    async def chunk(self) -> bytes | None:
        while self._steps and self._steps[0] == TURN:
            self._steps.pop(0)
            await asyncio.sleep(0)
        if not self._steps:
            return None
        step = self._steps.pop(0)
        while step == LATER:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if step == STALL:
            await asyncio.Event().wait()
        assert isinstance(step, bytes)
        return step

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        while (piece := await self.chunk()) is not None:
            if not take(piece):
                return False
        return True

    async def whole(self) -> bytes:
        pieces = []
        while (piece := await self.chunk()) is not None:
            pieces.append(piece)
        return b"".join(pieces)


class RecordedLedger:
    """Keeps the records, in order."""

    def __init__(self) -> None:
        self.openings: list[Opening] = []
        self.progressed: list[Progress] = []
        self.settlements: list[Settlement] = []

    def open(self, record: Opening) -> None:
        self.openings.append(record)

    def progress(self, record: Progress) -> None:
        self.progressed.append(record)

    def settle(self, record: Settlement) -> None:
        self.settlements.append(record)

    async def durable(self) -> None:
        """A list is durable enough."""


class RecordedReply:
    """The client: remembers what it was sent and how much the books had settled by then."""

    def __init__(self, ledger: RecordedLedger) -> None:
        self._ledger = ledger
        self.started = False
        self.status = 0
        self.length: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.finished = False
        self.settled_at_finish = 0
        self.heard = asyncio.Event()

    async def start(self, status: int, head: bytes, length: int | None) -> None:
        assert not self.started
        self.started = True
        self.status = status
        self.length = length
        lines = [line.partition(b": ") for line in head.split(b"\r\n") if line]
        self.headers = {name.decode(): value.decode() for name, _, value in lines}

    async def write(self, body: bytes) -> None:
        self.body += body
        self.heard.set()

    def put(self, body: bytes) -> bool:
        self.body += body
        self.heard.set()
        return True

    async def drained(self) -> None:
        """A list is always ready for more."""

    async def finish(self, body: bytes = b"") -> None:
        assert not self.finished
        self.finished = True
        self.settled_at_finish = len(self._ledger.settlements)
        self.body += body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Playbook:
    """One route over scripted upstreams, in order of tiers. Those named in `rooms` are nodes with that room."""

    def __init__(
        self,
        *upstreams: Sequence[Script | Exception],
        keys: int = 1,
        timeouts: Timeouts = Timeouts(),
        deadline: float = 600.0,
        rooms: Mapping[str, Room] = {},
        caller: Caller = CALLER,
    ) -> None:
        self.transports = {f"up{n}": ScriptedTransport(scripts) for n, scripts in enumerate(upstreams)}
        self.rooms = dict(rooms)
        self.look: Callable[[], Room] | None = None
        """What every node can take at the moment, instead of `rooms`."""
        rows = {
            name: Upstream(
                id=name,
                organisation="org",
                name=f"name-{name}",
                provider="openai_compatible",
                base_url=f"http://{name}.test/v1",
                credentials=tuple(Credential(f"{name}-k{n}", Secret(f"secret-{name}-{n}")) for n in range(keys)),
                models={"inner": Price(input=1_000_000, output=2_000_000)},
                timeouts=timeouts,
            )
            for name in self.transports
        }
        rows |= {name: _as_node(rows[name]) for name in rooms}
        targets = tuple(Target(upstream=name, model="inner", tier=tier) for tier, name in enumerate(rows))
        self.ledger = RecordedLedger()
        self.log: list[bytes] = []
        self.current = Snapshot(
            revision=1,
            callers={hash_key(KEY): caller},
            routes={("org", "m"): Route("org", "m", targets, deadline=deadline)},
            upstreams=rows,
            nodes={("org", rows[name].name): Node(name, "org", rows[name].name) for name in rooms},
        )
        self.dataplane = Dataplane(
            snapshots=self,
            ledger=self.ledger,
            transports=self,
            adapters=load(),
            hash_key=hash_key,
            shedder=Shedder(lambda: 0, 0),
            log=RequestLog(self.log.append),
            links=self,
        )
        self.dataplane.sleep = _no_wait
        self.shadows = Shadows(self.dataplane)
        self.reply = RecordedReply(self.ledger)
        self.exchange = Exchange("req_1", Operation.CHAT, {b"authorization": b"Bearer " + KEY.encode()}, b"")

    def amend(self, **fields: Any) -> None:
        """Change the route."""
        routes = {("org", "m"): msgspec.structs.replace(self.current.routes["org", "m"], **fields)}
        self.current = msgspec.structs.replace(self.current, routes=routes)

    def limit(self, *limits: Limit) -> None:
        """Put limits in force."""
        held: dict[tuple[str, str, str], tuple[Limit, ...]] = {}
        for limit in limits:
            place = ("org", str(limit.level), limit.holder)
            held[place] = (*held.get(place, ()), limit)
        self.current = msgspec.structs.replace(self.current, limits=held)

    def standing(self, limit: Limit) -> tuple[int, int]:
        """Spent and reserved."""
        found = self.dataplane.gate.standing(limit)
        return found.spent, found.reserved

    def of(self, upstream: Upstream) -> ScriptedTransport:
        return self.transports[upstream.id]

    def room(self, upstream: Upstream, node: Node, model: str) -> Room:
        """What the node can take, as the test says."""
        assert (node.id, node.name) == (upstream.id, upstream.name)
        return self.look() if self.look is not None else self.rooms[upstream.id]

    async def run(self, *, stream: bool = False, **fields: Any) -> RecordedReply:
        """Serve one request and return what its client got."""
        await self._serve(self.exchange, self.reply, {"stream": stream, **fields})
        return self.reply

    async def copied(self) -> None:
        """Return once no copy is under way."""
        while self.shadows.running():
            await asyncio.sleep(0)

    async def another(self) -> RecordedReply:
        """Serve one more request, beside others, and return what its client got."""
        x = Exchange(f"req_{id(object())}", Operation.CHAT, self.exchange.headers, b"")
        reply = RecordedReply(self.ledger)
        await self._serve(x, reply, {})
        return reply

    async def _serve(self, x: Exchange, reply: RecordedReply, fields: Mapping[str, Any]) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
        x.body = json.dumps(body).encode()
        x.started = self.dataplane.monotonic()
        x.started_at = self.dataplane.wall()
        await serve(x, reply, self.dataplane)

    @property
    def settled(self) -> Settlement:
        """The one settlement."""
        (settlement,) = self.ledger.settlements
        return settlement

    @property
    def asked(self) -> list[str]:
        """Secrets used, in order of the upstreams."""
        return [secret for transport in self.transports.values() for _, secret in transport.requests]


def _as_node(upstream: Upstream) -> Upstream:
    """The same as an enrolled machine: no address, no credential, its models free."""
    free = dict.fromkeys(upstream.models, Price(input=0, output=0))
    return msgspec.structs.replace(upstream, provider=NODE, base_url="", credentials=(), trust=Trust.OWN, models=free)


async def _no_wait(_seconds: float) -> None:
    """Back-off without the wait."""


def total(level: Level, holder: str, amount: int = 10**9, measure: Measure = Measure.MONEY) -> Limit:
    """A quota or budget that never starts afresh."""
    return Limit("org/" + limit_id(level, holder, measure, Per.TOTAL), level, holder, measure, amount, Per.TOTAL)


def hash_key(presented: str) -> bytes:
    """Stands for the keyed hash."""
    return hashlib.sha256(presented.encode()).digest()
