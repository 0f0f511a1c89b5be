"""Ask the usual loopback ports, all at once and briefly, which model servers are already running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Final

from intertie.cli.client import probe
from intertie.controlplane.runtimes import PORTS, DetectedRuntime, identify

PATIENCE: Final = 0.3
"""Seconds for the whole search; a server on loopback answers its model list in a few milliseconds."""


class Search:
    """A search that runs while the gateway starts. `result` waits for what is left of the patience."""

    def __init__(self, ports: Iterable[int] = tuple(PORTS), *, skip: int = 0) -> None:
        self._deadline = time.monotonic() + PATIENCE
        self._found: dict[int, DetectedRuntime] = {}
        self._threads = [
            threading.Thread(target=self._ask, args=(port,), name=f"detect-{port}", daemon=True)
            for port in ports
            if port != skip
        ]
        for thread in self._threads:
            thread.start()

    def result(self) -> list[DetectedRuntime]:
        """What answered so far, in order of port."""
        for thread in self._threads:
            thread.join(max(0.0, self._deadline - time.monotonic()))
        return [self._found[port] for port in sorted(dict(self._found))]

    def _ask(self, port: int) -> None:
        body = probe(f"http://127.0.0.1:{port}/v1/models", PATIENCE)
        runtime = identify(port, body) if body is not None else None
        if runtime is not None:
            self._found[port] = runtime
