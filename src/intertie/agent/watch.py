"""Watches the machine for its owner: reads it in threads of its own, so that nothing waits for a slow driver, and
decides on the event loop whether it serves.

Input is read twice a second (once where it takes a tool) while a wish is about it, so a returning owner is noticed
within a second. While a wish is about input, the standing only changes on a fresh reading of it: an old one never lets
work in.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from intertie.agent.eligibility import Eligibility, Readings, Standing, Thing
from intertie.agent.sensors import REST, Input, MachineSensors, Rest, Sensors
from intertie.agent.wishes import Mode, Wishes

SILENT: Final = 3.0
"""Mode idle: seconds without any reading after which nobody can say that the owner is away."""

AGAIN: Final = 1.0
"""Mode always: seconds after which the same readings are judged again, because time alone changes some standings."""


class Clocks(NamedTuple):
    """Where the time comes from: one that never goes back, and the one on the wall."""

    steady: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class _Taken(NamedTuple):
    """One look at the machine."""

    input: Input
    rest: Rest


class Watch:
    """The standing of this machine, kept up to date while `run` runs."""

    def __init__(
        self,
        wishes: Wishes,
        own_pids: Callable[[], set[int]],
        *,
        in_flight: Callable[[], int] = lambda: 0,
        sensors: Sensors | None = None,
        clocks: Clocks = Clocks(),  # noqa: B008 - immutable
    ) -> None:
        """`own_pids` are processes of the runtimes, `in_flight` is how many answers they work on for us.

        Both are called from a thread of the watch.
        """
        self._wishes = wishes
        self._own_pids = own_pids
        self._in_flight = in_flight
        self._sensors = sensors or MachineSensors()
        self._clocks = clocks
        self._judging = wishes
        self._eligibility = Eligibility(wishes, clocks.steady())
        self._told: tuple[object, ...] = ()
        self._taken: _Taken | None = None
        self._standing: Standing | None = None
        self._rest: Rest | None = None
        self._over = False
        self._look_now = threading.Event()
        self._read_now = threading.Event()

    def __repr__(self) -> str:
        return f"<Watch {self._standing.state if self._standing else 'not begun'}>"

    @property
    def standing(self) -> Standing | None:
        """The latest, its reason with the latest values; `since` is a Unix time. None before the first reading."""
        return self._standing

    def wish(self, wishes: Wishes) -> None:
        """These wishes hold from the next reading on, which is made at once."""
        self._wishes = wishes
        self._read_now.set()

    async def run(self, changed: Callable[[Standing], None]) -> None:
        """Watch until cancelled. `changed` hears of each new state, and of new kinds of reasons, on the event loop."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[_Taken] = asyncio.Queue()

        def hand_over(taken: _Taken) -> None:
            with suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(arrived.put_nowait, taken)

        for work, name in ((self._read, "intertie-machine"), (lambda: self._look(hand_over), "intertie-input")):
            threading.Thread(target=work, name=name, daemon=True).start()
        try:
            while True:
                self._judge(await self._next(arrived), changed)
        finally:
            self._over = True
            self._look_now.set()
            self._read_now.set()

    def look(self) -> Standing:
        """One look, for the doctor: blocks for a moment, and must not be called while `run` runs."""
        rest = self._read_once()
        self._judge(_Taken(self._sensors.input(self._clocks.steady()), rest), lambda _: None)
        assert self._standing is not None
        return self._standing

    def measured(self) -> dict[str, Any]:
        """What the last look saw, by name: plain values for JSON, None for what is not known."""
        if self._taken is None:
            return {}
        seen, rest = self._taken
        seconds = None if seen.seconds is None or math.isinf(seen.seconds) else round(seen.seconds, 1)
        told: dict[str, Any] = {"input": seen.spelt(), "idle_seconds": seconds, "on_battery": rest.on_battery}
        if rest.gpu is not None:
            told |= {"gpu_used_by_others": rest.gpu.share, "gpu_read_by": rest.gpu.how}
        if rest.wishes.programs:
            told["programs_seen"] = len(rest.programs)
        if rest.heat is not None:
            told |= {"temperature": rest.heat.celsius, "temperature_of": rest.heat.what}
        told |= {f"{thing}_unreadable": why for thing, why in rest.unreadable.items()}
        tried = self._sensors.tried()
        return told | ({"input_not_by": dict(tried)} if tried else {})

    # -- on the event loop -------------------------------------------------------------------------------------------

    async def _next(self, arrived: asyncio.Queue[_Taken]) -> _Taken:
        """The next look; without one, what silence means where input matters, else the last one at a later time."""
        while True:
            idle = self._judging.mode is Mode.IDLE
            try:
                async with asyncio.timeout(SILENT if idle else AGAIN):
                    taken = await arrived.get()
                while not arrived.empty():  # a busy loop comes late; then only the latest counts
                    taken = arrived.get_nowait()
                return taken
            except TimeoutError:
                if self._taken is not None and idle:
                    lost = Input(None, "", "", f"its reader has not answered for {SILENT:g} s", 1.0)
                    return self._taken._replace(input=lost)
                if self._taken is not None:
                    return self._taken

    def _judge(self, taken: _Taken, changed: Callable[[Standing], None]) -> None:
        if taken.rest.wishes is not self._judging:
            self._judging = taken.rest.wishes
            self._eligibility.wish(self._judging)
        self._taken = taken
        wall = time.localtime(self._clocks.wall())
        now = self._clocks.steady()
        standing = self._eligibility.update(_readings(taken, wall), now)
        before = self._standing
        same = before is not None and before.state is standing.state
        since = before.since if before is not None and same else self._clocks.wall()
        self._standing = standing._replace(since=since)
        told = (standing.state, *(block.thing for block in self._eligibility.blocks))
        if told != self._told:
            self._told = told
            changed(self._standing)

    # -- in threads --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Everything but input, again and again; a look follows each time."""
        while not self._over:
            self._read_now.clear()
            self._rest = self._read_once()
            self._look_now.set()
            self._read_now.wait(REST)

    def _read_once(self) -> Rest:
        return self._sensors.rest(self._wishes, self._own_pids, self._in_flight, self._clocks.steady())

    def _look(self, hand_over: Callable[[_Taken], None]) -> None:
        """Input, as often as is worth it."""
        pace = REST
        while not self._over:
            self._look_now.wait(pace)
            self._look_now.clear()
            rest = self._rest
            if rest is None or self._over:
                continue
            seen = self._sensors.input(self._clocks.steady())
            pace = seen.pace if rest.wishes.mode is Mode.IDLE else REST
            hand_over(_Taken(seen, rest.as_of(self._clocks.steady())))


def _readings(taken: _Taken, wall: time.struct_time) -> Readings:
    seen, rest = taken
    unreadable = dict(rest.unreadable)
    if seen.problem:
        unreadable[Thing.INPUT] = seen.problem
    return Readings(
        idle_seconds=seen.seconds,
        weekday=wall.tm_wday,
        minute=wall.tm_hour * 60 + wall.tm_min,
        on_battery=rest.on_battery,
        gpu_busy=None if rest.gpu is None else rest.gpu.share,
        programs=rest.programs,
        temperature=None if rest.heat is None else rest.heat.celsius,
        unreadable=unreadable,
    )
