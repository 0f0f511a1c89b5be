"""The agent as a process of its own: its event loop, and what becomes of the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from intertie.agent import terminal
from intertie.agent.loading import load_identity
from intertie.agent.serve import Agent

_STANDARD_INPUT: Final = 0


def run(folder: Path, *, with_parent: bool = False, as_json: bool = False) -> None:
    """Run the agent of a folder until it is told to stop, or its parent has ended. Raises `Problem`.

    What it has to say is a line each, `as_json` a JSON object each.
    """
    load_identity(folder)  # before anything is written: a machine that is no node gets no folder
    log = logging.getLogger("intertie.agent")
    log.addHandler(logging.NullHandler())  # what matters to the owner is said once, not at every try
    log.propagate = False

    async def serve() -> None:
        agent = Agent(folder, say=terminal.say_as_json if as_json else terminal.say)
        if with_parent:
            _follow_parent(agent)
        await agent.run()

    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(serve())


def _follow_parent(agent: Agent) -> None:
    """End at once when standard input closes: whoever started us has ended, however it did."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        # Not `sys.stdin`: a thread that waits inside it cannot be left when the process ends.
        with contextlib.suppress(OSError):
            while os.read(_STANDARD_INPUT, 4096):
                pass
        for _ in range(2):  # the second time without waiting for what runs
            loop.call_soon_threadsafe(agent.stop, "the program that started it has ended")

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
