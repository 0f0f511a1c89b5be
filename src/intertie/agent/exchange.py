"""One exchange: a request that a lane brings, the runtime's connection, and the answer on its way back.

Nothing of a request is kept but what the runtime has not taken yet, and pieces of the answer leave in the callback that
brought them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol

from intertie.agent.backlog import Backlog
from intertie.agent.http import Connection, RuntimeGone, address, connect, request_head
from intertie.agent.inventory import Runtime
from intertie.agent.measure import Meter
from intertie.agent.order import Order
from intertie.core.wire.assemble import Assembler, RuntimeFault, Unassembled
from intertie.core.wire.http_response import AnswerHead
from intertie.core.wire.link import PIECE, Refusal

MAX_ERROR: Final = 64 * 1024
COALESCED: Final = 16 * 1024
"""Bytes of an answer in one frame, where one read brings more."""
_TOLD: Final = ("content-type", "content-length", "retry-after", "retry-after-ms")
"""Headers of a runtime's answer that the gateway reads."""
_JSON: Final[Mapping[str, str]] = MappingProxyType({"content-type": "application/json"})
_TOO_LONG: Final = b'{"error":{"message":"the runtime failed and gave too long a reason","type":"server_error"}}'
_WORDS: Final[Mapping[Refusal, str]] = MappingProxyType(
    {
        Refusal.BUSY: "every slot of the runtime is taken",
        Refusal.NOT_SERVING: "the machine takes no work now",
        Refusal.DRAINING: "the node is draining",
        Refusal.NO_MODEL: "no approved runtime of this node serves this model",
        Refusal.POLICY: "this node forwards POST to the paths of its list, and nothing else",
        Refusal.RUNTIME_GONE: "the runtime does not answer",
    }
)


class Carrier(Protocol):
    """The lane of an exchange. After `end`, `refused` or `broken` it is parked and expects nothing more."""

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the answer."""

    def piece(self, piece: bytes) -> None:
        """Part of the answer's body."""

    def end(self) -> None:
        """The answer is whole."""

    def refused(self, code: Refusal, message: str) -> None:
        """Nothing was executed."""

    def broken(self, code: Refusal, message: str) -> None:
        """The answer breaks off here."""


class _Mode(Enum):
    """What becomes of the body of an answer."""

    FLOWS = 1
    ASSEMBLED = 2
    COLLECTED = 3


class Exchange:
    """One request on a lane, and its answer. A `Receiver` of the runtime's connection."""

    __slots__ = (
        "_asked", "_assembler", "_backlog", "_carrier", "_connection", "_dialling", "_early", "_head", "_held", "_kept",
        "_meter", "_mode", "_over", "_refusal", "_release", "_runtime", "_stuck", "clean", "order",
    )  # fmt: skip

    def __init__(
        self,
        carrier: Carrier,
        order: Order,
        chosen: Runtime | Refusal,
        release: Callable[[Exchange, Runtime], None],
        meter: Meter | None = None,
    ) -> None:
        """`release` is told once that the chosen runtime's connection is closed; `meter` times the answer."""
        self.order = order
        self._release = release
        self._meter = meter
        self._carrier = carrier
        self._runtime = chosen if isinstance(chosen, Runtime) else None
        self._refusal = None if isinstance(chosen, Runtime) else (chosen, _WORDS[chosen])
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._asked = order.length == 0
        self._over = False
        self.clean = False
        """Whether the runtime knows that it is over; false if it was hung up on, or broke off."""
        self._held = self._stuck = False
        self._backlog = Backlog()
        self._kept = bytearray()
        self._head: AnswerHead | None = None
        self._early: list[Callable[[], None]] | None = None
        self._mode = _Mode.FLOWS
        self._assembler: Assembler | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self.order.id} {self.order.path} {self._mode.name.lower()}>"

    @property
    def accepted(self) -> bool:
        """A runtime was chosen, and its slot is still taken."""
        return self._runtime is not None

    # -- for the lane

    def start(self) -> None:
        """Begin: connect, or refuse as soon as that is allowed."""
        if self._runtime is not None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial(self._runtime))
        elif self._refusal is not None:
            self._refuse(*self._refusal)

    def body(self, piece: bytes, *, last: bool) -> None:
        """More of the request; `last` if it is whole now."""
        if self._dialling is not None or (self._connection is not None and self._head is None):
            if self._connection is None or self._held or self._backlog:
                self._put(piece)
            else:
                self._connection.send(piece)
        if not last:
            return
        self._asked = True
        if self._refusal is not None:
            self._refuse(*self._refusal)
        elif self._early is not None:
            early, self._early = self._early, None
            for step in early:
                step()
            self._read_on()

    def cancel(self) -> None:
        """The lane is gone: hang up on the runtime at once."""
        if not self._over:
            self._leave(clean=False)

    def break_off(self, code: Refusal) -> None:
        """End it now and tell the gateway why."""
        if self._over or self._runtime is None:
            return
        answering = self._asked and self._head is not None and self._mode is _Mode.FLOWS
        self._leave(clean=False)
        if answering:
            self._carrier.broken(code, _WORDS[code])
        else:
            self._refuse(code, _WORDS[code])

    def pause(self) -> None:
        """The lane takes no more for now."""
        self._stuck = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """It does again."""
        self._stuck = False
        self._read_on()

    # -- for the connection to the runtime

    def headed(self, head: AnswerHead) -> None:
        """The runtime answers, perhaps before it has all of the request: then the rest of that is dropped."""
        self._head = head
        if not self._asked:
            self._early = []
            if self._connection is not None:
                self._connection.pause()
        self._backlog.drop()
        self._soon(self._begin_answer)

    def took(self, piece: bytes) -> None:
        """Part of the answer."""
        if self._meter is not None:
            self._meter.took(piece, time.monotonic())
        if self._early is None:
            self._pass(piece)
        else:
            self._early.append(lambda: self._pass(piece))

    def over(self, problem: str) -> None:
        """The runtime's connection is closed."""
        if self._early is None:
            self._finish(problem)
        else:
            self._early.append(lambda: self._finish(problem))

    def hold(self) -> None:
        """The runtime takes no more of the request for now."""
        self._held = True

    def go_on(self) -> None:
        """It does again."""
        self._held = False
        self._pump()

    # -- steps

    async def _dial(self, runtime: Runtime) -> None:
        order = self.order
        try:
            target = address(runtime.url)
            head = request_head(target, "POST", order.path, order.length, order.headers, runtime.key)
            connection = await connect(target, self)
        except (RuntimeGone, ValueError) as mistake:
            self._dialling = None
            if not self._over:
                self._leave(clean=True)
                self._refuse(Refusal.RUNTIME_GONE, str(mistake))
            return
        self._dialling = None
        if self._over:
            connection.abort()
            return
        self._connection = connection
        if self._stuck or self._early is not None:
            connection.pause()
        if self._head is None:
            connection.send(head + self._backlog.take(PIECE))
            self._pump()

    def _put(self, piece: bytes) -> None:
        try:
            self._backlog.put(piece)
        except OSError as mistake:
            self._leave(clean=False)
            self._refuse(Refusal.BUSY, f"this machine has no room for the request ({mistake.strerror})")

    def _pump(self) -> None:
        """Give the runtime what it will take of what waits."""
        while self._connection is not None and self._head is None and not self._held and self._backlog:
            try:
                piece = self._backlog.take(PIECE)
            except OSError as mistake:
                self._leave(clean=False)
                self._refuse(Refusal.BUSY, f"this machine lost a part of the request ({mistake.strerror})")
                return
            self._connection.send(piece)

    def _read_on(self) -> None:
        """Take more of the answer, if the lane can and the request is whole."""
        if self._connection is not None and not self._stuck and self._early is None:
            self._connection.resume()

    def _soon(self, step: Callable[[], None]) -> None:
        """Do it now, or once the request is whole: nothing may be answered before."""
        if self._early is None:
            step()
        else:
            self._early.append(step)

    def _begin_answer(self) -> None:
        head = self._head
        assert head is not None
        kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not 200 <= head.status < 300:
            self._mode = _Mode.COLLECTED
        elif self.order.whole and kind == "text/event-stream":
            self._mode = _Mode.ASSEMBLED
            self._assembler = Assembler()
        else:
            self._carrier.head(head.status, _told(head))

    def _pass(self, piece: bytes) -> None:
        if self._over:
            return
        if self._mode is _Mode.FLOWS:
            self._flow(piece)
        elif self._mode is _Mode.COLLECTED:
            if len(self._kept) <= MAX_ERROR:
                self._kept += piece
        elif self._assembler is not None:
            try:
                self._assembler.feed(piece)
            except RuntimeFault as fault:
                self._leave(clean=False)
                self._answer(fault.status, _JSON, fault.body)
            except Unassembled as mistake:
                self._break(str(mistake))

    def _flow(self, piece: bytes) -> None:
        if len(piece) <= COALESCED:
            self._carrier.piece(piece)
            return
        for start in range(0, len(piece), COALESCED):
            self._carrier.piece(piece[start : start + COALESCED])

    def _finish(self, problem: str) -> None:
        if self._over:
            return
        head, mode = self._head, self._mode
        if head is None:
            self._leave(clean=False)
            self._refuse(Refusal.RUNTIME_GONE, problem or "the runtime gave no answer")
        elif mode is _Mode.ASSEMBLED:
            self._finish_whole(problem)
        elif problem:
            self._break(problem)
        elif mode is _Mode.COLLECTED:
            self._leave(clean=True)
            self._answer(head.status, _told(head), _error_body(self._kept))
        else:
            self._leave(clean=True)
            self._carrier.end()

    def _finish_whole(self, problem: str) -> None:
        assembler = self._assembler
        assert assembler is not None
        if not assembler.finished:
            self._break(problem or "the runtime's stream ended before its answer did")
            return
        try:
            body = assembler.answer()
        except Unassembled as mistake:
            self._break(str(mistake))
            return
        self._leave(clean=not problem)
        self._answer(200, _JSON, body)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """A whole answer at once."""
        self._carrier.head(status, {**headers, "content-length": str(len(body))})
        self._flow(body)
        self._carrier.end()

    def _break(self, problem: str) -> None:
        """The answer cannot be completed."""
        self._leave(clean=False)
        if self._mode is not _Mode.FLOWS and self._head is not None:
            self._carrier.head(self._head.status, {})
        self._carrier.broken(Refusal.RUNTIME_GONE, problem)

    def _refuse(self, code: Refusal, message: str) -> None:
        """Refuse when the request is whole, dropping what still comes of it."""
        self._refusal = (code, message)
        self._early = None
        if self._asked:
            self._over = True
            self._carrier.refused(code, message)

    def _leave(self, *, clean: bool) -> None:
        """Close the connection to the runtime and give the slot back; the lane may still be told something."""
        self._over = True
        self._backlog.drop()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
            clean = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            self.clean = clean
            if self._meter is not None and clean and self._head and self._head.status == 200:
                self._meter.over()
            self._release(self, runtime)


def _told(head: AnswerHead) -> dict[str, str]:
    return {name: head.headers[name][:256] for name in _TOLD if name in head.headers}


def _error_body(kept: bytearray) -> bytes:
    """The runtime's own words, or ours if there are too many of them."""
    return bytes(kept) if len(kept) <= MAX_ERROR else _TOO_LONG
