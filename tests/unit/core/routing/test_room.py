"""A reading of a node's capacity."""

from __future__ import annotations

import pytest

from intertie.core.routing.room import Room


@pytest.mark.parametrize(
    ("free", "slots", "load", "full"), [(4, 4, 0.0, False), (1, 4, 0.75, False), (0, 4, 1.0, True), (0, 0, 1.0, True)]
)
def test_load_is_the_share_of_slots_in_use(free: int, slots: int, load: float, full: bool) -> None:
    """A node without slots is as busy as can be."""
    room = Room(open=True, free=free, slots=slots)
    assert (room.load, room.full) == (load, full)
