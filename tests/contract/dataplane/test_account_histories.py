"""S11, T52, T57: ten thousand histories of calls, failures, crashes, changed limits and clocks that jump.

At every moment spent plus reserved is within the cap, to the unit what the books say, and nothing is held for nobody.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.dataplane.histories import Tape, World

HISTORIES = 10_000


def test_ten_thousand_histories_pass_no_cap_and_leave_nothing_held() -> None:
    """All levels, measures and windows, with hedges and copies; a history that fails is shrunk to its shortest."""
    seen: Counter[str] = Counter()

    @settings(max_examples=HISTORIES)
    @given(st.binary(min_size=40, max_size=220))
    def histories(raw: bytes) -> None:
        world = World(Tape(raw))
        while not world.tape.over:
            world.step()
            world.check()
        world.end()
        world.check()
        world.check_end()
        world.seen["history"] = 1
        seen.update(world.seen)

    histories()
    assert seen["history"] >= HISTORIES
    kinds = ("attempt", "hedge", "refused", "boundary", "jump", "crash", "change")
    assert all(seen[kind] > HISTORIES // 20 for kind in kinds), seen
