"""The watch with its threads and real clocks: how soon an owner is noticed, and that nothing stops it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from intertie.agent.eligibility import Standing
from intertie.agent.watch import SILENT, Watch
from intertie.agent.wishes import Mode, Wishes
from intertie.core.wire.link import Serving
from tests.support.watching import ScriptedSensors

IDLE = Wishes(mode=Mode.IDLE, yield_seconds=0)


@contextlib.asynccontextmanager
async def running(watch: Watch) -> AsyncIterator[list[Standing]]:
    """What it says while it runs."""
    told: list[Standing] = []
    task = asyncio.create_task(watch.run(told.append))
    try:
        yield told
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(met: Callable[[], object], limit: float = 5.0) -> float:
    """Seconds until `met`."""
    began = time.monotonic()
    while not met():
        assert time.monotonic() - began < limit
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_a_returning_owner_is_noticed_within_a_second() -> None:
    """At the pace of in-process readers, on the event loop's own thread, and told once."""
    sensors = ScriptedSensors(pace=0.5)
    async with running(watch := Watch(IDLE, set, sensors=sensors)) as told:
        await until(lambda: told)
        assert [one.state for one in told] == [Serving.SERVING]
        sensors.seconds = 0.1
        assert await until(lambda: len(told) > 1) < 1
        assert told[1].state is Serving.YIELDING
        await until(lambda: len(told) > 2)
        assert told[2].state is Serving.IDLE_WAIT
        reads = sensors.reads
        await until(lambda: sensors.reads > reads + 1)
        assert len(told) == 3
        assert watch.standing is not None
        assert watch.standing.reason.startswith("in use: input ")


async def test_a_reader_that_hangs_ends_serving() -> None:
    """Nobody can say any more that the owner is away; the event loop goes on meanwhile."""
    sensors = ScriptedSensors()
    stuck = threading.Event()
    async with running(Watch(IDLE, set, sensors=sensors)) as told:
        await until(lambda: told)
        sensors.hang = lambda: void(stuck.wait(20))
        took = await until(lambda: len(told) > 1, SILENT + 3)
        assert took >= SILENT - 0.5
        assert "its reader has not answered for 3 s" in told[1].reason
        stuck.set()


async def test_a_hanging_reader_does_not_matter_where_nobody_asked() -> None:
    """Mode always."""
    sensors = ScriptedSensors()
    async with running(Watch(Wishes(), set, sensors=sensors)) as told:
        await until(lambda: told)
        reads = sensors.reads
        await asyncio.sleep(0.2)
        assert sensors.reads == reads
        assert [one.reason for one in told] == ["always on"]


async def test_new_wishes_hold_at_once() -> None:
    """Not after the next five seconds."""
    sensors = ScriptedSensors(seconds=1.0)
    async with running(watch := Watch(Wishes(), set, sensors=sensors)) as told:
        await until(lambda: told)
        watch.wish(IDLE)
        assert await until(lambda: len(told) > 1) < 1
        assert told[1].state is Serving.YIELDING
        watch.wish(Wishes(yield_seconds=0, slots=2))
        await until(lambda: told[-1].state is Serving.SERVING)


async def test_its_threads_end_with_it() -> None:
    """Both, soon."""
    async with running(Watch(IDLE, set, sensors=ScriptedSensors())) as told:
        await until(lambda: told)
        assert len(threads()) == 2
    await until(lambda: not threads())


async def test_it_watches_this_machine() -> None:
    """Whatever there is to read here: a standing comes, and everything read is said."""
    wishes = Wishes(mode=Mode.IDLE, programs=("no-such-program",), max_temperature=110.0)
    async with running(watch := Watch(wishes, set)) as told:
        await until(lambda: told)
        assert told[0].reason
        assert {"input", "idle_seconds", "on_battery", "programs_seen"} <= set(watch.measured())


def threads() -> list[str]:
    """Those of any watch."""
    return [one.name for one in threading.enumerate() if one.name in {"intertie-machine", "intertie-input"}]


def void(_: object) -> None:
    """Nothing."""
