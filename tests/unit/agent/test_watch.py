"""What the watch makes of one look; its threads are in tests/contract/agent."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from intertie.agent.eligibility import Standing, Thing
from intertie.agent.machine.graphics import Use
from intertie.agent.machine.temperature import Heat
from intertie.agent.watch import Clocks, Watch
from intertie.agent.wishes import Mode, Wishes
from intertie.core.wire.link import Serving
from tests.support.watching import ScriptedSensors, wednesday_noon

IDLE = Wishes(mode=Mode.IDLE)


@dataclass
class Time:
    """Both clocks."""

    steady: float = 50.0
    wall: float = 0.0

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.steady, lambda: self.wall)

    def passes(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


@pytest.fixture
def passing() -> Time:
    """Begins on a Wednesday at noon."""
    return Time(wall=wednesday_noon())


def watch(wishes: Wishes, sensors: ScriptedSensors, passing: Time) -> Watch:
    """Over a script."""
    return Watch(wishes, set, sensors=sensors, clocks=passing.clocks())


def test_a_look_tells_the_standing_by_the_wall_clock(passing: Time) -> None:
    """`since` is a Unix time, and stays while the state does, also if somebody sets the clock."""
    sensors = ScriptedSensors()
    one = watch(IDLE, sensors, passing)
    assert (one.standing, one.measured()) == (None, {})
    began = passing.wall
    assert one.look() == Standing(Serving.SERVING, "no input for 16 min", began)
    passing.passes(5)
    passing.wall -= 3600
    assert one.look().since == began
    sensors.seconds = 0.5
    assert one.look() == one.standing
    assert one.look().state is Serving.YIELDING
    assert one.look().since == passing.wall


def test_hours_are_those_of_the_wall(passing: Time) -> None:
    """Wednesday noon."""
    assert watch(Wishes(hours="wed 12-13"), ScriptedSensors(), passing).look().state is Serving.SERVING
    assert "it is wed 12:00" in watch(Wishes(hours="tue"), ScriptedSensors(), passing).look().reason


def test_every_reading_reaches_the_decision(passing: Time) -> None:
    """Or the reason why there is none."""
    sensors = ScriptedSensors(
        seconds=None,
        problem="a service sees nobody",
        on_battery=True,
        gpu=Use(0.5, "x"),
        programs=frozenset({"blender"}),
        heat=Heat(90.0, "GPU"),
    )
    wishes = Wishes(mode=Mode.IDLE, programs=("Blender",), max_temperature=80.0)
    assert watch(wishes, sensors, passing).look().reason == (
        "cannot see whether the machine is in use: a service sees nobody; on battery; plug it in, or wish on_battery; "
        "Blender runs; other programs use 50% of a GPU, 15% is the limit; 90 °C, 80 °C is the limit"
    )
    sensors.unreadable = {Thing.PROGRAMS: "hidden"}
    sensors.programs = frozenset()
    assert "cannot see which programs run: hidden" in watch(wishes, sensors, passing).look().reason


def test_new_wishes_hold_with_the_readings_made_for_them(passing: Time) -> None:
    """Never with older ones, in which nobody had looked for programs."""
    sensors = ScriptedSensors(programs=frozenset({"blender"}))
    one = watch(Wishes(), sensors, passing)
    assert one.look().state is Serving.SERVING
    one.wish(Wishes(programs=("blender",)))
    assert one.look().reason.startswith("Blender runs".lower())
    one.wish(Wishes())
    passing.passes(20)
    assert one.look().state is Serving.IDLE_WAIT
    one.wish(Wishes(slots=1))
    assert one.look().state is Serving.SERVING


def test_what_was_measured_is_plain_and_told_by_name(passing: Time) -> None:
    """For the status file and the doctor."""
    sensors = ScriptedSensors(
        seconds=725.25,
        gpu=Use(0.03, "NVIDIA's library, by process"),
        heat=Heat(61.0, "NVIDIA GPU"),
        programs=frozenset({"init"}),
        unreadable={Thing.BATTERY: "odd"},
        on_battery=None,
    )
    one = watch(Wishes(mode=Mode.IDLE, programs=("x",), max_temperature=80.0), sensors, passing)
    one.look()
    assert one.measured() == {
        "input": "12 min without input (a script)",
        "idle_seconds": 725.2,
        "on_battery": None,
        "gpu_used_by_others": 0.03,
        "gpu_read_by": "NVIDIA's library, by process",
        "programs_seen": 1,
        "temperature": 61.0,
        "temperature_of": "NVIDIA GPU",
        "battery_unreadable": "odd",
    }
    json.dumps(one.measured(), allow_nan=False)


def test_a_machine_without_people_has_no_number(passing: Time) -> None:
    """JSON has no infinity."""
    one = watch(IDLE, ScriptedSensors(seconds=math.inf), passing)
    one.look()
    told = one.measured()
    assert (told["input"], told["idle_seconds"]) == ("nobody is logged in (a script)", None)
    one = watch(IDLE, ScriptedSensors(seconds=None, problem="no way"), passing)
    one.look()
    assert one.measured()["input"] == "cannot be seen: no way"
