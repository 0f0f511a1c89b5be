"""What `status` says, for each way a node can stand."""

from __future__ import annotations

import time
from typing import Any

import pytest

from intertie.agent.status import lines


def status(**changes: Any) -> dict[str, Any]:
    now = time.time()
    return {
        "enrolled": True,
        "problem": "",
        "running": True,
        "paused": False,
        "wishes": "Serves always, also while you use the machine.\nNot on battery.",
        "node": {"id": "n1", "name": "desk"},
        "gateway": "https://ai.example.com",
        "pid": 7,
        "version": "1.0",
        "started_at": now - 3600,
        "link": {"connected": True, "since": now - 60, "say": "", "drained": False, "lanes_parked": 2, "lanes_busy": 1},
        "serving": {"state": "serving", "reason": "always on", "since": now - 60},
        "slots": 4,
        "idle": {"input": "keyboard 5 s ago", "idle_seconds": 5.0, "on_battery": None, "input_not_by": {"x": "y"}},
        "runtimes": [
            {
                "kind": "ollama",
                "url": "http://127.0.0.1:11434",
                "version": "0.13",
                "models": [
                    {"name": "m", "context": 4096, "loaded": True, "decode": 41.7, "capabilities": ["chat", "tools"]},
                    {"name": "n", "context": None, "loaded": False, "decode": None, "capabilities": []},
                ],
            }
        ],
        **changes,
    }


def shown(**changes: Any) -> str:
    return "\n".join(lines(status(**changes), "intertie node"))


def test_a_node_that_serves_shows_its_models_with_what_counts() -> None:
    text = shown()

    assert "yes, for 60 s" in text
    assert "2 parked, 1 busy" in text
    assert "m      ollama 0.13 at http://127.0.0.1:11434  4096     yes     42        chat, tools" in text
    assert "n      ollama 0.13 at http://127.0.0.1:11434  unknown  no      -         -" in text
    assert "input: keyboard 5 s ago" in text
    assert "on battery" not in text.replace("Not on battery", "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"serving": {"state": "idle_wait", "reason": "used 5 s ago", "since": 0}}, "used 5 s ago (idle_wait)"),
        (
            {"link": {**status()["link"], "connected": False, "say": "The gateway restarts."}},
            "ready, but not connected",
        ),
        ({"link": {**status()["link"], "connected": False, "say": "The gateway restarts."}}, "The gateway restarts."),
        ({"link": {**status()["link"], "drained": True}}, "operator drained"),
        ({"running": False}, "start it with: intertie node run"),
        ({"running": False, "paused": True}, "intertie node resume"),
        ({"runtimes": []}, "No runtime with a model was found"),
        ({"enrolled": False}, "intertie node join URL"),
        ({"enrolled": False, "problem": "the key is damaged"}, "the key is damaged"),
    ],
)
def test_whatever_keeps_it_from_serving_is_said(changes: dict[str, Any], says: str) -> None:
    assert says in shown(**changes)
