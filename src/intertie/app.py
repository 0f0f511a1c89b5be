"""Wires everything: settings, database, books, data plane, doors; and takes it down again without losing anything."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from intertie.api.admin import AdminState, make_admin
from intertie.api.edge import EdgeLimits, EdgeServer, make_server
from intertie.api.edge.listening import listen, reachable
from intertie.api.inference import Inference, Receive, Scope, Send, is_inference
from intertie.api.links import MOST_CONNECTIONS, LinkDoor
from intertie.console.status import make_console
from intertie.controlplane import apply, embedder, keys, ledger, migrate, prices, projects, snapshot, trail
from intertie.controlplane.accounts import Accounts
from intertie.controlplane.apply import Changes
from intertie.controlplane.audit import GATEWAY, Actor
from intertie.controlplane.config import Document
from intertie.controlplane.control import DEFAULT_ORGANISATION, DEFAULT_PROJECT
from intertie.controlplane.ready import Ready
from intertie.controlplane.status import HealthView
from intertie.controlplane.vault import private_text
from intertie.core.errors import GatewayError, ShuttingDown
from intertie.core.keys import ENTROPY, KeyHasher, hash_key, make_key
from intertie.core.providers import load
from intertie.core.routing.credentials import CredentialState
from intertie.core.terms import Credential, Upstream
from intertie.dataplane.alerting import Alerting
from intertie.dataplane.answers import Answers
from intertie.dataplane.embeddings import Embeddings
from intertie.dataplane.explain import explain
from intertie.dataplane.observe import RequestLog
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.shadow import Shadows
from intertie.dataplane.shedding import Shedder, memory_of_machine, most_files, resident_bytes
from intertie.dataplane.transport.http import HttpTransport
from intertie.dataplane.transport.link import Links, LinkTransport
from intertie.dataplane.transport.registry import TransportRegistry
from intertie.settings import Settings
from intertie.store.loader import Loader
from intertie.store.response_cache import Bounds, StoredAnswers
from intertie.store.spool import Spool

_LOG: Final = logging.getLogger("intertie")

POLL_SECONDS: Final = 1.0
"""How often the configuration's revision is looked at, for changes made by another process."""

LAST_SECONDS: Final = 5.0
"""What a second SIGTERM leaves to requests under way."""

RESTART_SPREAD: Final = 2.0
"""Seconds over which agents dial again when the gateway goes."""

STATE_FILE: Final = "gateway.json"
"""Where the command line finds the running gateway: its address and process id."""


def serve(settings: Settings, *, document: Document | None, source: str = "", on_ready: Callable[[Ready], None]) -> int:
    """Run a gateway until SIGTERM or SIGINT. Returns the exit code; raises `Misconfigured` if it cannot start.

    `source` is the name of the file that the document came from, for the audit trail.
    """
    _log_as_lines(settings.log_level)
    listener = listen(settings.host, settings.port)
    try:
        gateway = Gateway(settings, document, source)
    except BaseException:
        listener.close()
        raise
    runner: Callable[[Any], Any] = asyncio.run
    if sys.platform != "win32":
        import uvloop

        runner = uvloop.run
    runner(gateway.run(listener, on_ready))
    return 0


class Gateway:
    """One process of the gateway, from its data directory to its sockets."""

    def __init__(self, settings: Settings, document: Document | None, source: str = "") -> None:
        self._settings = settings
        self.first_start = not (settings.data / "intertie.db").exists()
        self.control = migrate.start(settings, clock=time.time, prices=prices.price_for)
        with contextlib.ExitStack() as stack:
            stack.callback(self.control.database.close)
            self._trail = trail.Watch(self.control)
            self._trail.begin()
            applied, by = Changes(), Actor(f"file {source}" if source else GATEWAY)
            if document is not None:
                applied = apply.apply(self.control, DEFAULT_ORGANISATION, document, by)
            self.dev_key = self._first_key()
            self._trail.sign()
            admin_key = settings.admin_key or private_text(settings.data / "admin.key", _fresh_key)
            self._admin_key_hash = hash_key(self.control.vault.pepper, admin_key)
            durability: Any = settings.durability
            self._spool = Spool(settings.data / "spool", durability=durability, max_bytes=settings.spool_limit)
            self._log = RequestLog(enabled=settings.log_requests)
            self._loader = Loader(self._spool, self.control.database, report=_LOG.error)
            recovery = self._loader.recover()
            found = (f"recovered {recovery}",) if recovery.recovered or recovery.damage else ()
            self.warnings = (*applied.warnings, *found)
            self.made_keys = applied.keys
            self.links = Links()
            self._transports = TransportRegistry(HttpTransport, partial(LinkTransport, self.links))
            self.snapshots = snapshot.Snapshots(self.control)
            stack.pop_all()
        pepper, vault = self.control.vault.pepper, self.control.vault
        bounds = Bounds(settings.cache_memory, settings.cache_disk)
        self._kept = StoredAnswers(settings.data, bounds, vault.answers, report=_LOG.warning)
        self._answers = Answers(self._kept, vault.salt)
        self._shedder = Shedder(resident_bytes, settings.memory_limit or memory_of_machine() * 4 // 5)
        self.dataplane = Dataplane(
            snapshots=self.snapshots,
            ledger=self._spool,
            transports=self._transports,
            adapters=load(),
            hash_key=KeyHasher(pepper, os.urandom(32)),
            shedder=self._shedder,
            log=self._log,
            links=self.links,
            answers=self._answers,
        )
        self._embeddings = self._answers.embedder = Embeddings(self.dataplane, embedder.locate, _LOG.warning)
        self._accounts = Accounts(self.control, self.dataplane.gate, self.snapshots)
        self._shadows = Shadows(self.dataplane)
        self._alerting = Alerting(self.dataplane.gate, self.snapshots, self._transports, self._log)
        self._link_door = LinkDoor(
            self.control,
            self.links,
            snapshot=lambda: self.snapshots.current,
            refresh=self.snapshots.refresh,
            public_url=settings.public_url,
        )
        # Whatever nodes do, there are files left for callers, upstreams and the books.
        self._link_door.most = min(MOST_CONNECTIONS, most_files() // 2 or MOST_CONNECTIONS)
        self.dataplane.credentials.alerts = self._alert
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, listener: socket.socket, on_ready: Callable[[Ready], None]) -> None:
        """Serve on `listener` until told to stop, then drain and put everything away."""
        loop = asyncio.get_running_loop()
        if sys.platform == "darwin":
            # There the two clocks part while the machine sleeps; deadlines must be on the timers' clock.
            self.dataplane.monotonic = self.links.clock = loop.time
        inference = Inference(self.dataplane)
        self._accounts.attach(
            loop,
            self._loader.flush,
            lambda: (*inference.running(), *self._embeddings.running(), *self._shadows.running()),
        )
        settings = self._settings
        limits = EdgeLimits(body_limit=settings.body_limit, hosts=settings.hosts(), proxies=settings.trusted_proxies)
        doors = self._doors(inference)
        server = make_server(
            doors, host=settings.host, port=settings.port, limits=limits, lifespan="off", upgrades=self._link_door
        )
        self.snapshots.swapped = partial(loop.call_soon_threadsafe, self._swapped, inference)
        state_file = settings.data / STATE_FILE
        self._spool.start()
        self._loader.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, self._told_to_stop)
        jobs = (self._shedder.watch(), self._poll(), self._announce(server, on_ready), self._link_door.housekeep())
        tasks = [asyncio.create_task(job) for job in jobs]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
            await self._drain(server, inference)
            await serving
        finally:
            for task in [*tasks, stop]:
                task.cancel()
            state_file.unlink(missing_ok=True)
            await self._put_away()

    def stop(self) -> None:
        """Begin to drain; for tests and embedders, as SIGTERM does."""
        self._told_to_stop()

    # -- doors -------------------------------------------------------------------------------------------------------

    def _doors(self, inference: Inference) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        state = AdminState(
            control=self.control,
            flush=self._loader.flush,
            changed=self.snapshots.refresh,
            health=self._health,
            admin_key_hash=self._admin_key_hash,
            ready=self._not_ready,
            snapshot=lambda: self.snapshots.current,
            clear_credentials=self.dataplane.credentials.clear,
            explain=partial(explain, self.dataplane, DEFAULT_ORGANISATION),
            presence=self.links.presence,
            ask_rotation=self.links.ask_rotation,
            standing=self.dataplane.gate.standing,
            verify=lambda: ledger.verify(self.control, self._spool),
            counters=self.dataplane.counters,
            kept=self._answers.statistics,
            forget=self._answers.forget,
            gauges=self._gauges,
            open_locally=self._settings.public_url is None,
            public_url=self._settings.public_url,
        )
        admin: Any = make_admin(state)
        admin.mount("/", make_console(state))

        async def doors(scope: Scope, receive: Receive, send: Send) -> None:
            if is_inference(scope["path"]):
                await inference(scope, receive)
            else:
                await admin(scope, receive, send)

        return doors

    def _health(self) -> HealthView:
        now = self.dataplane.monotonic()
        failure = self._spool.statistics().failure
        return HealthView(
            targets=tuple(self.dataplane.health.view(now)),
            credentials=tuple(self.dataplane.credentials.view(now)),
            nodes=tuple(self.links.presence()),
            alerts=(f"The books cannot be written: {failure}",) if failure else (),
        )

    def _not_ready(self) -> list[str]:
        reasons = []
        if self._stopping.is_set():
            reasons.append("draining")
        if failure := self._spool.statistics().failure:
            reasons.append(f"the books cannot be written: {failure}")
        return reasons

    def _gauges(self) -> Mapping[str, float]:
        now = self.dataplane.monotonic()
        credentials = self.dataplane.credentials.view(now)
        kept = self._answers.statistics()
        return {
            "cache_memory_bytes": kept.memory_bytes,
            "cache_disk_bytes": kept.disk_bytes,
            "cache_similar_entries": kept.similar_entries,
            "event_loop_lag_seconds": self._shedder.lag,
            "memory_share": self._shedder.memory_share,
            "ready": float(not self._not_ready()),
            "snapshot_revision": self.snapshots.current.revision,
            "nodes_connected": self.links.nodes,
            "node_lanes_busy": self.links.busy,
            "spool_bytes": self._spool.statistics().unloaded_bytes,
            "targets_out": sum(1 for target in self.dataplane.health.view(now) if target.retry_in is not None),
            "credentials_parked": sum(1 for one in credentials if one.state is CredentialState.PARKED),
        }

    # -- while it runs -----------------------------------------------------------------------------------------------

    async def _announce(self, server: EdgeServer, on_ready: Callable[[Ready], None]) -> None:
        while not server.started:  # noqa: ASYNC110 (uvicorn offers a flag, not an event)
            await asyncio.sleep(0.005)
        host, port = server.addresses[0]
        url = f"http://{reachable(host)}:{port}"
        _write_private(self._settings.data / STATE_FILE, json.dumps({"url": url, "pid": os.getpid()}))
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process; do not walk it again
        gc.set_threshold(50_000, 20, 50)  # a request makes no cycles; looking for some in each seventh cost an eighth
        kinds = {upstream.provider for upstream in self.snapshots.current.upstreams.values()}
        self._background = asyncio.create_task(asyncio.to_thread(prices.preload, kinds))
        routes = tuple(sorted(model for _, model in self.snapshots.current.routes))
        on_ready(Ready(url, self.first_start, self.dev_key, routes, self.made_keys, self.warnings))

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await asyncio.to_thread(self.snapshots.refresh)
                await asyncio.to_thread(self._trail.look)
            except Exception as error:  # noqa: BLE001 (whatever it is, look again in a second)
                # The last good configuration stays in force (F81).
                self._log.event("configuration_unreadable", error=f"{type(error).__name__}: {error}"[:300])

    def _alert(self, upstream: Upstream, credential: Credential, error: GatewayError) -> None:
        what = {"upstream": upstream.name, "credential": credential.id, "detail": error.detail}
        remedy = f"replace it, then: intertie upstreams clear {upstream.name}"
        self._log.event("alert", reason="credential_parked", **what, remedy=remedy)

    def _first_key(self) -> str | None:
        """A key to begin with, for an operator whose configuration names none."""
        if not self.first_start or keys.list_(self.control, DEFAULT_ORGANISATION):
            return None
        projects.ensure(self.control, DEFAULT_ORGANISATION, DEFAULT_PROJECT)
        return keys.create(self.control, DEFAULT_ORGANISATION, DEFAULT_PROJECT, "dev").secret

    # -- the end -----------------------------------------------------------------------------------------------------

    def _swapped(self, inference: Inference) -> None:
        """Another configuration is in force: what it no longer allows ends, what it allows now begins."""
        self._link_door.reconcile()
        inference.recheck()
        self.dataplane.gate.recall()

    def _told_to_stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _drain(self, server: EdgeServer, inference: Inference) -> None:
        """S12: not ready at once, accept a little longer, let requests finish, end the rest in-band."""
        self._stopping.set()
        told = "stopping: %d under way, which may take %g s more; the same signal again (Ctrl-C) ends them within %g s"
        _LOG.info(told, server.in_flight, self._settings.drain_seconds, LAST_SECONDS)
        server.begin_drain()
        await self._wait(self._settings.accepting())
        server.stop_accepting()
        server.close_idle()
        self.links.go_away("the gateway restarts", RESTART_SPREAD)
        self._shedder.draining = True
        patience = asyncio.create_task(server.settled(self._settings.drain_seconds))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({patience, hurry}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        hurry.cancel()
        if server.in_flight and self._hurry.is_set():
            await server.settled(LAST_SECONDS)
        if server.in_flight:
            inference.stop(ShuttingDown("The gateway is shutting down.", retry_after=2))
            await server.settled(LAST_SECONDS)
            server.abort_connections()
        await self._shadows.close()
        await self._link_door.close()
        server.should_exit = True

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    async def _put_away(self) -> None:
        """Intake has stopped: settle, empty the queues, then close what they flow into."""
        self.snapshots.swapped = lambda: None
        await self._alerting.close()
        await self._transports.close()
        await self._answers.settled()
        await asyncio.to_thread(self._embeddings.close)
        await asyncio.to_thread(self._kept.close)
        await asyncio.to_thread(self._loader.close)
        self._spool.close()
        await asyncio.to_thread(self._trail.end)
        self.control.database.close()
        self._log.flush()


def _fresh_key() -> str:
    return make_key(os.urandom(ENTROPY))


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
        file.write(text + "\n")
    draft.replace(path)


class _Line(logging.Formatter):
    """One JSON object per line, in the shape of the request log."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": round(record.created, 3), "event": "log", "level": record.levelname.lower()}
        line |= {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_as_lines(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Line())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
