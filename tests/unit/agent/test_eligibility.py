"""When a machine serves: every transition, and the reason that is shown for each state."""

from __future__ import annotations

import math
from typing import Any

import pytest

from intertie.agent.eligibility import DWELL, Eligibility, Readings, Standing, Thing, plain, runs
from intertie.agent.wishes import Mode, Wishes
from intertie.core.wire.link import Serving

IDLE = Wishes(mode=Mode.IDLE)
AWAY: dict[str, Any] = {"idle_seconds": 700.0, "weekday": 2, "minute": 720}
SERVING, WAIT, YIELDING = Serving.SERVING, Serving.IDLE_WAIT, Serving.YIELDING


def readings(**changed: Any) -> Readings:
    """The owner is away, everything else is fine; Wednesday noon."""
    return Readings(**{**AWAY, **changed})


class Machine:
    """An `Eligibility` and its clock."""

    def __init__(self, wishes: Wishes, **first: Any) -> None:
        self.now = 0.0
        self.eligibility = Eligibility(wishes, 0.0)
        self.standing = self.after(0, **first)

    def after(self, seconds: float, **changed: Any) -> Standing:
        """The standing after so long, with these readings."""
        self.now += seconds
        self.standing = self.eligibility.update(readings(**changed), self.now)
        return self.standing


def test_a_machine_that_serves_always_begins_at_once() -> None:
    """The first token must not wait for a dwell."""
    assert Machine(Wishes(), idle_seconds=0.0).standing == Standing(SERVING, "always on", 0.0)


def test_an_idle_machine_begins_at_once_too() -> None:
    """The owner has been away long enough already, and there is no GPU to wait for."""
    assert Machine(IDLE).standing == Standing(SERVING, "no input for 11 min", 0.0)


def test_a_machine_that_nobody_is_logged_in_to_is_idle() -> None:
    """Said as such."""
    assert Machine(IDLE, idle_seconds=math.inf).standing == Standing(SERVING, "nobody is logged in", 0.0)


def test_a_returning_owner_ends_it_at_once_and_running_answers_get_their_time() -> None:
    """SERVING, YIELDING, IDLE_WAIT, SERVING again after ten minutes without input."""
    machine = Machine(IDLE)
    back = machine.after(0.5, idle_seconds=0.2)
    assert back == Standing(YIELDING, "you are back: input 0.2 s ago; running answers may go on for 20 s", 0.5)
    assert machine.after(19.9, idle_seconds=3.0).state is YIELDING
    waiting = machine.after(0.1, idle_seconds=3.1)
    assert waiting == Standing(WAIT, "in use: input 3.1 s ago, serves after 10 min without", 20.5)
    assert machine.after(595, idle_seconds=598.1).state is WAIT
    assert machine.after(2, idle_seconds=600.1) == Standing(SERVING, "no input for 10 min", 617.5)


def test_an_owner_who_gives_no_time_gets_the_machine_at_once() -> None:
    """YIELDING is passed within one reading."""
    machine = Machine(Wishes(mode=Mode.IDLE, yield_seconds=0))
    assert machine.after(1, idle_seconds=0.1).state is YIELDING
    assert machine.after(0.5, idle_seconds=0.6).state is WAIT


def test_yielding_never_goes_back_to_serving() -> None:
    """Whatever the readings say: the running answers were told to end."""
    machine = Machine(Wishes(mode=Mode.IDLE, yield_seconds=60))
    machine.after(1, on_battery=True)
    assert machine.after(30) == Standing(YIELDING, "it just stopped serving; running answers may go on for 30 s", 1.0)
    assert machine.after(30).state is WAIT


BLOCKS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"hours": "sat-sun"}, {}, "outside the hours sat-sun: it is wed 12:00, they begin sat 00:00"),
    ({}, {"on_battery": True}, "on battery; plug it in, or wish on_battery"),
    ({"programs": ("Blender", "steam")}, {"programs": frozenset({"blender"})}, "Blender runs"),
    ({"programs": ("a", "b")}, {"programs": frozenset({"a", "b"})}, "a and b run"),
    ({"max_temperature": 80.0}, {"temperature": 80.0}, "80 °C, 80 °C is the limit"),
    (
        {"programs": ("steam",)},
        {"unreadable": {Thing.PROGRAMS: "no rights"}},
        "cannot see which programs run: no rights",
    ),
    (
        {"max_temperature": 80.0},
        {"temperature": None, "unreadable": {Thing.TEMPERATURE: "no sensor"}},
        "cannot read the temperature: no sensor",
    ),
]
IDLE_BLOCKS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    *BLOCKS,
    ({}, {"idle_seconds": 5.0}, "in use: input 5 s ago, serves after 10 min without"),
    (
        {},
        {"idle_seconds": None, "unreadable": {Thing.INPUT: "a service sees nobody; install the task"}},
        "cannot see whether the machine is in use: a service sees nobody; install the task",
    ),
    ({}, {"gpu_busy": 0.15}, "other programs use 15% of a GPU, 15% is the limit"),
    ({}, {"gpu_busy": 0.03}, "other programs use 3% of a GPU, below the limit for 0 s of 2 min"),
]


@pytest.mark.parametrize(
    ("mode", "wishes", "read", "reason"),
    [(Mode.ALWAYS, *case) for case in BLOCKS] + [(Mode.IDLE, *case) for case in IDLE_BLOCKS],
)
def test_a_wish_that_is_not_met_keeps_a_machine_from_serving(
    mode: Mode, wishes: dict[str, Any], read: dict[str, Any], reason: str
) -> None:
    """And says what was measured, or what to do."""
    assert Machine(Wishes(mode=mode, **wishes), **read).standing == Standing(WAIT, reason, 0.0)


@pytest.mark.parametrize(
    ("mode", "wishes", "read"),
    [(Mode.ALWAYS, *case[:2]) for case in BLOCKS if "hours" not in case[0]]
    + [(Mode.IDLE, *case[:2]) for case in IDLE_BLOCKS if "hours" not in case[0] and "gpu_busy" not in case[1]],
)
def test_a_wish_that_is_no_longer_met_ends_serving_at_once_and_for_a_minute(
    mode: Mode, wishes: dict[str, Any], read: dict[str, Any]
) -> None:
    """By way of yielding; when all is well again, only after the dwell."""
    machine = Machine(Wishes(mode=mode, **wishes), temperature=20.0)
    assert machine.standing.state is SERVING
    assert machine.after(1, **{"temperature": 20.0, **read}).state is YIELDING
    assert machine.after(20, temperature=20.0).state is WAIT
    assert machine.after(40, temperature=20.0).reason == "free again; it serves in 20 s if that lasts"
    assert machine.after(DWELL - 40, temperature=20.0).state is SERVING


def test_the_end_of_the_hours_ends_serving() -> None:
    """By the clock on the wall."""
    machine = Machine(Wishes(hours="mon-fri 9-17"), minute=16 * 60 + 59)
    assert machine.standing.state is SERVING
    assert machine.after(60, minute=17 * 60).state is YIELDING
    assert machine.after(20, minute=17 * 60).reason == (
        "outside the hours mon-fri 9-17: it is wed 17:00, they begin thu 09:00"
    )
    assert machine.after(60, weekday=3, minute=9 * 60).state is SERVING


@pytest.mark.parametrize(
    "read",
    [
        {"idle_seconds": 0.0},
        {"idle_seconds": None, "unreadable": {Thing.INPUT: "x"}},
        {"gpu_busy": 0.9},
        {"on_battery": None, "unreadable": {Thing.BATTERY: "x"}},
        {"programs": frozenset({"steam"})},
        {"temperature": 99.0},
    ],
)
def test_what_no_wish_is_about_does_not_matter(read: dict[str, Any]) -> None:
    """Mode always ignores input and GPU; mains power is taken for granted where nobody can tell."""
    assert Machine(Wishes(), **read).standing.state is SERVING


def test_an_owner_may_wish_to_serve_on_battery() -> None:
    """Then it does not matter."""
    assert Machine(Wishes(on_battery=True), on_battery=True).standing.state is SERVING


def test_the_gpu_must_have_been_left_alone_for_a_while() -> None:
    """One busy reading begins the wait anew; a reading that only saw our own work does not."""
    machine = Machine(IDLE, gpu_busy=0.0)
    machine.after(119, gpu_busy=0.14)
    assert machine.standing.state is WAIT
    assert machine.after(1, gpu_busy=0.0).state is SERVING
    assert machine.after(5, gpu_busy=None).state is SERVING
    assert machine.after(5, gpu_busy=0.5).state is YIELDING
    assert machine.after(20, gpu_busy=0.0).state is WAIT
    assert machine.after(119, gpu_busy=0.0).reason == (
        "other programs use 0% of a GPU, below the limit for 119 s of 2 min"
    )
    assert machine.after(1, gpu_busy=None).state is SERVING


def test_a_calm_under_a_laxer_limit_does_not_count_for_a_stricter_one() -> None:
    """The owner lowers the share: 10 % was calm before, and nobody knows since when it has been below 5 %."""
    machine = Machine(Wishes(mode=Mode.IDLE, gpu_busy_share=0.15), gpu_busy=0.1)
    assert machine.after(120, gpu_busy=0.1).state is SERVING
    machine.eligibility.wish(Wishes(mode=Mode.IDLE, gpu_busy_share=0.05))
    assert machine.after(1, gpu_busy=0.01).state is YIELDING
    assert machine.after(60, gpu_busy=0.01).state is WAIT
    assert machine.after(60, gpu_busy=0.01).state is SERVING


def test_a_machine_that_ran_hot_cools_down_first() -> None:
    """Its own work heated it, so the limit alone would make it flap."""
    machine = Machine(Wishes(max_temperature=80.0), temperature=79.0)
    assert machine.after(1, temperature=80.0).state is YIELDING
    machine.after(20, temperature=79.0)
    assert machine.after(100, temperature=79.0).reason == "79 °C, serves below 75 °C"
    assert machine.after(1, temperature=75.0).state is WAIT
    assert machine.after(1, temperature=74.9).state is SERVING


def test_every_reason_is_told_not_only_the_first() -> None:
    """So that mending one is not followed by a surprise."""
    machine = Machine(IDLE, idle_seconds=1.0, on_battery=True)
    assert machine.standing.reason == (
        "in use: input 1 s ago, serves after 10 min without; on battery; plug it in, or wish on_battery"
    )
    assert [block.thing for block in machine.eligibility.blocks] == [Thing.INPUT, Thing.BATTERY]


def test_new_wishes_hold_at_once_in_both_directions() -> None:
    """An owner who asks for something need not wait a minute for it."""
    machine = Machine(IDLE, idle_seconds=1.0)
    machine.eligibility.wish(Wishes())
    assert machine.after(0.1, idle_seconds=1.1).state is SERVING
    machine.eligibility.wish(IDLE)
    assert machine.after(0.1, idle_seconds=1.2).state is YIELDING
    machine.eligibility.wish(Wishes())
    assert machine.after(0.1, idle_seconds=1.3).state is YIELDING
    assert machine.after(20, idle_seconds=1.4).state is WAIT
    assert machine.after(1, idle_seconds=1.5).state is SERVING


@pytest.mark.parametrize(
    ("name", "running", "found"),
    [
        ("Steam.exe", {"steam"}, True),
        ("steam", {"steamwebhelper"}, False),
        ("a-very-long-program-name", {"a-very-long-pro"}, True),  # as Linux cuts it
        ("a-very-long-program-name", {"a-very-long-program-name"}, True),
        ("a-very-long-pro", {"a-very-long-pro"}, True),
        ("short", {"sho"}, False),
    ],
)
def test_programs_are_known_by_their_plain_names(name: str, running: set[str], *, found: bool) -> None:
    """Capitals and .exe do not matter, nor that Linux keeps fifteen bytes."""
    assert runs(name, frozenset(running)) is found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (r"C:\Games\Doom.EXE", "doom"),
        ("/Applications/Steam.app/Contents/MacOS/steam_osx", "steam_osx"),
        ("blender", "blender"),
    ],
)
def test_a_plain_name_has_no_folder(path: str, name: str) -> None:
    """On any system."""
    assert plain(path) == name
