"""What is made of NVIDIA's answers; `Library` has the calls of pynvml and the errors that its reference names."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from intertie.agent.machine.nvidia import Cards
from intertie.agent.machine.unreadable import Unreadable


class Sample(NamedTuple):
    """nvmlProcessUtilizationSample_t."""

    pid: int
    timeStamp: int  # noqa: N815
    smUtil: int  # noqa: N815


class Rates(NamedTuple):
    """nvmlUtilization_t."""

    gpu: int


class Library:
    """A pynvml with two cards."""

    NVML_ERROR_NOT_FOUND = 6

    class NVMLError(Exception):
        """As pynvml raises it."""

        def __init__(self, value: int) -> None:
            super().__init__(f"error {value}")
            self.value = value

    def __init__(self, samples: dict[int, Any] | None = None, *, cards: int = 2, broken: int = 0) -> None:
        self.samples = samples or {}
        self.cards = cards
        self.broken = broken
        self.asked: list[tuple[int, int]] = []

    def nvmlInit(self) -> None:
        if self.broken == 12:
            raise self.NVMLError(12)

    def nvmlDeviceGetCount(self) -> int:
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetProcessUtilization(self, card: int, since: int) -> list[Sample]:
        self.asked.append((card, since))
        found = self.samples.get(card, self.NVML_ERROR_NOT_FOUND)
        if isinstance(found, int):
            raise self.NVMLError(found)
        return list(found)

    def nvmlDeviceGetUtilizationRates(self, card: int) -> Rates:
        if self.broken:
            raise self.NVMLError(self.broken)
        return Rates((40, 7)[card])

    def nvmlDeviceGetTemperature(self, card: int, sensor: int) -> int:
        if self.broken or sensor:
            raise self.NVMLError(self.broken)
        return (61, 74)[card]


def test_use_is_told_by_card_and_process() -> None:
    """The highest of a process' samples since the last look; a card nobody used has none."""
    library = Library({0: [Sample(10, 100, 20), Sample(10, 200, 35), Sample(11, 150, 101)]})
    cards = Cards(library)
    assert cards.by_process() == [{10: 0.35, 11: 1.0}, {}]
    cards.by_process()
    assert library.asked == [(0, 0), (1, 0), (0, 200), (1, 0)]


def test_the_whole_use_and_heat_are_those_of_the_busiest_and_the_hottest_card() -> None:
    """Two cards, one of them idle."""
    cards = Cards(Library())
    assert (cards.whole(), cards.temperature()) == (0.4, 74.0)


@pytest.mark.parametrize("library", [Library(broken=12), Library(cards=0)])
def test_a_machine_without_cards_says_so(library: Library) -> None:
    """No driver, or nothing in it."""
    with pytest.raises(Unreadable):
        Cards(library)


def test_what_a_driver_does_not_tell_is_said() -> None:
    """Not supported is no zero."""
    cards = Cards(Library({0: 3}, broken=3))
    for ask in (cards.by_process, cards.whole, cards.temperature):
        with pytest.raises(Unreadable, match="does not tell"):
            ask()


def test_a_machine_without_the_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional in the agent."""
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(Unreadable, match="nvidia-ml-py is not installed"):
        Cards()
