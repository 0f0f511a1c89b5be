"""A machine whose owner does what a test says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from intertie.agent.eligibility import Thing
from intertie.agent.machine.graphics import Use
from intertie.agent.machine.temperature import Heat
from intertie.agent.sensors import Input, Rest
from intertie.agent.wishes import Wishes


@dataclass
class ScriptedSensors:
    """The `Sensors` of a made-up machine; every field may be changed at any time."""

    seconds: float | None = 1000.0
    problem: str = ""
    pace: float = 0.05
    on_battery: bool | None = False
    gpu: Use | None = None
    programs: frozenset[str] = frozenset()
    heat: Heat | None = None
    unreadable: dict[Thing, str] = field(default_factory=dict)
    hang: Callable[[], None] = lambda: None
    """Called in each reading of input; blocks as a stuck driver would."""
    reads: int = 0
    rests: list[Wishes] = field(default_factory=list)

    def input(self, now: float) -> Input:
        self.reads += 1
        self.hang()
        return Input(self.seconds, "a script", "", self.problem, self.pace)

    def rest(self, wishes: Wishes, own: Callable[[], set[int]], in_flight: Callable[[], int], now: float) -> Rest:
        self.rests.append(wishes)
        return Rest(wishes, self.on_battery, self.gpu, self.programs, self.heat, dict(self.unreadable), now)

    def tried(self) -> Mapping[str, str]:
        return {}


def wednesday_noon() -> float:
    """A Unix time that is Wednesday noon on this machine's wall."""
    return time.mktime((2026, 6, 17, 12, 0, 0, 2, 168, -1))
