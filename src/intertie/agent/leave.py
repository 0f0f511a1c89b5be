"""`leave`: stops being a node. Needs no network and no token; the gateway is told if it can be reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from intertie import __version__
from intertie.agent import host
from intertie.agent.durations import spell
from intertie.agent.forward import Forwarder
from intertie.agent.home import (
    INTENT,
    LOCK,
    RATES,
    RUNTIMES,
    STATUS,
    WISHES,
    Intent,
    agent_runs,
    read_status,
    write_intent,
)
from intertie.agent.identity import Identity, NotEnrolled, forget
from intertie.agent.keys import KeyUnusable
from intertie.agent.link import Link
from intertie.agent.problem import Problem
from intertie.agent.wishes import Wishes, WishRefused
from intertie.core.wire.link import Refusal

REASON: Final = "the owner left"
_REACH: Final = 5.0
"""Seconds in which the gateway must be reached to be told."""
_GRACE: Final = 15.0
"""Seconds beyond the owner's limit for running answers until a leaving agent is no longer waited for."""
_LOOK: Final = 0.1


def leave(folder: Path, note: Callable[[str], None], *, for_good: bool) -> bool:
    """Make the running agent drain and end, or tell the gateway from here. True if the gateway was told.

    `for_good`: the key goes, too, so the gateway need not keep the node among those that may come back.

    Raises `Problem` if the running agent does not end.
    """
    if agent_runs(folder):
        return _end_agent(folder, note, for_good=for_good)
    try:
        identity = Identity.load(folder)
    except (NotEnrolled, KeyUnusable):
        return False
    return asyncio.run(_tell(identity, for_good=for_good))


def remove(folder: Path) -> None:
    """Remove identity, keys, approved runtimes and notes. The wishes stay for the next time, if there are any."""
    forget(folder)
    for name in (RUNTIMES, INTENT, STATUS, RATES, LOCK):
        (folder / name).unlink(missing_ok=True)
    for pattern in ("joining-*.key", f"{STATUS}.*"):
        for draft in folder.glob(pattern):
            draft.unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _end_agent(folder: Path, note: Callable[[str], None], *, for_good: bool) -> bool:
    connected = bool(read_status(folder).get("link", {}).get("connected"))
    limit = _limit(folder)
    write_intent(folder, Intent(leaving=True, for_good=for_good))
    note(f"The agent lets running answers finish, for {spell(limit)} at most …")
    end = time.monotonic() + limit + _GRACE
    while agent_runs(folder):
        if time.monotonic() > end:
            write_intent(folder, Intent())
            raise Problem("the running agent does not end", "end its process or service, then leave again")
        time.sleep(_LOOK)
    (folder / INTENT).unlink(missing_ok=True)
    return connected


def _limit(folder: Path) -> float:
    try:
        return Wishes.load(folder / WISHES).yield_seconds
    except WishRefused:
        return Wishes().yield_seconds


async def _tell(identity: Identity, *, for_good: bool) -> bool:
    """Connect for a moment, with nothing to offer, and say goodbye."""
    connected = asyncio.Event()

    def changed() -> None:
        if link.state.connected:
            connected.set()

    forwarder = Forwarder(lambda: (), lambda: Refusal.DRAINING)
    link = Link(
        identity, forwarder, slots=lambda: 0, version=__version__, fingerprint=host.fingerprint(), changed=changed
    )
    running = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(_REACH):
            await connected.wait()
        await link.leave(0.0, REASON, for_good=for_good)
    except TimeoutError:
        return False
    finally:
        link.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return True
