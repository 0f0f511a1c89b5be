"""How hot the machine is. Linux: Documentation/hwmon/sysfs-interface, thousandths of a degree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intertie.agent.machine.temperature import Heat, Thermometer
from intertie.agent.machine.unreadable import Unreadable


class Cards:
    """NVIDIA's cards."""

    def __init__(self, celsius: float | None) -> None:
        self._celsius = celsius

    def temperature(self) -> float:
        if self._celsius is None:
            raise Unreadable("no")
        return self._celsius


def none() -> Any:
    """A machine without NVIDIA's cards."""
    raise Unreadable("no")


def files(folder: Path, texts: dict[str, str]) -> Path:
    """Files by path."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder


ZONE = {"class/thermal/thermal_zone0/temp": "27800"}
CPU = {**ZONE, "class/hwmon/hwmon1/name": "k10temp", "class/hwmon/hwmon1/temp1_input": "61250"}
DISK = {"class/hwmon/hwmon0/name": "nvme", "class/hwmon/hwmon0/temp1_input": "88000"}
AMD = {**CPU, "class/drm/card0/device/hwmon/hwmon2/temp1_input": "55000"}
ODD = {**AMD, "class/drm/card0/device/hwmon/hwmon2/temp1_input": "", "class/hwmon/hwmon1/temp2_input": "70000"}


@pytest.mark.parametrize(
    ("cards", "texts", "heat"),
    [
        (lambda: Cards(66.0), AMD, Heat(66.0, "NVIDIA GPU")),
        (lambda: Cards(None), AMD, Heat(55.0, "GPU")),
        (none, AMD, Heat(55.0, "GPU")),
        (none, {**CPU, **DISK}, Heat(61.25, "processor")),
        (none, ODD, Heat(70.0, "processor")),
        (none, {**ZONE, **DISK}, Heat(27.8, "warmest zone")),
    ],
)
def test_the_gpu_counts_then_the_processor(tmp_path: Path, cards: Any, texts: dict[str, str], heat: Heat) -> None:
    """A disk does not work for us."""
    assert Thermometer(cards=cards, sys=files(tmp_path, texts)).read() == heat


def test_a_machine_without_sensors_says_what_to_do(tmp_path: Path) -> None:
    """As in virtual ones."""
    with pytest.raises(Unreadable, match="take max_temperature out of the wishes"):
        Thermometer(cards=none, sys=tmp_path).read()
