"""Whether this machine serves right now, and why not: a state machine over what was measured.

Pure: readings and the clock are arguments. SERVING is left the moment a wish is not met, and entered again only after
`DWELL` seconds of waiting, so that a machine on the edge of a limit does not flap. Pausing and draining are not wishes;
`serve` puts them above this.

A wish that cannot be checked counts as not met if its owner set it on purpose (mode idle, programs, temperature),
because a promise that cannot be kept must not look kept. Defaults that cannot be checked (mains power, GPU use by
others) do not stop a machine; `Watch.measured` shows them as unreadable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from intertie.agent.durations import spell
from intertie.agent.hours import DAYS, read_hours
from intertie.agent.wishes import Mode, Wishes
from intertie.core.wire.link import Serving

DWELL: Final = 60.0
"""Seconds in IDLE_WAIT before SERVING."""
COOLER: Final = 5.0
"""Degrees below the limit that a machine which was too hot must reach. Its own work heated it."""
_COMM: Final = 15
"""Linux cuts the names of programs to so many bytes."""


class Thing(StrEnum):
    """What is measured, and what a wish is about."""

    INPUT = "input"
    HOURS = "hours"
    BATTERY = "battery"
    GPU = "gpu"
    PROGRAMS = "programs"
    TEMPERATURE = "temperature"


@dataclass(frozen=True, slots=True)
class Readings:
    """What was measured at one moment. None: it could not be, and `unreadable` says why and what to do."""

    idle_seconds: float | None
    """Since the last input of anybody; infinite where nobody can be."""
    weekday: int
    """By the wall clock; Monday is 0."""
    minute: int
    """Of the day, by the wall clock."""
    on_battery: bool | None = False
    gpu_busy: float | None = None
    """Share of the busiest GPU that other programs use, 0 to 1; None also if there is no GPU."""
    programs: frozenset[str] = frozenset()
    """Names of running programs, without folder and .exe, small letters. Empty if no wish is about them."""
    temperature: float | None = None
    unreadable: Mapping[Thing, str] = field(default_factory=dict)


class Block(NamedTuple):
    """One wish that is not met, and what was measured."""

    thing: Thing
    reason: str


class Standing(NamedTuple):
    """What the gateway and the owner are told."""

    state: Serving
    reason: str
    since: float
    """By the clock given to `update`."""


class Eligibility:
    """The state of one machine."""

    def __init__(self, wishes: Wishes, now: float) -> None:
        """`now` in seconds, by any clock that never goes back. The first update decides without waiting."""
        self._wishes = wishes
        self._state = Serving.IDLE_WAIT
        self._since = now
        self._fresh = True
        self._hot = False
        self._calm_since: float | None = None
        self._calm_below: float | None = None
        self._gpu_seen = False
        self.blocks: tuple[Block, ...] = ()
        """The wishes not met at the last update."""

    def __repr__(self) -> str:
        return f"<Eligibility {self._state} {[block.thing.value for block in self.blocks]}>"

    def wish(self, wishes: Wishes) -> None:
        """From the next update on, these wishes hold. What the owner just asked for need not wait either."""
        self._wishes = wishes
        self._fresh = True

    def update(self, readings: Readings, now: float) -> Standing:
        """The standing after `readings`."""
        self._remember(readings, now)
        self.blocks = self._judge(readings, now)
        before, after = self._state, self._next(now)
        if after is not before:
            self._state, self._since = after, now
            self.blocks = self._judge(readings, now)  # the same ones, in the new state's words
        if Serving.YIELDING not in {before, after}:
            self._fresh = False
        return Standing(after, self._reason(readings, now), self._since)

    # -- which state -------------------------------------------------------------------------------------------------

    def _next(self, now: float) -> Serving:
        stayed = now - self._since
        match self._state:
            case Serving.SERVING:
                return Serving.YIELDING if self.blocks else Serving.SERVING
            case Serving.YIELDING if stayed < self._wishes.yield_seconds:
                return Serving.YIELDING
            case Serving.IDLE_WAIT if not self.blocks and (self._fresh or stayed >= DWELL):
                return Serving.SERVING
            case _:
                return Serving.IDLE_WAIT

    def _reason(self, readings: Readings, now: float) -> str:
        stayed = now - self._since
        told = "; ".join(block.reason for block in self.blocks)
        match self._state:
            case Serving.SERVING if self._wishes.mode is Mode.ALWAYS:
                return "always on"
            case Serving.SERVING if math.isinf(readings.idle_seconds or 0.0):
                return "nobody is logged in"
            case Serving.SERVING:
                return f"no input for {spell(readings.idle_seconds or 0.0)}"
            case Serving.YIELDING:
                left = spell(max(self._wishes.yield_seconds - stayed, 0.0))
                return f"{told or 'it just stopped serving'}; running answers may go on for {left}"
            case _:
                return told or f"free again; it serves in {spell(DWELL - stayed)} if that lasts"

    # -- which wishes are not met ------------------------------------------------------------------------------------

    def _remember(self, readings: Readings, now: float) -> None:
        """What depends on the past: since when the GPU has been left alone, and whether the machine ran hot."""
        share = self._wishes.gpu_busy_share
        self._gpu_seen = self._gpu_seen or readings.gpu_busy is not None
        if readings.gpu_busy is not None and readings.gpu_busy >= share:
            self._calm_since = None
        elif self._calm_since is None or (self._calm_below or share) > share:
            self._calm_since = now
        self._calm_below = share
        limit = self._wishes.max_temperature
        if limit is None or readings.temperature is None:
            self._hot = False
        else:
            self._hot = readings.temperature >= (limit - COOLER if self._hot else limit)

    def _judge(self, readings: Readings, now: float) -> tuple[Block, ...]:
        idle = self._wishes.mode is Mode.IDLE
        found = (
            self._input(readings) if idle else None,
            self._hours(readings),
            self._battery(readings),
            self._programs(readings),
            self._gpu(readings, now) if idle else None,
            self._temperature(readings),
        )
        return tuple(block for block in found if block is not None)

    def _input(self, readings: Readings) -> Block | None:
        needed = self._wishes.idle_minutes * 60
        if readings.idle_seconds is None:
            why = readings.unreadable.get(Thing.INPUT, "nothing was measured yet")
            return Block(Thing.INPUT, f"cannot see whether the machine is in use: {why}")
        if readings.idle_seconds >= needed:
            return None
        ago = spell(readings.idle_seconds)
        if self._state is Serving.YIELDING:
            return Block(Thing.INPUT, f"you are back: input {ago} ago")
        return Block(Thing.INPUT, f"in use: input {ago} ago, serves after {spell(needed)} without")

    def _hours(self, readings: Readings) -> Block | None:
        hours = read_hours(self._wishes.hours)
        if hours.open(readings.weekday, readings.minute):
            return None
        clock = f"{DAYS[readings.weekday]} {readings.minute // 60:02}:{readings.minute % 60:02}"
        opens = hours.opens(readings.weekday, readings.minute)
        return Block(Thing.HOURS, f"outside the hours {self._wishes.hours}: it is {clock}, they begin {opens}")

    def _battery(self, readings: Readings) -> Block | None:
        if self._wishes.on_battery or not readings.on_battery:
            return None
        return Block(Thing.BATTERY, "on battery; plug it in, or wish on_battery")

    def _programs(self, readings: Readings) -> Block | None:
        if not self._wishes.programs:
            return None
        running = sorted(name for name in self._wishes.programs if runs(name, readings.programs))
        if running:
            return Block(Thing.PROGRAMS, f"{' and '.join(running)} {'run' if len(running) > 1 else 'runs'}")
        why = readings.unreadable.get(Thing.PROGRAMS)
        return Block(Thing.PROGRAMS, f"cannot see which programs run: {why}") if why else None

    def _gpu(self, readings: Readings, now: float) -> Block | None:
        wishes = self._wishes
        used = "" if readings.gpu_busy is None else f"other programs use {readings.gpu_busy:.0%} of a GPU"
        if self._calm_since is None:
            return Block(Thing.GPU, f"{used or 'other programs used a GPU'}, {wishes.gpu_busy_share:.0%} is the limit")
        needed, calm = wishes.gpu_busy_minutes * 60, now - self._calm_since
        # A machine without a GPU, or whose GPU nobody can read, is not kept waiting for a calm that nobody can see.
        if calm >= needed or not self._gpu_seen:
            return None
        return Block(Thing.GPU, f"{used or 'GPU use unknown'}, below the limit for {spell(calm)} of {spell(needed)}")

    def _temperature(self, readings: Readings) -> Block | None:
        limit = self._wishes.max_temperature
        if limit is None:
            return None
        if readings.temperature is None:
            why = readings.unreadable.get(Thing.TEMPERATURE, "nothing was measured yet")
            return Block(Thing.TEMPERATURE, f"cannot read the temperature: {why}")
        if not self._hot:
            return None
        below = (
            f", serves below {limit - COOLER:g} °C" if readings.temperature < limit else f", {limit:g} °C is the limit"
        )
        return Block(Thing.TEMPERATURE, f"{readings.temperature:g} °C{below}")


def runs(name: str, running: frozenset[str]) -> bool:
    """True if the program an owner calls `name` is among those running, whose names Linux may have cut short."""
    wanted = plain(name)
    cut = wanted.encode()[:_COMM].decode(errors="ignore")
    return wanted in running or (len(wanted.encode()) > _COMM and cut in running)


def plain(name: str) -> str:
    """A program's name as compared: no folder, no .exe, small letters."""
    return name.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")
