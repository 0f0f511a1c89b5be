"""Links to nodes: which are up, and the transport over their lanes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from intertie.core.errors import Misconfigured, NodeBusy
from intertie.core.routing.room import OFFLINE, Room
from intertie.core.terms import NODE, Node, Secret, Snapshot, Upstream
from intertie.core.wire.http import Head, WireRequest
from intertie.core.wire.link import FORWARDED, TICKET_SECONDS, CloseCode, Say
from intertie.dataplane.transport.attached import Attached, Introduction, Presence
from intertie.dataplane.transport.contract import WireReply
from intertie.dataplane.transport.lane import Lane
from intertie.dataplane.transport.wired import LOOK_SECONDS, Farewell, Wired

__all__ = ["Introduction", "LinkTransport", "Links", "Presence"]

MAX_WHOLE: Final = 8 * 1024 * 1024
_CLOSE_SECONDS: Final = 1.0
_CLOSE_LOOKS: Final = 50


class Links:
    """The nodes connected to this process. Event loop only; the newest instance of a node wins by its epoch."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.clock = clock
        """Monotonic seconds; the clock of the loop's timers."""
        self._wall = wall
        self._secret = os.urandom(32)
        self._attached: dict[str, Attached] = {}
        self._left: dict[str, float] = {}
        self._watched: set[Wired] = set()
        self._due: float | None = None
        self._going = False

    def __repr__(self) -> str:
        return f"<Links {len(self._attached)} nodes, {len(self._watched)} connections>"

    @property
    def connections(self) -> int:
        """Open connections of all kinds."""
        return len(self._watched)

    @property
    def going(self) -> bool:
        """This process takes no more links."""
        return self._going

    # -- nodes that come and go --------------------------------------------------------------------------------------

    def attach(self, who: Introduction, control: Wired) -> Attached | None:
        """`who` is connected by `control`, which has authenticated. `None` if a newer instance already is."""
        old = self._attached.get(who.node)
        if old is not None:
            if old.who.epoch > who.epoch:
                return None
            # The same instance dials again after it lost its connection; that we have not noticed does not matter.
            same = old.who.epoch == who.epoch
            old.end(CloseCode.NORMAL if same else CloseCode.SUPERSEDED)
            old.control.close(
                CloseCode.NORMAL if same else CloseCode.SUPERSEDED,
                "connected again" if same else "a newer instance of this node has connected",
            )
        attached = self._attached[who.node] = Attached(who, control, self, self._wall())
        self._left.pop(who.node, None)
        return attached

    def detach(self, control: Wired) -> Attached | None:
        """A control lane is gone; the node whose link ends with it, or `None` if it was not its node's present one."""
        for node, attached in self._attached.items():
            if attached.control is control:
                del self._attached[node]
                attached.end(CloseCode.NORMAL)
                self._left[node] = self._wall()
                return attached
        return None

    def of(self, node: str) -> Attached | None:
        """The node with this id, if it is connected."""
        return self._attached.get(node)

    def ticket(self, attached: Attached) -> str:
        """What opens data lanes of this node for `TICKET_SECONDS`, while this epoch is connected."""
        attached.ticket_at = self.clock()
        claim = f"{attached.who.node}.{attached.who.epoch}.{int(attached.ticket_at + TICKET_SECONDS)}"
        return f"{claim}.{self._seal(claim)}"

    def lane(self, ticket: str) -> Wired:
        """The protocol for a new data lane; one that only says goodbye if the ticket is not valid."""
        attached = self._bearer(ticket)
        if attached is None:
            return Farewell(self, CloseCode.TICKET, "the ticket is not valid any more")
        return Lane(attached, self)

    def _bearer(self, ticket: str) -> Attached | None:
        claim, _, seal = ticket.rpartition(".")
        if not hmac.compare_digest(self._seal(claim).encode(), seal.encode()):
            return None
        node, epoch, until = claim.rsplit(".", 2)
        attached = self._attached.get(node)
        good = attached is not None and attached.who.epoch == int(epoch) and self.clock() < int(until)
        return attached if good else None

    def _seal(self, claim: str) -> str:
        return hmac.digest(self._secret, claim.encode(), hashlib.sha256).hex()

    # -- for the rest of the gateway ---------------------------------------------------------------------------------

    def room(self, upstream: Upstream, node: Node, model: str) -> Room:
        """What `node` can take of `model` at this moment."""
        attached = self._attached.get(upstream.id)
        if attached is not None:
            return attached.room(node, model)
        left = self._left.get(upstream.id)
        since = "" if left is None else time.strftime(" since %H:%M UTC", time.gmtime(left))
        return Room(open=False, reason=OFFLINE + since)

    def presence(self) -> list[Presence]:
        """Everyone who is connected."""
        return [attached.presence() for attached in self._attached.values()]

    def reconcile(self, snapshot: Snapshot) -> None:
        """Close the links of nodes that are not in the snapshot (any more), and tell the others what changed."""
        nodes = {node.id: node for node in snapshot.nodes.values()}
        for gone in [node for node in self._left if node not in nodes]:
            del self._left[gone]
        for attached in list(self._attached.values()):
            node = nodes.get(attached.who.node)
            if node is None:
                attached.break_off(CloseCode.REVOKED, "the node was revoked")
            else:
                attached.settle(node)

    def ask_rotation(self, node_id: str) -> bool:
        """Ask a node for a new key. False if it is not connected."""
        attached = self._attached.get(node_id)
        if attached is not None:
            attached.control.say(Say.ROTATE)
        return attached is not None

    def go_away(self, reason: str, delay: float) -> None:
        """Take no more links, and ask all agents to dial again within `delay` seconds; busy lanes finish."""
        self._going = True
        for attached in list(self._attached.values()):
            attached.control.say(Say.GO_AWAY, reason=reason, delay=delay)
            attached.end(CloseCode.RESTARTING)

    async def close(self) -> None:
        """Close everything, and give the agents a moment to hear why."""
        self._going = True
        for attached in list(self._attached.values()):
            attached.break_off(CloseCode.RESTARTING, "the gateway stops")
        for one in list(self._watched):
            one.close(CloseCode.RESTARTING, "the gateway stops")
        await self._emptied()
        for one in list(self._watched):
            one.abort()
        await self._emptied()

    async def _emptied(self) -> None:
        for _ in range(_CLOSE_LOOKS):
            if not self._watched:
                return
            await asyncio.sleep(_CLOSE_SECONDS / _CLOSE_LOOKS)

    # -- watching all connections with one timer ---------------------------------------------------------------------

    def now(self) -> float:
        """The clock of `Wired.look`."""
        return self.clock()

    def watch(self, one: Wired) -> None:
        """See `Watch`."""
        self._watched.add(one)
        if self._due is None:
            self._plan()

    def forget(self, one: Wired) -> None:
        """See `Watch`."""
        self._watched.discard(one)

    def sweep(self, now: float) -> None:
        """Look at every connection, and renew tickets that are half used."""
        for one in list(self._watched):
            one.look(now)
        if not self._going:
            for attached in list(self._attached.values()):
                if now - attached.ticket_at > TICKET_SECONDS / 2:
                    attached.control.say(Say.TICKET, ticket=self.ticket(attached))

    def _plan(self) -> None:
        self._due = self.clock() + LOOK_SECONDS
        asyncio.get_running_loop().call_later(LOOK_SECONDS, self._tick)

    def _tick(self) -> None:
        now = self.clock()
        late = now - self._due if self._due is not None else 0.0
        if late > LOOK_SECONDS:
            # The process was held up, or the machine slept; what came meanwhile is still unread.
            for one in self._watched:
                one.spare(late)
        self.sweep(now)
        self._due = None
        if self._watched:
            self._plan()


class LinkTransport:
    """Requests to nodes. A call waits up to `patience` seconds for a lane."""

    def __init__(self, links: Links, patience: float) -> None:
        self._links = links
        self._patience = patience

    def __repr__(self) -> str:
        return f"<LinkTransport over {self._links!r}>"

    def open(
        self,
        request: WireRequest,
        secret: Secret | None,  # noqa: ARG002 (nodes are given none)
        sent: Callable[[], None],
    ) -> AbstractAsyncContextManager[WireReply]:
        """Send and wait for the head. Leaving early closes the lane, which cancels the work.

        Raises `NodeBusy`, `NodeRefused`, `UpstreamNoModel` or `UpstreamUnreachable` (nothing was executed),
        `UpstreamReset` or `UpstreamInvalid`.
        """
        return _Exchange(self._links, request, self._patience, sent)

    async def close(self) -> None:
        """Nothing: lanes belong to `Links`."""


class _Reply:
    """A lane's answer behind `WireReply`."""

    __slots__ = ("_lane", "head")

    def __init__(self, head: Head, lane: Lane) -> None:
        self.head = head
        self._lane = lane

    async def chunk(self) -> bytes | None:
        return await self._lane.chunk()

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        return await self._lane.pour(take)

    async def whole(self) -> bytes:
        return await self._lane.whole(MAX_WHOLE)


class _Exchange(AbstractAsyncContextManager[WireReply]):
    """One request and its answer; leaving before the answer is whole closes the lane."""

    __slots__ = ("_lane", "_links", "_patience", "_request", "_sent")

    def __init__(self, links: Links, request: WireRequest, patience: float, sent: Callable[[], None]) -> None:
        self._links = links
        self._request = request
        self._patience = patience
        self._sent = sent
        self._lane: Lane | None = None

    async def __aenter__(self) -> WireReply:
        request = self._request
        node, path = _target(request.url)
        attached = self._links.of(node)
        if attached is None:
            raise NodeBusy("The node takes no work now.", detail=OFFLINE)
        headers = request.headers
        model = headers.get("x-intertie-model", "")
        lane = self._lane = await attached.take(model, self._patience)
        opening = {
            "id": headers.get("x-intertie-request", ""),
            "path": path,
            "model": model,
            "headers": {name: value for name, value in headers.items() if name in FORWARDED},
            "whole": headers.get("x-intertie-whole") == "true",
        }
        try:
            await lane.ask(opening, request.body, self._sent)
            return _Reply(await lane.head(), lane)
        except NodeBusy:
            attached.refused_as_busy()
            lane.release(proper=False)
            raise
        except BaseException:
            lane.release(proper=False)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lane is not None:
            self._lane.release(proper=kind is None)


def _target(url: str) -> tuple[str, str]:
    """`link:<node id>/v1/…` taken apart. Raises `Misconfigured` for anything else."""
    scheme, _, rest = url.partition(":")
    node, slash, path = rest.partition("/")
    if scheme != "link" or not node or not slash:
        raise Misconfigured(f"an upstream of the provider {NODE!r} has an address; nodes are reached by their link")
    return node, slash + path
