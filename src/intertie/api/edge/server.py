"""One server of the edge, and the pieces from which its owner puts a graceful drain together (S12)."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Generator
from typing import Any, Final, Literal

import msgspec
import uvicorn

from intertie.api.edge.cycle import App
from intertie.api.edge.protocol import EdgeProtocol
from intertie.api.edge.rules import EdgeLimits
from intertie.api.edge.state import Edge, EdgeConfig
from intertie.api.edge.upgrade import Upgrades

_ASK_SECONDS: Final = 0.05


class EdgeStatistics(msgspec.Struct, frozen=True):
    """A moment of the edge, for metrics."""

    connections: int
    in_flight: int
    body_bytes: int
    """Of request bodies being received or answered."""
    refusals: dict[str, int]
    """What the edge ended by itself since the start, by error code."""


class EdgeServer(uvicorn.Server):
    """The server of uvicorn, with a drain that its owner conducts.

    In order: `begin_drain`, wait while balancers notice, `stop_accepting`, `close_idle`, await `settled`; after the
    limit let the application end what still runs, `abort_connections`; then set `should_exit`.
    """

    def __init__(self, config: EdgeConfig, *, signals: bool) -> None:
        super().__init__(config)
        self._edge = config.edge
        self._signals = signals

    def __repr__(self) -> str:
        return f"<EdgeServer {self._edge!r} {self.in_flight} in flight>"

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handlers of SIGTERM and SIGINT only if asked for; else SIGTERM stays with the application."""
        if not self._signals:
            yield
            return
        with super().capture_signals():
            yield

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket, once `started`; tells the port when it was 0."""
        names: list[Any] = [sock.getsockname() for server in self.servers for sock in server.sockets]
        return [(name[0], name[1]) for name in names]

    @property
    def in_flight(self) -> int:
        """Requests that the application is working on, and those that are being received."""
        receiving = sum(1 for connection in self._edge.connections if connection.receiving)
        return len(self.server_state.tasks) + receiving

    def statistics(self) -> EdgeStatistics:
        """Counts for metrics; cheap enough for every scrape."""
        edge = self._edge
        return EdgeStatistics(len(edge.connections), self.in_flight, edge.body_bytes, dict(edge.refusals))

    def begin_drain(self) -> None:
        """Go on accepting, but let every answer close its connection, so that clients move elsewhere by themselves."""
        self._edge.draining = True
        for connection in list(self._edge.connections):
            connection.finish_up()

    def stop_accepting(self) -> None:
        """Close the listening sockets; new connections are refused by the kernel. Open ones stay."""
        self.begin_drain()
        for server in self.servers:
            server.close()

    def close_idle(self) -> None:
        """Close connections on which nothing is being received or answered."""
        for connection in list(self._edge.connections):
            connection.shutdown()

    async def settled(self, timeout: float) -> bool:
        """Wait until nothing is in flight, at most `timeout` seconds. True if so."""
        # Asked now and then: an event would cost every request something, for one use in the life of a process.
        for _ in range(max(1, math.ceil(timeout / _ASK_SECONDS))):
            if not self.in_flight:
                return True
            await asyncio.sleep(_ASK_SECONDS)
        return not self.in_flight

    def abort_connections(self) -> None:
        """Close every connection at once; requests under way are told by `on_disconnect`."""
        for connection in list(self._edge.connections):
            connection.abort()

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """The last step of uvicorn after `should_exit`: closes what is idle, waits for the rest, ends the lifespan."""
        self.begin_drain()
        await super().shutdown(sockets)


def make_server(
    app: App,
    *,
    host: str,
    port: int,
    limits: EdgeLimits | None = None,
    lifespan: Literal["auto", "on", "off"] = "auto",
    signals: bool = False,
    upgrades: Upgrades | None = None,
) -> EdgeServer:
    """A server for the ASGI 3 `app` on `host`:`port` (0 takes a free one; see `EdgeServer.addresses`).

    Run it with `server.run()`, or `await server.serve()` inside a loop of one's own; set `should_exit` to end it. It
    installs signal handlers only with `signals`, writes no access log, and leaves logging's configuration alone. In
    the scope `client` is the peer, or whom one of `limits.proxies` names. Connections that ask for a WebSocket go to
    `upgrades`, which watches and ends them; the server no longer counts them.
    """
    config = EdgeConfig(
        app,
        host=host,
        port=port,
        http=EdgeProtocol,
        ws="none",
        lifespan=lifespan,
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    config.edge = Edge(limits or EdgeLimits(), upgrades)
    return EdgeServer(config, signals=signals)
