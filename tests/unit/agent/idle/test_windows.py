"""Windows' last input. Shapes: LASTINPUTINFO, GetTickCount and ProcessIdToSessionId in Microsoft's reference."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from intertie.agent.idle.windows import LastInput
from intertie.agent.machine.unreadable import Unreadable


@dataclass
class Calls:
    """A Windows."""

    now: int
    last: int
    number: int = 1

    def session(self) -> int:
        return self.number

    def ticks(self) -> int:
        return self.now

    def last_input(self) -> int:
        return self.last


@pytest.mark.parametrize(
    ("now", "last", "seconds"),
    [
        (5_000, 5_000, 0.0),
        (605_000, 5_000, 600.0),
        (1_000, 0xFFFFFFFF - 8_999, 10.0),  # the count began anew in between
        (0, 0xFFFFFFFF, 0.001),
        (5_000, 5_016, 0.0),  # stamped a little later than the count: no idleness of 49 days
        (3_000_000_000, 0, 3_000_000.0),
    ],
)
def test_ticks_begin_anew_every_49_days(now: int, last: int, seconds: float) -> None:
    """Right across that, and never long because of rounding."""
    assert LastInput(Calls(now, last)).read().seconds == seconds


def test_a_service_is_told_to_become_a_task() -> None:
    """Session 0 sees nobody ever, which would look like an idle machine."""
    with pytest.raises(Unreadable, match="install it as the per-user task"):
        LastInput(Calls(0, 0, number=0))
