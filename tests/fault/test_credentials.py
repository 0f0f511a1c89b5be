"""Several credentials per upstream: one that fails is set aside and no user notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.books import books
from tests.support.caller import Heard, ask, chat_call
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import TEXT, Healthy, error, packed, whole
from tests.support.scripted import Recorded, ScriptedUpstream
from tests.support.steps import Script

pytestmark = pytest.mark.slow

BAD, GOOD, SPARE = "credential-one-0123456789", "credential-two-0123456789", "credential-three-0123456789"
_ENVIRON = {"KEY_1": BAD, "KEY_2": GOOD, "KEY_3": SPARE}
REFUSALS: dict[str, Script] = {
    "revoked": whole(packed(error("bad key", kind="authentication_error", code="invalid_api_key")), 401),
    "forbidden": whole(packed(error("not for you", kind="permission_error")), 403),
    "unpaid": whole(packed(error("pay first", kind="billing_error")), 402),
    "exhausted": whole(packed(error("quota", kind="insufficient_quota", code="insufficient_quota")), 429),
    "busy": whole(packed(error("slow down", kind="rate_limit_error")), 429, more=[("retry-after", "2")]),
}


def one_bad_key(request: Recorded) -> Script:
    """Refuses the bad credential in the way the upstream is named for, serves the others."""
    return REFUSALS[request.name] if request.credential == BAD else Healthy()(request)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    """An upstream account with one bad key of three."""
    with ScriptedUpstream(one_bad_key).running() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with three credentials for each of these upstreams and no other target."""
    keys = ("KEY_1", "KEY_2", "KEY_3")
    upstreams = [upstream(name, server.base_url(name), credentials=keys) for name in REFUSALS]
    routes = [route(name, name) for name in REFUSALS]
    folder: Path = tmp_path_factory.mktemp("credentials")
    with running(folder, configuration(upstreams, routes), _ENVIRON) as gateway:
        yield gateway


async def calls(gateway: Gateway, model: str, count: int, *, at_once: int = 1) -> list[Heard]:
    """So many calls, `at_once` at a time, every other one streamed."""
    turns = asyncio.Semaphore(at_once)

    async def one(number: int) -> Heard:
        async with turns:
            url = f"{gateway.base_url}/chat/completions"
            return await ask(url, chat_call(model, stream=number % 2 == 0), key=CLIENT_KEY)

    return await asyncio.gather(*(one(number) for number in range(count)))


@pytest.mark.parametrize("model", ["revoked", "forbidden", "unpaid", "exhausted"])
async def test_f40_a_refused_credential_is_parked_after_one_use(
    gateway: Gateway, server: ScriptedUpstream, model: str
) -> None:
    """Thirty calls all succeed; the bad key was tried once and never again, the good ones share the rest."""
    heard = await calls(gateway, model, 30)
    assert [(one.status, one.text) for one in heard] == [(200, TEXT)] * 30
    used = [request.credential for request in server.to(model)]
    assert used.count(BAD) == 1
    assert sorted((used.count(GOOD), used.count(SPARE))) == [15, 15]


async def test_f38_a_busy_credential_rests_as_long_as_it_was_told(gateway: Gateway, server: ScriptedUpstream) -> None:
    """No call fails, the busy key is left alone for two seconds and used again after them."""
    heard = await calls(gateway, "busy", 12, at_once=1)
    first = next(request for request in server.to("busy") if request.credential == BAD)
    await asyncio.sleep(max(0.0, 2.3 - (server.to("busy")[-1].at - first.at)))
    heard += await calls(gateway, "busy", 6)
    assert {one.status for one in heard} == {200}
    times = [request.at - first.at for request in server.to("busy") if request.credential == BAD]
    assert len(times) >= 2
    assert min(times[1:]) >= 1.9


async def test_calls_at_the_same_time_survive_a_bad_credential(gateway: Gateway, server: ScriptedUpstream) -> None:
    """Forty concurrent calls on a fresh gateway's state still see no error (F40)."""
    heard = await calls(gateway, "revoked", 40, at_once=20)
    assert {one.status for one in heard} == {200}
    assert max(int(one.headers["x-intertie-attempts"]) for one in heard) <= 3


def test_the_books_name_the_credential_but_never_hold_it(gateway: Gateway) -> None:
    """An attempt's entry says which credential was used, by an id that is not the secret."""
    named = {entry["credential"] for entry in books(gateway).attempts() if entry["upstream"] == "revoked"}
    assert len(named) == 3
    assert not named & {BAD, GOOD, SPARE}
