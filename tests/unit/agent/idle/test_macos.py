"""macOS' HID idle time. Shape: output of `ioreg -c IOHIDSystem` as it stands in public scripts and bug reports."""

from __future__ import annotations

import pytest

from intertie.agent.idle.macos import Registry
from intertie.agent.machine.unreadable import Unreadable

TREE = """\
+-o Root  <class IORegistryEntry, id 0x100000100, retain 11>
  +-o J314sAP  <class IOPlatformExpertDevice, id 0x10000021f, registered, matched, active, busy 0 (12 ms), retain 39>
    +-o IOResources  <class IOResources, id 0x10000010e, registered, matched, active, busy 0 (2 ms), retain 78>
      +-o IOHIDSystem  <class IOHIDSystem, id 0x1000004b8, registered, matched, active, busy 0 (0 ms), retain 25>
        | {
        |   "IOClass" = "IOHIDSystem"
        |   "HIDScrollCountMaxTimeDeltaBetween" = 600
        |   "HIDIdleTime" = 4123456789
        |   "HIDParameters" = {"HIDClickTime"=500000000}
        | }
"""


def test_nanoseconds_become_seconds() -> None:
    """The smallest, if several are shown."""
    assert Registry(lambda: TREE).read().seconds == pytest.approx(4.123456789)
    assert Registry(lambda: TREE + TREE.replace("4123456789", "21000000")).read().seconds == pytest.approx(0.021)


@pytest.mark.parametrize("text", ["", TREE.replace("HIDIdleTime", "HIDOther")])
def test_a_machine_without_it_says_what_to_do(text: str) -> None:
    """A virtual one has no keyboard."""
    with pytest.raises(Unreadable, match="wish mode always"):
        Registry(lambda: text).read()
