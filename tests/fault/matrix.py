"""Runs every upstream behaviour of the catalogue once, side by side, through one gateway, and keeps what was seen.

A cell is one behaviour, streamed or not, as the only target or as the first of two. Each cell has its own upstream and
route, so that the bad health of one is nobody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.support import faults, oddities
from tests.support.books import Books, books
from tests.support.caller import Heard, ask, chat_call
from tests.support.faults import Door, Fault
from tests.support.gateway import CLIENT_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy
from tests.support.scripted import Named, Recorded, ScriptedUpstream, refusing

SECOND = ("from the ", "healthy ", "zweite ", "target 🌍")
"""What the healthy second target says."""
TIMEOUTS = {"connect": 1.0, "first_output": 1.0, "between_output": 1.0}
_AT_ONCE = 12


@dataclass(frozen=True)
class Cell:
    """One behaviour in one mode, alone or with a healthy second target."""

    fault: Fault
    streaming: bool
    alone: bool

    @property
    def name(self) -> str:
        """Names its upstream and its route."""
        return f"{self.fault.name}.{'streamed' if self.streaming else 'plain'}.{'alone' if self.alone else 'first'}"


def cells(behaviours: list[Fault] | list[oddities.Odd], *, alone: bool) -> list[Cell]:
    """The modes in which each of the behaviours makes sense."""
    return [
        Cell(fault, streaming, alone)
        for fault in behaviours
        for streaming in (True, False)
        if fault.script(streaming=streaming) is not None
    ]


ELSEWHERE = "elsewhere"
_NOWHERE = "http://127.0.0.1:9/elsewhere"


def every_cell(redirect_to: str = _NOWHERE) -> list[Cell]:
    """The whole matrix. Test ids come from a list made before any server runs, so the redirect leads nowhere there."""
    broken = [*faults.before(redirect_to), *faults.after()]
    return [*cells(broken, alone=False), *cells(broken, alone=True), *cells(oddities.odd(), alone=True)]


@dataclass
class Matrix:
    """What came of all cells."""

    gateway: Gateway
    server: ScriptedUpstream
    heard: dict[str, Heard]
    books: Books
    sockets_before: int

    def asked(self, cell: Cell) -> list[Recorded]:
        """The requests that reached the cell's own upstream."""
        return self.server.to(cell.name)


def _base_url(cell: Cell, server: ScriptedUpstream, closed: str) -> str:
    if cell.fault.door is Door.REFUSED:
        return f"{closed}/v1"
    if cell.fault.door is Door.UNRESOLVABLE:
        return "http://name.invalid/v1"
    return server.base_url(cell.name)


async def _ask_all(gateway: Gateway, which: list[Cell]) -> dict[str, Heard]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(cell: Cell) -> tuple[str, Heard]:
        async with turns:
            call = chat_call(cell.name, stream=cell.streaming)
            return cell.name, await ask(f"{gateway.base_url}/chat/completions", call, key=CLIENT_KEY)

    return dict(await asyncio.gather(*(one(cell) for cell in which)))


@contextmanager
def played(
    folder: Path,
    choose: Callable[[str], list[Cell]] = every_cell,
    options: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Matrix]:
    """Play the whole matrix, or the cells chosen. The gateway and the scripted upstream still run inside the block.

    `options` go into every route.
    """
    with ExitStack() as stack:
        named = Named()
        server = stack.enter_context(ScriptedUpstream(named).running())
        closed = stack.enter_context(refusing())
        which = choose(f"{server.base_url(ELSEWHERE)}/chat/completions")
        named.replies |= {cell.name: cell.fault.script(streaming=cell.streaming) or () for cell in which}
        named.replies["healthy"] = Healthy(SECOND)
        named.replies[ELSEWHERE] = Healthy()
        upstreams = [upstream("healthy", server.base_url("healthy"))]
        upstreams += [upstream(cell.name, _base_url(cell, server, closed), timeouts=TIMEOUTS) for cell in which]
        routes = [{**route(cell.name, cell.name, *(() if cell.alone else ("healthy",))), **options} for cell in which]
        gateway = stack.enter_context(running(folder, configuration(upstreams, routes)))
        before = gateway.sockets()
        heard = asyncio.run(_ask_all(gateway, which))
        yield Matrix(gateway, server, heard, books(gateway), before)
