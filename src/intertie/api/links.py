"""The door for agents that dial in: which connections become lanes, and what all of them share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from intertie.api.edge import Handshake
from intertie.api.link_control import ControlLane
from intertie.controlplane import nodes
from intertie.controlplane.control import Control
from intertie.core.errors import BadCall, Overloaded, ShuttingDown, Unauthenticated
from intertie.core.terms import Snapshot
from intertie.core.wire.enrolment import origin as read_origin
from intertie.core.wire.link import CONTROL_PATH, LANE_PATH, SUBPROTOCOL
from intertie.dataplane.transport.link import Links
from intertie.dataplane.transport.wired import Wired

HANDSHAKES_PER_SECOND: Final = 50.0
"""Control lanes taken on per second, so that a fleet which comes back at once is spread out."""
MOST_CONNECTIONS: Final = 20_000
SWEEP_SECONDS: Final = 60.0
_RESTART_SPREAD: Final = 2.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_LOG: Final = logging.getLogger("intertie.links")


class LinkDoor:
    """Takes over WebSockets on the link's paths; an `Upgrades` of the edge. Event loop only."""

    paths = frozenset({CONTROL_PATH, LANE_PATH})
    subprotocol = SUBPROTOCOL

    def __init__(
        self,
        control: Control,
        links: Links,
        *,
        snapshot: Callable[[], Snapshot],
        refresh: Callable[[], None],
        public_url: str | None,
        rate: float = HANDSHAKES_PER_SECOND,
    ) -> None:
        self.control = control
        self.links = links
        self._snapshot = snapshot
        self._refresh = refresh
        self._public = read_origin(public_url) if public_url else None
        self._rate = self._allowance = rate
        self._counted_at: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<LinkDoor {self.links!r}>"

    # -- connections -------------------------------------------------------------------------------------------------

    def accept(self, handshake: Handshake) -> Wired:
        """See `Upgrades.accept`."""
        if self.links.going:
            raise ShuttingDown("The gateway is shutting down; dial again in a moment.", retry_after=_RESTART_SPREAD)
        if self.links.connections >= MOST_CONNECTIONS:
            raise Overloaded("The gateway has too many links.", code="too_many_connections", retry_after=10)
        if handshake.path == LANE_PATH:
            kind, _, ticket = handshake.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            if kind.lower() != "bearer" or not ticket:
                raise Unauthenticated("A data lane needs a ticket from its control lane.", code="no_ticket")
            return self.links.lane(ticket.strip())
        self._shape()
        return ControlLane(self, self._origin(handshake), handshake.client)

    def _origin(self, handshake: Handshake) -> str:
        """The address under which the agent reached us, as far as we can know: configured, or its own Host here.

        With a configured address, only programs on this very machine may use another: nobody stands in between there.
        """
        try:
            asked = read_origin(f"{handshake.scheme}://{handshake.headers[b'host'].decode('ascii')}")
        except (ValueError, KeyError):
            raise BadCall("The Host header is not a host name.", code="invalid_host") from None
        if self._public is None:
            return asked
        near = handshake.client in _LOOPBACK and urlsplit(asked).hostname in _LOOPBACK
        return asked if near and b"x-intertie-forwarded" not in handshake.headers else self._public

    def _shape(self) -> None:
        now = self.links.now()
        since = now if self._counted_at is None else self._counted_at
        self._allowance = min(self._rate, self._allowance + (now - since) * self._rate)
        self._counted_at = now
        if self._allowance < 1:
            raise Overloaded("Too many agents dial in at once.", code="too_many_handshakes", retry_after=2)
        self._allowance -= 1

    # -- what control lanes share ------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end, or until the door closes."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def known(self, node: str) -> bool:
        """The snapshot in force has this node, rebuilt if need be: it may have been let in a moment ago."""
        if self._has(node):
            return True
        await self.refresh()
        return self._has(node)

    async def refresh(self) -> None:
        """Rebuild the snapshot if something changed."""
        await asyncio.to_thread(self._refresh)

    def _has(self, node: str) -> bool:
        return any(known.id == node for known in self._snapshot().nodes.values())

    # -- for the whole gateway ---------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """The snapshot in force has changed."""
        self.links.reconcile(self._snapshot())

    async def housekeep(self) -> None:
        """Until cancelled: tell the database who is there, and ask for new keys in place of old ones."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self._guarded(self._sweep())

    async def close(self) -> None:
        """Close every link, and let what still runs on worker threads come to its end."""
        await self.links.close()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _sweep(self) -> None:
        connected = frozenset(presence.node for presence in self.links.presence())
        swept = await asyncio.to_thread(nodes.sweep, self.control, time.time(), connected)
        for node in swept.aged:
            self.links.ask_rotation(node)
        if swept.removed:
            await self.refresh()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 (border: nobody awaits these tasks, so the log must have what went wrong)
            _LOG.exception("work for the links failed")
