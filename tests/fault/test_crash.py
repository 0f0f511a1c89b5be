"""F55: the gateway is killed again and again at random moments under load, and its books must not notice.

Three books are compared: what clients saw, what the upstream received, and the ledger.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.books import Books, books
from tests.support.caller import Heard, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, upstream
from tests.support.replies import Healthy, packed
from tests.support.scripted import Recorded, ScriptedUpstream
from tests.support.steps import Script, Wait

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("INTERTIE_TEST_KILLS", "100"))
CLIENTS = 8
SEED = 20_261_122


def unhurried(request: Recorded) -> Script:
    """A healthy upstream that takes its time, so that a kill finds requests in every phase."""
    healthy = Healthy(every=0.01)
    return healthy(request) if request.streamed else (Wait(0.03), *healthy(request))


@dataclass
class Seen:
    """What the clients saw over all lives of the gateway."""

    finished: list[str] = field(default_factory=list)
    """Ids of requests whose end arrived: `[DONE]`, or a complete body."""
    begun: list[str] = field(default_factory=list)
    """Ids of requests whose head arrived, but not their end."""
    slowest_start: float = 0.0

    def note(self, heard: Heard) -> None:
        """Sort one answer in."""
        if heard.finished:
            self.finished.append(heard.headers["x-request-id"])
        elif heard.status:
            assert heard.status == 200, heard.body
            self.begun.append(heard.headers["x-request-id"])


async def _client(gateway: Gateway, rng: random.Random, seen: Seen) -> None:
    """Ask one thing after the other on a connection until the gateway dies."""
    try:
        line = await dial(gateway.url)
    except ConnectionError:
        return
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
    while True:
        call = packed(chat_call("model", stream=rng.random() < 0.6))
        try:
            heard = await line.send("/v1/chat/completions", call, headers)
        except ConnectionError:
            break
        await line.hear(heard)
        seen.note(heard)
        if not heard.complete:
            break
    line.hang_up()


async def _life(gateway: Gateway, rng: random.Random, seen: Seen) -> None:
    clients = [asyncio.create_task(_client(gateway, random.Random(rng.random()), seen)) for _ in range(CLIENTS)]
    await asyncio.sleep(rng.uniform(0.02, 0.5))
    gateway.kill()
    await asyncio.gather(*clients)


@dataclass
class Aftermath:
    """The three books, after the last restart."""

    gateway: Gateway
    seen: Seen
    received: list[Recorded]
    books: Books


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """Start, load and kill the gateway so many times on one data folder, then start it once more and read its books."""
    rng = random.Random(SEED)
    seen = Seen()
    with ScriptedUpstream(unhurried).running() as server:
        entries = configuration([upstream("acme", server.base_url("acme"))], [route("model", "acme")])
        gateway = Gateway(tmp_path_factory.mktemp("crash"), entries)
        for _ in range(KILLS):
            gateway.start()
            seen.slowest_start = max(seen.slowest_start, gateway.started_in)
            asyncio.run(_life(gateway, rng, seen))
        gateway.start()
        try:
            yield Aftermath(gateway, seen, server.requests, books(gateway))
        finally:
            gateway.stop()


def test_what_a_client_saw_finished_is_in_the_books_exactly_once(aftermath: Aftermath) -> None:
    """No acknowledged request is lost, none is charged twice, and each is booked as finished."""
    states: dict[str, list[str]] = {}
    for entry in aftermath.books.requests():
        states.setdefault(entry["request_id"], []).append(entry["state"])
    assert len(aftermath.seen.finished) > 3 * KILLS
    assert [request for request in aftermath.seen.finished if states.get(request) != ["ok"]] == []


def test_no_request_and_no_attempt_is_in_the_books_twice(aftermath: Aftermath) -> None:
    """Loading the spool after a crash repeats nothing."""
    assert aftermath.books.repeated() == []


def test_what_was_in_flight_is_recovered_as_estimated(aftermath: Aftermath) -> None:
    """Each request that had begun to answer is in the books once; where nobody could finish it, as an estimate."""
    states = {entry["request_id"]: entry["state"] for entry in aftermath.books.requests()}
    assert aftermath.seen.begun
    assert {states.get(request, "lost") for request in aftermath.seen.begun} <= {"recovered", "ok"}
    recovered = [entry for entry in aftermath.books.requests() if entry["state"] == "recovered"]
    assert len(recovered) >= KILLS // 2
    assert all(entry["estimated"] and entry["input_tokens"] > 0 for entry in recovered)


def test_whatever_reached_the_upstream_has_an_attempt_in_the_books(aftermath: Aftermath) -> None:
    """Attempts are booked before they are sent, so the ledger may hold a few more than arrived, never fewer."""
    surplus = len(aftermath.books.attempts()) - len(aftermath.received)
    assert 0 <= surplus <= KILLS * CLIENTS


def test_the_ledger_verifies(aftermath: Aftermath) -> None:
    """The gateway's own check agrees."""
    ran = aftermath.gateway.run("ledger", "verify", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_start_after_a_kill_is_quick(aftermath: Aftermath) -> None:
    """Recovery is part of the start and takes less than five seconds."""
    assert aftermath.seen.slowest_start < 5
