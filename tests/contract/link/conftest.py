"""A bed for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.contract.link.bed import Bed, running


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of the gateway, and the one it has on Windows."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """The gateway's end, listening on loopback."""
    async with running(tmp_path / "home") as bed:
        yield bed
