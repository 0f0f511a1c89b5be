"""The agent as a process of its own: its event loop, and what becomes of the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from intertie.agent.serve import Agent


def run(folder: Path) -> None:
    """Run the agent of a folder until it is told to stop. Raises `Problem`."""
    log = logging.getLogger("intertie.agent")
    log.addHandler(logging.NullHandler())  # what matters to the owner is said once, not at every try
    log.propagate = False

    async def serve() -> None:
        await Agent(folder).run()

    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(serve())


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
