"""A model server with one model for each way in which a runtime can behave."""

from __future__ import annotations

import json
from typing import Any

from intertie.agent.inventory import Runtime
from tests.support.far_end import runtime
from tests.support.replies import EVENTS, LAST_CHUNK, Healthy, chunked, delta, event, head, paced, packed, whole
from tests.support.scripted import Reply, ScriptedUpstream
from tests.support.steps import Close, Reset, Script, Send, Stall, Wait

STREAM = packed(
    {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "user"}]}
)
REPLIES: dict[str, Script | Reply] = {
    "m": Healthy(),
    "endless": paced(100_000, 0.01, finish=False),
    "silent": (Stall(),),
    "broken": (*chunked([event(delta({"content": "a"}))]), Wait(0.05), Reset()),
    "mute": (Wait(0.02), Close()),
    "nonsense": (Send(b"SSH-2.0-OpenSSH\r\n\r\n"), Stall()),
    "faulty": (
        *chunked([event(delta({"content": "a"})), event({"error": {"message": "out of memory", "code": 507}})]),
        Stall(),
    ),
    "cut": (*chunked([event(delta({"content": "a"}))]), Send(LAST_CHUNK)),
    "busy": whole(packed({"error": {"message": "slow down"}}), 429, more=[("retry-after", "7"), ("set-cookie", "a=b")]),
    "away": whole(b"", 302, more=[("location", "http://127.0.0.1:1/")]),
    "chatty": whole(b"x" * 200_000, 500),
    "big": whole(b"y" * 1_000_000),
    "flood": (*chunked([event(delta({"content": "x" * 32_000}))] * 2000), Stall()),
    "counted": (Send(head(200, [("content-type", EVENTS), ("content-length", "100")]) + b"data: x\n\n"), Close()),
}


def serving(server: ScriptedUpstream, **more: Any) -> Runtime:
    return runtime(server.origin, *REPLIES, **more)


def body(model: str, **more: Any) -> bytes:
    return packed({**json.loads(STREAM), "model": model, **more})
