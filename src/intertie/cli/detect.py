"""Look for model servers on this machine's usual ports, as an agent does, without keeping anybody waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from intertie.agent.discover import ANY, discover, usual_ports
from intertie.agent.inventory import Runtime, names
from intertie.agent.offering import EVERY

PATIENCE: Final = 1.0
"""Seconds from the start of a search until its result is no longer waited for; servers on loopback answer at once."""


class Search:
    """A search that runs while the gateway starts, and is repeated for as long as it finds nothing.

    `skip` is the gateway's own port: it would wait for itself.
    """

    def __init__(self, ports: Sequence[int] | None = None, *, skip: int = 0, every: float = EVERY) -> None:
        self._ports = [port for port in (usual_ports() if ports is None else ports) if port != skip]
        self._every = every
        self._deadline = time.monotonic() + PATIENCE
        self._found: list[Runtime] = []
        self._first = threading.Thread(target=self._look, name="detect", daemon=True)
        self._first.start()

    def __repr__(self) -> str:
        return f"<Search for model servers, {len(self._found)} found>"

    def result(self) -> list[Runtime]:
        """What was found so far; waits for what is left of the patience."""
        self._first.join(max(0.0, self._deadline - time.monotonic()))
        return self._found

    def until_found(self, stopping: threading.Event) -> list[Runtime]:
        """Blocks until there is something, looking every few seconds; nothing once `stopping` is set."""
        self._first.join()
        while not self._found and not stopping.wait(self._every):
            self._look()
        return self._found

    def _look(self) -> None:
        found = asyncio.run(discover([], loopback=True, ports=self._ports))
        self._found = [one for one in found if one.models]  # an Ollama without a model has nothing to offer yet


def as_json(found: Sequence[Runtime]) -> list[dict[str, Any]]:
    """The servers for programs, in the words of configuration files."""
    return [
        {
            "provider": "openai_compatible" if one.kind == ANY else one.kind,
            "base_url": f"{one.url}/v1",
            "models": names([one]),
        }
        for one in found
    ]
