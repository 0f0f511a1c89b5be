"""Webhooks that are told of thresholds: over real sockets, signed, tried again, never followed elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import EVER, Per
from intertie.core.terms import Secret, Snapshot, Webhook
from intertie.dataplane.admitted import Gate
from intertie.dataplane.alerting import MOST, PAUSES, Alerting
from intertie.dataplane.threshold import Threshold
from intertie.dataplane.transport.http import HttpTransport
from intertie.dataplane.transport.registry import TransportRegistry
from tests.support.replies import head, whole
from tests.support.scripted import Recorded, Reply, ScriptedUpstream
from tests.support.steps import Script, Send, Stall

SECRET = "a-secret-of-some-length"
LIMIT = Limit("org/project:web:money:total", Level.PROJECT, "web", Measure.MONEY, 50_000_000, Per.TOTAL)
REACHED = Threshold(LIMIT, 80, 41_000_000, 50_000_000, EVER)


class Log:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))


class Source:
    """A snapshot with one webhook."""

    def __init__(self, url: str) -> None:
        self.current = Snapshot(alerts={"org": Webhook(url, Secret(SECRET))})


@asynccontextmanager
async def told(reply: Reply) -> AsyncIterator[tuple[Alerting, ScriptedUpstream, Log, list[float]]]:
    """Alerting with a webhook that answers so; its pauses are noted instead of waited for."""
    with ScriptedUpstream(reply).running() as server:
        log, pauses = Log(), list[float]()
        source, transports = Source(server.base_url("hook")), TransportRegistry(HttpTransport)
        gate = Gate(source, log, lambda: 0.0, lambda: 1_800_000_000.7)
        alerting = Alerting(gate, source, transports, log)

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        alerting.sleep = sleep
        try:
            yield alerting, server, log, pauses
        finally:
            await alerting.close()
            await transports.close()


async def _quiet(alerting: Alerting) -> None:
    async with asyncio.timeout(5):
        while alerting._tasks:
            await asyncio.sleep(0.005)


async def test_a_message_says_what_happened_and_is_signed() -> None:
    """Over the time and the very bytes, so that it can be neither altered nor played again later."""
    async with told(lambda _: whole(b"{}")) as (alerting, server, _log, _pauses):
        alerting.tell(REACHED)
        await _quiet(alerting)
    (sent,) = server.requests

    said = json.loads(sent.body)
    assert (said["type"], said["level"], said["holder"], said["percent"]) == ("limit.threshold", "project", "web", 80)
    assert (said["spent"], said["amount"], said["unit"], said["resets_at"]) == (41_000_000, 50_000_000, "micros", None)
    assert "authorization" not in sent.headers
    digest = hmac.new(SECRET.encode(), b"1800000000." + sent.body, hashlib.sha256).hexdigest()
    assert sent.headers["intertie-signature"] == f"t=1800000000,v1={digest}"


async def test_a_webhook_that_fails_is_tried_again() -> None:
    """With the same id, so that one that failed after it had read can tell."""
    seen: list[Recorded] = []

    def reply(request: Recorded) -> Script:
        seen.append(request)
        return whole(b"{}", 200 if len(seen) == 3 else 503)

    async with told(reply) as (alerting, _server, log, pauses):
        alerting.tell(REACHED)
        await _quiet(alerting)

    assert pauses == list(PAUSES[:2])
    assert len({json.loads(one.body)["id"] for one in seen}) == 1
    assert log.events == []


async def test_a_redirect_is_not_followed_and_giving_up_is_logged() -> None:
    """Whoever holds the address must not be able to send the message elsewhere."""
    away = (Send(head(302, [("location", "/other"), ("content-length", "0")])),)
    async with told(lambda _: away) as (alerting, server, log, pauses):
        alerting.tell(REACHED)
        await _quiet(alerting)

    assert {request.path for request in server.requests} == {"/hook/v1"}
    assert pauses == list(PAUSES)
    ((name, fields),) = log.events
    assert (name, fields["limit"]) == ("alert_lost", LIMIT.id)
    assert SECRET not in repr(fields)


async def test_a_webhook_that_hangs_holds_nobody_up() -> None:
    """`tell` returns at once, and only so many messages are on their way."""
    async with told(lambda _: (Stall(),)) as (alerting, _server, log, _pauses):
        for _ in range(MOST + 3):
            alerting.tell(REACHED)
        assert [name for name, _ in log.events] == ["alert_lost"] * 3


async def test_nobody_is_told_who_did_not_ask() -> None:
    """Another organisation's threshold stays its own."""
    async with told(lambda _: whole(b"{}")) as (alerting, server, _log, _pauses):
        alerting.tell(REACHED._replace(limit=Limit("other/x", Level.PROJECT, "web", Measure.MONEY, 1, Per.TOTAL)))
        await _quiet(alerting)
    assert server.requests == []
