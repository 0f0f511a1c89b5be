"""Hours of traffic through the real pipeline: upstreams, nodes and clients in memory, time of its own, real books."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from intertie.core.errors import NodeBusy, UpstreamReset, UpstreamUnreachable
from intertie.core.ledger import Settlement
from intertie.core.providers import load
from intertie.core.routing.room import Room
from intertie.core.terms import Node, Operation, Secret, Snapshot, Upstream
from intertie.core.wire.http import Head, WireRequest
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.observe import RequestLog
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.pipeline import serve
from intertie.dataplane.shedding import Shedder
from tests.support.clockwork import START, play
from tests.support.playbook import RecordedLedger, RecordedReply, hash_key
from tests.support.replies import chat, delta, error, event, packed, usage_chunk

EPOCH = 1_800_000_000.0
"""The wall's clock at the start."""
_AWAY = Room(open=False, reason="offline since 12:03")


@dataclass(frozen=True)
class Spell:
    """What is wrong with an upstream for a while; seconds from the start."""

    since: float
    until: float
    trouble: str
    """refused, failing, busy, hanging, breaking; denied: its first credential; of a node also away."""


@dataclass
class Player:
    """How one upstream behaves. Tokens follow from the call alone, so they are the same wherever it goes."""

    first: float
    """Seconds to the first output of a small call; a large one takes longer."""
    each: float = 0.002
    """Seconds for each token."""
    context: int = 1_000_000
    """Tokens it takes at most."""
    slots: int = 0
    """Of a node."""
    fails: int = 0
    """Each so-manieth call fails, always the same ones."""
    spells: Sequence[Spell] = ()
    busy: int = field(default=0, init=False)

    def trouble(self, now: float) -> str:
        """What is wrong with it at the moment; empty: nothing."""
        at = now - START
        return next((one.trouble for one in self.spells if one.since <= at < one.until), "")


@dataclass(frozen=True)
class Visit:
    """One client's call: when (seconds from the start), what, and whether it leaves before it has the answer."""

    at: float
    key: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    node: str | None = None
    leaves: float | None = None


def usage(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a call uses: its text begins with a number that says how long the answer is."""
    words = "".join(message["content"] for message in body["messages"])
    number = int(body["messages"][-1]["content"].split()[0])
    tokens = len(words) // 4
    return {
        "prompt_tokens": tokens,
        "completion_tokens": 5 + number % 90,
        "total_tokens": tokens + 5 + number % 90,
        "prompt_tokens_details": {"cached_tokens": tokens // 3 if len(body["messages"]) > 1 else 0},
    }


class _Stage:
    """The transport of one upstream."""

    def __init__(self, player: Player) -> None:
        self._player = player

    @asynccontextmanager
    async def open(
        self, request: WireRequest, secret: Secret | None, sent: Callable[[], None]
    ) -> AsyncIterator[_Answer]:
        player, body = self._player, json.loads(request.body)
        trouble = player.trouble(asyncio.get_running_loop().time())
        if trouble == "refused":
            raise UpstreamUnreachable("The upstream cannot be reached.")
        if player.slots and player.busy >= player.slots:
            raise NodeBusy("The node takes no work now.")
        player.busy += 1
        try:
            sent()
            if trouble == "denied" and secret is not None and not secret.reveal().endswith("-0"):
                trouble = ""
            yield await self._answer(body, trouble, whole=request.headers.get("x-intertie-whole") == "true")
        finally:
            player.busy -= 1

    async def _answer(self, body: Mapping[str, Any], trouble: str, *, whole: bool) -> _Answer:
        player, used = self._player, usage(body)
        if player.fails and int(body["messages"][-1]["content"].split()[0]) % player.fails == 0:
            trouble = trouble or "failing"
        status, more = {"failing": (500, {}), "busy": (429, {"retry-after": "4"}), "denied": (401, {})}.get(
            trouble, (200, {})
        )
        if status != 200:
            await asyncio.sleep(0.05)
            return _Answer(Head(status, {"content-type": "application/json", **more}), [packed(error("no"))])
        if used["prompt_tokens"] > player.context:
            await asyncio.sleep(0.05)
            rejected = packed(error("too long", code="context_length_exceeded"))
            return _Answer(Head(400, {"content-type": "application/json"}), [rejected])
        if trouble == "hanging":
            await asyncio.sleep(10_000)
        await asyncio.sleep(player.first * (1 + used["prompt_tokens"] / 2000))
        if whole or not body.get("stream"):
            await asyncio.sleep(player.each * used["completion_tokens"])
            answer = packed(chat({"content": "fine"}, usage=used))
            head = Head(200, {"content-type": "application/json", "content-length": str(len(answer))})
            return _Answer(head, [answer])
        pieces = [event(delta({"role": "assistant"})), *(event(delta({"content": word})) for word in ("well ", "then"))]
        if trouble == "breaking":
            return _Answer(Head(200, {"content-type": "text/event-stream"}), [*pieces, UpstreamReset("reset")])
        end = [event(delta({}, finish="stop")), event(usage_chunk(used)), b"data: [DONE]\n\n"]
        steps = [*pieces, player.each * used["completion_tokens"], *end]
        return _Answer(Head(200, {"content-type": "text/event-stream"}), steps)

    async def close(self) -> None:
        """Nothing is pooled."""


class _Answer:
    def __init__(self, head: Head, steps: Iterable[bytes | float | Exception]) -> None:
        self.head = head
        self._steps = list(steps)

    async def chunk(self) -> bytes | None:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                return step
            await asyncio.sleep(step)
        return None

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


class Rehearsal:
    """One gateway's data plane with these players behind its upstreams (by name)."""

    def __init__(self, snapshot: Snapshot, players: Mapping[str, Player], seed: int = 1) -> None:
        self.current = snapshot
        self.ledger = RecordedLedger()
        self._players = players
        self._seed = seed
        self._stages = {name: _Stage(player) for name, player in players.items()}

    def run(self, visits: Sequence[Visit]) -> list[Settlement]:
        """All visits, each at its time; what the books got."""
        play(self._all(visits))
        return self.ledger.settlements

    def of(self, upstream: Upstream) -> _Stage:
        """The transport of an upstream."""
        return self._stages[upstream.name]

    def room(self, upstream: Upstream, node: Node, model: str) -> Room:
        """What a node can take."""
        player = self._players[upstream.name]
        if player.trouble(asyncio.get_running_loop().time()) == "away":
            return _AWAY
        return Room(open=True, free=player.slots - player.busy, slots=player.slots, decode=1 / player.each)

    async def _all(self, visits: Sequence[Visit]) -> None:
        loop = asyncio.get_running_loop()
        d = Dataplane(
            snapshots=self,
            ledger=self.ledger,
            transports=self,
            adapters=load(),
            hash_key=hash_key,
            shedder=Shedder(lambda: 0, 0),
            log=RequestLog(lambda line: None),
            links=self,
        )
        d.rng.seed(self._seed)
        d.monotonic, d.wall = loop.time, lambda: EPOCH + loop.time() - START
        tasks = []
        for number, visit in enumerate(visits):
            await asyncio.sleep(START + visit.at - loop.time())
            tasks.append(asyncio.create_task(self._visit(d, number, visit)))
        await asyncio.gather(*tasks)

    async def _visit(self, d: Dataplane, number: int, visit: Visit) -> None:
        headers = {b"authorization": b"Bearer " + visit.key.encode()}
        headers |= {name.encode(): value.encode() for name, value in visit.headers.items()}
        x = Exchange(f"req_{number:06d}", Operation.CHAT, headers, json.dumps(visit.body).encode())
        x.direct = visit.node
        x.started, x.started_at = d.monotonic(), d.wall()
        task = asyncio.create_task(serve(x, RecordedReply(self.ledger), d))
        if visit.leaves is not None:
            await asyncio.wait((task,), timeout=visit.leaves)
            x.gone = not task.done()
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
