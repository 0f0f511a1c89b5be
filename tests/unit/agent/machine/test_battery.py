"""Where the power comes from, from what each system says.

Linux: Documentation/ABI/testing/sysfs-class-power of the kernel. macOS: output of `pmset -g batt` as it stands in bug
reports. Windows: ACLineStatus of SYSTEM_POWER_STATUS in Microsoft's reference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from intertie.agent.machine.battery import from_line_status, from_pmset, from_supplies
from intertie.agent.machine.unreadable import Unreadable

LAPTOP = {"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Charging"}}
UNPLUGGED = {"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Discharging"}}
MOUSE = {"hidpp_battery_0": {"type": "Battery", "scope": "Device", "status": "Discharging"}}
USB_C = {"ucsi-1": {"type": "USB", "online": "1"}, "BAT0": {"type": "Battery", "status": "Discharging"}}
FULL = {"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Full"}}
UPS = {"hid-ups": {"type": "UPS", "status": "Discharging", "scope": "System"}}


@pytest.mark.parametrize(
    ("supplies", "battery"),
    [
        (LAPTOP, False), (UNPLUGGED, True), (MOUSE, False), ({**LAPTOP, **MOUSE}, False), (USB_C, False),
        (FULL, False), (UPS, True), ({}, False), ({"odd": {}}, False),
    ],
)  # fmt: skip
def test_linux_lists_its_supplies(tmp_path: Path, supplies: dict[str, dict[str, str]], *, battery: bool) -> None:
    """A mouse's battery does not power the machine."""
    for name, files in supplies.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text + "\n")
    assert from_supplies(tmp_path) is battery


def test_a_machine_without_the_list_has_no_battery(tmp_path: Path) -> None:
    """As in many virtual ones."""
    assert from_supplies(tmp_path / "power_supply") is False


def test_a_list_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Here, because it is no folder."""
    (tmp_path / "power_supply").write_text("")
    with pytest.raises(Unreadable, match="cannot be read"):
        from_supplies(tmp_path / "power_supply")


@pytest.mark.parametrize(
    ("text", "battery"),
    [
        (
            "Now drawing from 'AC Power'\n -InternalBattery-0 (id=1)\t85%; charged; 0:00 remaining present: true\n",
            False,
        ),
        ("Now drawing from 'AC Power'\n", False),
        ("Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t19%; discharging; 1:02 remaining\n", True),
        ("Now drawing from 'UPS Power'\n -Back-UPS (id=2)\t100%; discharging\n", True),
    ],
)
def test_macos_names_the_source_first(text: str, *, battery: bool) -> None:
    """Desktops have no second line."""
    assert from_pmset(text) is battery


def test_macos_may_say_nothing() -> None:
    """Then nobody knows."""
    with pytest.raises(Unreadable):
        from_pmset("Currently in use:\n")


def test_windows_has_three_answers() -> None:
    """One of them is that it does not know."""
    assert [from_line_status(0), from_line_status(1)] == [True, False]
    with pytest.raises(Unreadable):
        from_line_status(255)
