"""A bed for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.contract.link.bed import Bed, running


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of the gateway, and for lanes also the one it has on Windows."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.path.stem in {"test_lanes", "test_hostile"}:
        loops["asyncio"] = asyncio.SelectorEventLoop
    return loops


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """The gateway's end, listening on loopback."""
    async with running(tmp_path / "home") as bed:
        yield bed
