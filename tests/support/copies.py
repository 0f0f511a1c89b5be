"""A route whose calls are copied, over scripted upstreams."""

from __future__ import annotations

import json
from typing import Any

from intertie.core.terms import Shadow, Target
from tests.support.playbook import Playbook, Script

WORD = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def whole(content: str = "hi", *before: Any) -> Script:
    """A good answer."""
    body = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    return Script(*before, json.dumps(body).encode(), headers={"content-type": "application/json"})


def streamed(*steps: Any) -> Script:
    """A good stream, or these steps of one."""
    return Script(*(steps or (WORD, USAGE, DONE)), headers={"content-type": "text/event-stream"})


def mirrored(
    answers: list[Script | Exception], *copies: list[Script | Exception], share: float = 1.0, **more: Any
) -> Playbook:
    """A route with one target, whose calls are copied to the upstreams behind it."""
    play = Playbook(answers, *copies, **more)
    (first, *_) = play.current.routes["org", "m"].targets
    shadows = tuple(Target(f"up{n}", "inner") for n in range(1, len(copies) + 1))
    play.amend(targets=(first,), shadow=Shadow(shadows, share))
    return play


def asked(play: Playbook, upstream: str = "up1") -> list[dict[str, Any]]:
    """Bodies that an upstream was sent."""
    return [json.loads(request.body) for request, _ in play.transports[upstream].requests]


def outcomes(play: Playbook) -> dict[str, int]:
    """What became of copies, and of how many."""
    return {outcome: count for (_, outcome), count in play.dataplane.counters.shadows.items()}
