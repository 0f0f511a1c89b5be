"""Who uses the GPU. AMD: gpu_busy_percent of the kernel's amdgpu documentation. Apple: what ioreg shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from intertie.agent.machine.graphics import QUIET, Graphics, Use, from_drm, from_ioreg
from intertie.agent.machine.unreadable import Unreadable


class Cards:
    """NVIDIA's cards, as told."""

    def __init__(self, by_process: list[dict[int, float]] | None, whole: float = 0.0) -> None:
        self._by_process = by_process
        self._whole = whole

    def by_process(self) -> list[dict[int, float]]:
        if self._by_process is None:
            raise Unreadable("no")
        return self._by_process

    def whole(self) -> float:
        return self._whole


def none() -> Any:
    """A machine without NVIDIA's cards."""
    raise Unreadable("no")


def process(proc: Path, pid: int, name: str, parent: int) -> None:
    """One entry of /proc; the name in `stat` may hold brackets and spaces."""
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "comm").write_text(name + "\n")
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} {pid} {pid} 0 -1\n")


@pytest.fixture
def graphics(tmp_path: Path) -> Any:
    """Makes a `Graphics` over the given cards and a small machine."""
    process(tmp_path, 10, "python3", 1)  # a runtime that listens
    process(tmp_path, 11, "odd) S 1 (name", 10)  # its worker
    process(tmp_path, 20, "ollama", 1)  # of another user, so its port is not seen
    process(tmp_path, 30, "blender", 29)  # somebody else's
    return lambda cards: Graphics(cards=lambda: cards, drm=tmp_path / "drm", proc=tmp_path)


def test_a_runtime_its_workers_and_known_names_are_not_others(graphics: Any) -> None:
    """What is left is the owner's, or nobody's."""
    used = graphics(Cards([{10: 0.2, 11: 0.5, 20: 0.1, 30: 0.12}, {30: 0.05}])).others({10}, serving=True, now=0.0)
    assert used == Use(0.12, "NVIDIA's library, by process")
    assert graphics(Cards([{}, {}])).others({10}, serving=False, now=0.0).share == 0.0


def test_several_programs_on_one_card_add_up(graphics: Any) -> None:
    """To the whole card at most."""
    assert graphics(Cards([{30: 0.7, 31: 0.6}])).others(set(), serving=False, now=0.0).share == 1.0


def test_a_runtime_in_a_container_is_not_taken_for_the_owner(graphics: Any) -> None:
    """While it works for us, a stranger on the card may well be it; afterwards it is not."""
    one = graphics(Cards([{77: 0.9}]))
    assert one.others({10}, serving=True, now=0.0).share is None
    assert one.others({10}, serving=False, now=QUIET - 1).share is None
    assert one.others({10}, serving=False, now=QUIET).share == 0.9


def test_a_card_that_only_tells_its_whole_use_is_asked_while_we_are_quiet(graphics: Any) -> None:
    """Else that use is ours."""
    one = graphics(Cards(None, 0.3))
    assert one.others(set(), serving=False, now=0.0).share == 0.3
    assert one.others(set(), serving=True, now=1.0).share is None
    assert one.others(set(), serving=False, now=1.0 + QUIET).share == 0.3


def test_amd_tells_its_whole_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file per card; outlets are no cards."""
    monkeypatch.setattr(sys, "platform", "linux")
    for name, text in (("card0", "7\n"), ("card1", "64\n"), ("card2", "odd")):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "device/gpu_busy_percent").write_text(text)
    (tmp_path / "card0-HDMI-A-1").mkdir()
    assert from_drm(tmp_path) == [0.07, 0.64]
    one = Graphics(cards=none, drm=tmp_path)
    assert one.others(set(), serving=False, now=0.0).share == 0.64
    assert one.others(set(), serving=True, now=0.0).share is None


def test_no_card_and_a_card_that_tells_nothing_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is fine, the other is said."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert Graphics(cards=none, drm=tmp_path).others(set(), serving=False, now=0.0) == Use(None, "there is no GPU")
    (tmp_path / "card0").mkdir()
    with pytest.raises(Unreadable, match="tells no use"):
        Graphics(cards=none, drm=tmp_path).others(set(), serving=False, now=0.0)


def test_apple_tells_its_whole_use() -> None:
    """Inside one long line."""
    line = '"PerformanceStatistics" = {"In use system memory"=1,"Device Utilization %"=38,"Renderer Utilization %"=3}'
    assert from_ioreg(f"+-o AGXAcceleratorG14X\n    {line}\n") == 0.38
    with pytest.raises(Unreadable):
        from_ioreg("+-o AGXAcceleratorG14X\n")
