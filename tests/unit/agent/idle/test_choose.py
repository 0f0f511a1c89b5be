"""Which way is used, and when another one takes its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from intertie.agent.idle.choose import LOOK_AGAIN, Chooser, ways
from intertie.agent.idle.source import Sample
from intertie.agent.machine.unreadable import Unreadable


class Way:
    """A way whose working can be switched."""

    pace = 0.5

    def __init__(self, way: str, seconds: float, *, works: bool = True) -> None:
        self.way = way
        self.seconds = seconds
        self.works = works
        self.made = 0
        self.open = False

    def make(self) -> Way:
        """What the chooser calls."""
        if not self.works:
            raise Unreadable(f"{self.way} does not work")
        self.made += 1
        self.open = True
        return self

    def read(self) -> Sample:
        if not self.works:
            raise Unreadable(f"{self.way} broke")
        return Sample(self.seconds)

    def close(self) -> None:
        self.open = False


def chooser(*all_ways: Way) -> Chooser:
    """Over these, best first."""
    makers: list[tuple[str, Callable[[], Way]]] = [(way.way, way.make) for way in all_ways]
    return Chooser(makers)


def test_the_first_way_that_works_is_used_and_kept() -> None:
    """What was tried before it is remembered for the doctor; what comes after it is left alone."""
    one, two, three = Way("one", 1, works=False), Way("two", 2), Way("three", 3)
    made = chooser(one, two, three)
    for now in (0.0, 0.5, 1.0):
        found = made.read(now)
        assert (found.way, found.sample.seconds, found.pace) == ("two", 2, 0.5)
    assert made.tried == {"one": "one does not work"}
    assert (two.made, three.made) == (1, 0)
    made.close()
    assert not two.open


def test_a_better_way_is_found_later() -> None:
    """Somebody logs in: then their session tells more than the system."""
    one, two = Way("one", 1, works=False), Way("two", 2)
    made = chooser(one, two)
    made.read(0.0)
    one.works = True
    assert made.read(LOOK_AGAIN - 0.1).way == "two"
    assert made.read(LOOK_AGAIN).way == "one"
    assert (one.open, two.open) == (True, False)


def test_a_way_that_breaks_is_replaced_within_the_same_reading() -> None:
    """They log out."""
    one, two = Way("one", 1), Way("two", 2)
    made = chooser(one, two)
    made.read(0.0)
    one.works = False
    assert made.read(0.5).way == "two"
    assert (one.open, two.open) == (False, True)
    assert made.tried == {"one": "one does not work"}


def test_a_way_that_breaks_while_others_are_looked_at_is_replaced_too() -> None:
    """And the way in use is not made twice."""
    one, two = Way("one", 1), Way("two", 2)
    made = chooser(one, two)
    made.read(0.0)
    made.read(LOOK_AGAIN)
    assert one.made == 1
    one.works = False
    assert made.read(3 * LOOK_AGAIN).way == "two"
    assert not one.open


def test_nothing_works_and_the_last_resort_says_what_to_do() -> None:
    """Without trying again twice a second."""
    one, two = Way("one", 1, works=False), Way("two", 2, works=False)
    made = chooser(one, two)
    for now in (0.0, 0.5):
        with pytest.raises(Unreadable, match=r"^two does not work$"):
            made.read(now)
    two.works = True
    with pytest.raises(Unreadable):
        made.read(1.0)
    assert made.read(LOOK_AGAIN).way == "two"


def test_a_system_without_ways_says_so() -> None:
    """Rather than nothing."""
    with pytest.raises(Unreadable, match="there is no way to learn it"):
        Chooser(()).read(0.0)


@pytest.mark.parametrize(
    ("system", "names"),
    [
        ("win32", ["GetLastInputInfo"]),
        ("darwin", ["ioreg HIDIdleTime"]),
        (
            "linux",
            ["GNOME's idle monitor", "Wayland's idle notifications", "X screen saver", "systemd-logind", "terminals"],
        ),
    ],
)
def test_each_system_has_its_ways(monkeypatch: pytest.MonkeyPatch, system: str, names: list[str]) -> None:
    """Best first."""
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("intertie.agent.idle.place.subsystem", lambda: False)
    assert [name for name, _ in ways()] == names


def test_the_subsystem_for_linux_sees_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its X server would: it is idle while its owner works in Windows."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("intertie.agent.idle.place.subsystem", lambda: True)
    with pytest.raises(Unreadable, match="run the agent on Windows itself"):
        Chooser().read(0.0)
