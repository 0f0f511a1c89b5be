"""A server of no known kind: nothing is promised that its list does not tell."""

from __future__ import annotations

from intertie.agent.runtimes._kind import Listed, Site
from intertie.agent.runtimes.compatible import runtime


def test_little_is_known_and_little_is_promised() -> None:
    entries = ({"id": "qwen3-8b-fp8", "context_window": 8192}, {"id": "bge-m3"})
    found = runtime(Site("http://127.0.0.1:8000", "sk-key"), Listed(entries))
    chat, embedding = found.models

    assert (found.kind, found.key, found.slots, found.queue) == ("compatible", "sk-key", 1, None)
    assert (chat.context, chat.slots, chat.quantisation, chat.parameters) == (8192, None, "FP8", "8B")
    assert (chat.capabilities, embedding.capabilities) == (("chat", "completion"), ("embedding",))
