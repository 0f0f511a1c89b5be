"""Tells an organisation's webhook that a quota or budget passed a threshold: signed, off the path of requests."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec

from intertie.core.errors import GatewayError
from intertie.core.terms import Secret, Upstream, Webhook
from intertie.core.wire.http import WireRequest
from intertie.dataplane.admitted import EventLog, Gate
from intertie.dataplane.ports import SnapshotSource
from intertie.dataplane.threshold import Threshold
from intertie.dataplane.transport.contract import Transports

SIGNATURE: Final = "intertie-signature"
"""Header `t=<UTC seconds>,v1=<hex HMAC-SHA-256 over "t.body">`."""

PAUSES: Final = (1.0, 5.0, 30.0, 120.0)
"""Seconds before each further try."""

PATIENCE: Final = 10.0
"""Seconds that a webhook may take to answer."""

MOST: Final = 100
"""Messages on their way at a time; more are only logged."""


class Alerting:
    """`tell` never waits. Each message is tried a few times, and lost if the process ends before it is delivered."""

    def __init__(self, gate: Gate, snapshots: SnapshotSource, transports: Transports, log: EventLog) -> None:
        self._snapshots = snapshots
        self._transports = transports
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._wall = gate.wall
        gate.told = self.tell

    def __repr__(self) -> str:
        return f"<Alerting {len(self._tasks)} messages on their way>"

    def tell(self, reached: Threshold) -> None:
        """Send a message to whoever the organisation named, if anybody."""
        webhook = self._snapshots.current.alerts.get(reached.organisation)
        if webhook is None:
            return
        if len(self._tasks) >= MOST:
            self._log.event("alert_lost", reason="too many messages on their way", limit=reached.limit.id)
            return
        task = asyncio.get_running_loop().create_task(self._deliver(webhook, reached))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is on its way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _deliver(self, webhook: Webhook, reached: Threshold) -> None:
        body = message(reached, self._wall())
        failure = ""
        for pause in (0.0, *PAUSES):
            if pause:
                await self.sleep(pause)
            failure = await self._post(webhook, body, reached.organisation)
            if not failure:
                return
        self._log.event("alert_lost", reason=failure, limit=reached.limit.id, percent=reached.percent)

    async def _post(self, webhook: Webhook, body: bytes, organisation: str) -> str:
        """Why it did not arrive; empty if it did. Redirects are failures: what is signed goes to its address only."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            SIGNATURE: signature(webhook.secret, self._wall(), body),
        }
        request = WireRequest(url=webhook.url, headers=headers, body=body, pool=f"alerts of {organisation}")
        place = Upstream(id="alerts", organisation=organisation, name="alerts", provider="", base_url=webhook.url)
        try:
            async with asyncio.timeout(PATIENCE), self._transports.of(place).open(request, None, lambda: None) as wire:
                status = wire.head.status
                return "" if 200 <= status < 300 else f"the webhook answered with status {status}"
        except (GatewayError, TimeoutError) as error:
            return error.detail if isinstance(error, GatewayError) else "the webhook did not answer in time"


def message(reached: Threshold, at: float) -> bytes:
    """The body: JSON. Its `id` is the same for the same threshold of the same window, so that it can be told once."""
    name = f"{reached.limit.id} {reached.window.id} {reached.percent} {reached.amount}"
    id_ = f"alert_{hashlib.sha256(name.encode()).hexdigest()[:24]}"
    return msgspec.json.encode({"id": id_, "type": "limit.threshold", "at": int(at), **reached.words()})


def signature(secret: Secret, at: float, body: bytes) -> str:
    """The header's value."""
    moment = str(int(at))
    digest = hmac.new(secret.reveal().encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"
