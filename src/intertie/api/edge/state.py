"""What the connections of one server share: limits, the budget for bodies, and the clock that ends the slow ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Protocol

import uvicorn

from intertie.api.edge.proxies import Proxies
from intertie.api.edge.rules import EdgeLimits, Header, RequestTarget, check_host, read_target
from intertie.api.edge.upgrade import Upgrades

_REMEMBERED = 256


class Watched(Protocol):
    """A connection with deadlines, in loop time; infinity where it owes nothing."""

    read_deadline: float
    """When the client must have sent what is awaited of it."""
    write_deadline: float
    """When the client must have read what is buffered for it, or let go of a closed connection."""

    @property
    def receiving(self) -> bool:
        """Part of a request has arrived, not all of it."""
        ...

    def expire(self, now: float) -> None:
        """A deadline has passed."""
        ...

    def finish_up(self) -> None:
        """Close after the last answer that is being worked on."""
        ...

    def shutdown(self) -> None:
        """Close now if idle, else after the last answer."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Edge:
    """One per server, used in its event loop only."""

    def __init__(self, limits: EdgeLimits, upgrades: Upgrades | None = None) -> None:
        self.limits = limits
        self.proxies = Proxies(limits.proxies)
        self.upgrades = upgrades
        self.upgrade_paths: Collection[str] = upgrades.paths if upgrades is not None else ()
        self.upgrade_subprotocol = upgrades.subprotocol if upgrades is not None else ""
        self.connections: set[Watched] = set()
        self.body_bytes = 0
        """Of all request bodies that are being received or answered."""
        self.draining = False
        """Every answer from now on closes its connection."""
        self.refusals: Counter[str] = Counter()
        """Requests and connections that the edge ended by itself, by error code."""
        self._defaults: tuple[list[Header], bytes] = ([], b"")
        self._hosts: set[bytes] = set()
        self._targets: dict[bytes, RequestTarget] = {}
        self._due: float | None = None

    def __repr__(self) -> str:
        return f"<Edge {len(self.connections)} connections, {self.body_bytes} bytes of bodies>"

    def watch(self, connection: Watched, loop: asyncio.AbstractEventLoop) -> bool:
        """Hold `connection` to its deadlines. False if there are too many already."""
        if len(self.connections) >= self.limits.connections:
            return False
        self.connections.add(connection)
        if self._due is None:
            self._plan(loop)
        return True

    def sweep(self, now: float) -> None:
        """Expire what is past a deadline at `now`, loop time: two comparisons per connection, no timer per request."""
        late = [one for one in self.connections if one.read_deadline <= now or one.write_deadline <= now]
        for connection in late:
            connection.expire(now)

    def target(self, url: bytes) -> RequestTarget:
        """`read_target`, remembering the few paths that nearly all requests name."""
        known = self._targets.get(url)
        if known is None:
            known = read_target(url)
            if len(url) <= 128 and len(self._targets) < _REMEMBERED:
                self._targets[url] = known
        return known

    def check_host(self, value: bytes) -> None:
        """`check_host`, remembering the few names that nearly all requests carry."""
        if value not in self._hosts:
            check_host(value, self.limits.hosts)
            if len(self._hosts) < _REMEMBERED:
                self._hosts.add(value)

    def answer_defaults(self, headers: list[Header]) -> bytes:
        """The default headers of uvicorn as lines; it makes a new list every second."""
        if self._defaults[0] is not headers:
            self._defaults = (headers, b"".join(b"%b: %b\r\n" % pair for pair in headers))
        return self._defaults[1]

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self.limits.sweep_seconds
        loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if self._due is not None and now - self._due < self.limits.sweep_seconds:
            # Otherwise the process was held up; what clients sent meanwhile is still unread, so they get another round.
            self.sweep(now)
        self._due = None
        if self.connections:
            self._plan(loop)


class EdgeConfig(uvicorn.Config):
    """The configuration of uvicorn, with our edge in it for the connections to find."""

    edge: Edge
