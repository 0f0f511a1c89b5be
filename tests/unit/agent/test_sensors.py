"""What is read for which wishes, and that nothing a driver does comes through."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from intertie.agent import sensors
from intertie.agent.eligibility import Thing
from intertie.agent.idle.choose import Found
from intertie.agent.idle.source import Sample
from intertie.agent.machine import battery, programs
from intertie.agent.machine.graphics import Use
from intertie.agent.machine.programs import Running
from intertie.agent.machine.temperature import Heat
from intertie.agent.machine.unreadable import Unreadable
from intertie.agent.sensors import STALE, MachineSensors, Rest
from intertie.agent.wishes import Mode, Wishes

EVERYTHING = Wishes(mode=Mode.IDLE, programs=("x",), max_temperature=80.0)


class Chooser:
    """Gives what it was made with, or raises it."""

    def __init__(self, found: Found | Exception) -> None:
        self._found = found
        self.tried = {"a way": "why not"}

    def read(self, now: float) -> Found:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def fail(*_: object) -> NoReturn:
    """A driver with a fault of its own."""
    raise ZeroDivisionError


class Fine:
    """A graphics card and a thermometer."""

    def others(self, own: set[int], *, serving: bool, now: float) -> Use:
        return Use(0.25 if own == {7} and serving else 0.0, "x")

    def read(self) -> Heat:
        return Heat(50.0, "GPU")


def made(found: Any = None) -> MachineSensors:
    """Over a scripted chooser."""
    return MachineSensors(Chooser(found or Found("a way", Sample(5.0, "a note"), 0.5)))  # type: ignore[arg-type]


def test_input_comes_with_how_it_was_learnt() -> None:
    """Or with why not; a fault in a reader is told as one."""
    assert made().input(0.0) == (5.0, "a way", "a note", "", 0.5)
    assert made().input(0.0).spelt() == "5 s without input (a way; a note)"
    assert made(Unreadable("no way")).input(0.0).problem == "no way"
    assert made(ZeroDivisionError()).input(0.0).problem == "its reader failed (ZeroDivisionError); please report it"
    assert made().tried() == {"a way": "why not"}


def test_only_what_a_wish_is_about_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers are not loaded for nothing."""
    monkeypatch.setattr(battery, "on_battery", lambda: True)
    for module, name in ((programs, "running"), (sensors, "Graphics"), (sensors, "Thermometer")):
        monkeypatch.setattr(module, name, fail)
    rest = made().rest(Wishes(), fail, fail, 3.0)
    assert rest == Rest(Wishes(), True, None, frozenset(), None, {}, 3.0)


def test_everything_is_read_if_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the runtimes' processes, and whether they work for us."""
    monkeypatch.setattr(battery, "on_battery", lambda: False)
    monkeypatch.setattr(programs, "running", lambda: Running(frozenset({"a"}), "others are hidden"))
    monkeypatch.setattr(sensors, "Graphics", Fine)
    monkeypatch.setattr(sensors, "Thermometer", Fine)
    rest = made().rest(EVERYTHING, lambda: {7}, lambda: 2, 3.0)
    assert rest == Rest(
        EVERYTHING,
        False,
        Use(0.25, "x"),
        frozenset({"a"}),
        Heat(50.0, "GPU"),
        {Thing.PROGRAMS: "others are hidden"},
        3.0,
    )


def test_no_failure_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told where its value would be."""
    for module, name in (
        (battery, "on_battery"), (programs, "running"), (sensors, "Graphics"), (sensors, "Thermometer")
    ):  # fmt: skip
        monkeypatch.setattr(module, name, fail)
    rest = made().rest(EVERYTHING, set, lambda: 0, 0.0)
    assert (rest.on_battery, rest.gpu, rest.programs, rest.heat) == (None, None, frozenset(), None)
    assert set(rest.unreadable) == {Thing.BATTERY, Thing.GPU, Thing.PROGRAMS, Thing.TEMPERATURE}
    assert "ZeroDivisionError" in rest.unreadable[Thing.GPU]


def test_a_reading_that_is_old_says_nothing_any_more() -> None:
    """A driver hangs; what was seen running is still believed."""
    rest = Rest(EVERYTHING, False, Use(0.0, "x"), frozenset({"a"}), Heat(50.0, "GPU"), {}, 10.0)
    assert rest.as_of(10.0 + STALE - 1) is rest
    old = rest.as_of(10.0 + STALE)
    assert (old.on_battery, old.gpu, old.heat, old.programs) == (None, None, None, frozenset({"a"}))
    assert "has not answered for 30 s" in old.unreadable[Thing.TEMPERATURE]
