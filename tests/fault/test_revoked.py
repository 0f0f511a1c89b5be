"""T49: whoever revokes an API key also ends what still runs with it, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from tests.support.caller import Heard, Line, chat_call, dial
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import paced, packed
from tests.support.scripted import Named, Reply, ScriptedUpstream
from tests.support.steps import Script, Stall

_REPLIES: dict[str, Script | Reply] = {"endless": paced(100_000, 0.02, finish=False), "silent": (Stall(),)}


async def _begin(gateway: Gateway, key: str, model: str, *, stream: bool) -> tuple[Line, Heard]:
    line = await dial(gateway.url)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    heard = await line.send("/v1/chat/completions", packed(chat_call(model, stream=stream)), headers)
    if stream:
        await line.hear(heard, until=b"tick")
    return line, heard


async def test_t49_a_revoked_key_ends_its_running_requests_within_five_seconds(tmp_path: Path) -> None:
    """In-band and without `[DONE]` where output has begun, as a 401 where not; other keys' streams go on."""
    with ScriptedUpstream(Named(dict(_REPLIES))).running() as server:
        upstreams = [upstream(name, server.base_url(name)) for name in _REPLIES]
        wanted = configuration(upstreams, [route(name, name) for name in _REPLIES])
        with running(tmp_path, wanted) as gateway:
            key = gateway.cli("keys", "create", "leaver", "--project", "tests")["key"]
            line, cut = await _begin(gateway, key, "endless", stream=True)
            waiting, unanswered = await _begin(gateway, key, "silent", stream=False)
            other, untouched = await _begin(gateway, CLIENT_KEY, "endless", stream=True)
            await asyncio.to_thread(gateway.cli, "keys", "revoke", "leaver")
            begun = time.monotonic()
            await asyncio.gather(line.hear(cut), waiting.hear(unanswered))
            took = time.monotonic() - begun
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(other.hear(untouched), 0.5)
            running_on = not untouched.complete
            for one in (line, waiting, other):
                one.hang_up()
            entries = await asyncio.to_thread(gateway.cli, "ledger", "entries")

    assert took < 5
    assert cut.status == 200
    assert b'"code":"key_revoked"' in cut.body.replace(b" ", b"")
    assert not cut.done
    assert (unanswered.status, b"key_revoked" in unanswered.body) == (401, True)
    assert running_on
    assert untouched.body.count(b"tick") > cut.body.count(b"tick") + 5
    assert b"key_revoked" not in untouched.body
    ended = {(row["route"], row["state"], row["error"]) for row in entries if row["kind"] == "request"}
    assert {("endless", "interrupted", "key_revoked"), ("silent", "failed", "key_revoked")} <= ended
