"""A hundred nodes whose gateway restarts: they all come back, and not all at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, enrol
from tests.support.gateway import configuration, running
from tests.support.node import token
from tests.support.scripted import soon

pytestmark = pytest.mark.slow

NODES = 100


@pytest.mark.parametrize("killed", [True, False])
async def test_nodes_of_a_restarted_gateway_come_back_spread_out(tmp_path: Path, killed: bool) -> None:
    with running(tmp_path / "gateway", configuration([], [])) as gateway:
        made = await asyncio.to_thread(token, gateway, "fleet", "--fleet", str(NODES))
        join = [asyncio.to_thread(enrol, gateway.url, made, n, tmp_path / f"node-{n}") for n in range(NODES)]
        fleet = Fleet(await asyncio.gather(*join))
        fleet.start()
        try:
            assert await soon(lambda: fleet.connected == NODES, 30), fleet.connected
            fleet.connected_at.clear()
            gateway.options = ["--port", gateway.url.rpartition(":")[2]]
            await asyncio.to_thread(gateway.kill if killed else gateway.stop)
            assert await soon(lambda: fleet.connected == 0, 5)
            await asyncio.sleep(4)
            await asyncio.to_thread(gateway.start)
            began = time.monotonic()
            assert await soon(lambda: fleet.connected == NODES, 45), fleet.connected
        finally:
            await fleet.stop()
    seconds = [int(moment - began) for moment in fleet.connected_at]
    busiest = max(seconds.count(second) for second in set(seconds))
    assert max(fleet.connected_at) - min(fleet.connected_at) >= 3
    assert busiest <= NODES * 0.4, sorted(seconds)
