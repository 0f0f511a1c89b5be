"""Load shedding: sustained lag shuts the door, hiccups do not (S9)."""

from __future__ import annotations

import sys

import pytest

from intertie.core.errors import Overloaded, ShuttingDown
from intertie.dataplane.shedding import LAG_LIMIT, LAG_WINDOW, MEMORY_LIMIT, Shedder, most_files


def watched(lags: list[float], memory: float = 0.0) -> Shedder:
    shedder = Shedder(lambda: 0, 0)
    for lag in lags:
        shedder.saw(lag)
    shedder.memory_share = memory
    shedder.saw(0.0)
    return shedder


def test_s9_a_few_late_ticks_are_forgiven_and_many_are_not() -> None:
    calm = [0.0] * LAG_WINDOW
    watched([*calm, 3 * LAG_LIMIT, 3 * LAG_LIMIT]).admit()
    with pytest.raises(Overloaded) as caught:
        watched([*calm, *[2 * LAG_LIMIT] * 8]).admit()
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 1


def test_s9_memory_near_its_limit_refuses_new_work() -> None:
    watched([], MEMORY_LIMIT - 0.01).admit()
    with pytest.raises(Overloaded):
        watched([], MEMORY_LIMIT + 0.01).admit()


def test_s12_a_draining_gateway_says_so() -> None:
    shedder = watched([])
    shedder.draining = True
    with pytest.raises(ShuttingDown):
        shedder.admit()


def test_a_process_asks_for_all_the_files_it_can_get() -> None:
    """A fleet of nodes needs more than the usual thousand."""
    if sys.platform == "win32":
        assert most_files() == 0
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        assert most_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
