"""Everything the watch reads, each reading with its name, its value, and why there is none. Nothing here raises."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

from intertie.agent.durations import spell
from intertie.agent.eligibility import Thing
from intertie.agent.idle.choose import Chooser
from intertie.agent.machine import battery, programs
from intertie.agent.machine.graphics import Graphics, Use
from intertie.agent.machine.temperature import Heat, Thermometer
from intertie.agent.machine.unreadable import Unreadable
from intertie.agent.wishes import Mode, Wishes

REST: Final = 5.0
"""Seconds between two readings of everything but input; of input too where no wish is about it."""

STALE: Final = 30.0
"""Seconds after which a reading of everything else says nothing any more: some driver hangs, and cannot be stopped."""

_log: Final = logging.getLogger("intertie.agent")
_T = TypeVar("_T")


class Input(NamedTuple):
    """The idle time, and how it was learnt."""

    seconds: float | None
    way: str
    note: str
    problem: str
    pace: float

    def spelt(self) -> str:
        """For people."""
        if self.seconds is None:
            return f"cannot be seen: {self.problem}"
        told = "nobody is logged in" if math.isinf(self.seconds) else f"{spell(self.seconds)} without input"
        return f"{told} ({self.way}{f'; {self.note}' if self.note else ''})"


class Rest(NamedTuple):
    """Everything else, as far as `wishes` ask for it."""

    wishes: Wishes
    on_battery: bool | None
    gpu: Use | None
    programs: frozenset[str]
    heat: Heat | None
    unreadable: Mapping[Thing, str]
    at: float

    def as_of(self, now: float) -> Rest:
        """Itself while it is fresh; later everything is unknown but the programs that were seen."""
        if now - self.at < STALE:
            return self
        why = f"a driver has not answered for {spell(now - self.at)}; restart the machine if that stays"
        things = (Thing.BATTERY, Thing.GPU, Thing.PROGRAMS, Thing.TEMPERATURE)
        return self._replace(on_battery=None, gpu=None, heat=None, unreadable=dict.fromkeys(things, why))


class Sensors(Protocol):
    """What a `Watch` reads through. The two are called from different threads."""

    def input(self, now: float) -> Input:
        """Since when nobody has touched the machine."""

    def rest(self, wishes: Wishes, own: Callable[[], set[int]], in_flight: Callable[[], int], now: float) -> Rest:
        """What else `wishes` are about; `own` finds processes of the runtimes, `in_flight` what they do for us."""

    def tried(self) -> Mapping[str, str]:
        """Ways to see input that do not work here, and why."""


class MachineSensors:
    """The `Sensors` of this machine. Drivers are loaded only when a wish needs them."""

    def __init__(self, chooser: Chooser | None = None) -> None:
        self._chooser = chooser or Chooser()
        self._graphics: Graphics | None = None
        self._thermometer: Thermometer | None = None

    def input(self, now: float) -> Input:
        """See `Sensors`."""
        found, problem = _tried(lambda: self._chooser.read(now))
        if found is None:
            return Input(None, "", "", problem, 1.0)
        return Input(found.sample.seconds, found.way, found.sample.note, "", found.pace)

    def rest(self, wishes: Wishes, own: Callable[[], set[int]], in_flight: Callable[[], int], now: float) -> Rest:
        """See `Sensors`."""
        unreadable: dict[Thing, str] = {}
        power, problem = _tried(battery.on_battery)
        unreadable[Thing.BATTERY] = problem
        use: Use | None = None
        if wishes.mode is Mode.IDLE:
            use, unreadable[Thing.GPU] = _tried(
                lambda: self._graphics_().others(own(), serving=in_flight() > 0, now=now)
            )
        names: frozenset[str] = frozenset()
        if wishes.programs:
            running, problem = _tried(programs.running)
            names = running.names if running else names
            unreadable[Thing.PROGRAMS] = running.hidden if running else problem
        heat: Heat | None = None
        if wishes.max_temperature is not None:
            heat, unreadable[Thing.TEMPERATURE] = _tried(lambda: self._thermometer_().read())
        return Rest(wishes, power, use, names, heat, {thing: why for thing, why in unreadable.items() if why}, now)

    def tried(self) -> Mapping[str, str]:
        """See `Sensors`."""
        return dict(self._chooser.tried)

    def _graphics_(self) -> Graphics:
        self._graphics = self._graphics or Graphics()
        return self._graphics

    def _thermometer_(self) -> Thermometer:
        self._thermometer = self._thermometer or Thermometer()
        return self._thermometer


def _tried(read: Callable[[], _T]) -> tuple[_T | None, str]:
    """The value, or why there is none."""
    try:
        return read(), ""
    except Unreadable as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - a driver's failure must not end the watch, which looks for the owner
        _log.debug("a reading failed", exc_info=True)
        return None, f"its reader failed ({type(error).__name__}); please report it"
