"""How hot the machine is: its GPU, or its processor where no GPU tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from intertie.agent.machine.nvidia import Cards
from intertie.agent.machine.unreadable import Unreadable

SYS: Final = Path("/sys")
_PROCESSORS: Final = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})


class Heat(NamedTuple):
    """Degrees Celsius, and of what."""

    celsius: float
    what: str


class Thermometer:
    """Asks the first source that works; used by one thread."""

    def __init__(self, *, cards: Callable[[], Cards] = Cards, sys: Path = SYS) -> None:
        self._sys = sys
        try:
            self._cards: Cards | None = cards()
        except Unreadable:
            self._cards = None

    def read(self) -> Heat:
        """The hottest part that works for us. Raises `Unreadable`."""
        if self._cards is not None:
            try:
                return Heat(self._cards.temperature(), "NVIDIA GPU")
            except Unreadable:
                pass
        found = (
            _hottest(self._sys.glob("class/drm/card*/device/hwmon/hwmon*/temp1_input"), "GPU")
            or _hottest(
                (
                    path
                    for chip in self._sys.glob("class/hwmon/hwmon*")
                    if _word(chip / "name") in _PROCESSORS
                    for path in chip.glob("temp*_input")
                ),
                "processor",
            )
            or _hottest(self._sys.glob("class/thermal/thermal_zone*/temp"), "warmest zone")
        )
        if found is None:
            raise Unreadable(
                "neither NVIDIA's library nor Linux' sensors tell it; take max_temperature out of the wishes"
            )
        return found


def _hottest(paths: Iterable[Path], what: str) -> Heat | None:
    """The highest of some files in thousandths of a degree; what cannot be read is left out."""
    values = [int(word) for path in paths if (word := _word(path)).lstrip("-").isdigit()]
    return Heat(max(values) / 1000, what) if values else None


def _word(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
