"""How much of a GPU programs other than the owner's runtimes use.

Where the driver says who uses the card (NVIDIA), the runtimes' own processes, their children and their known names are
left out. Elsewhere only the card's whole use is known, which says something about others only while nothing is served.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from intertie.agent.machine.command import output
from intertie.agent.machine.nvidia import Cards
from intertie.agent.machine.programs import PROC, comm
from intertie.agent.machine.unreadable import Unreadable

DRM: Final = Path("/sys/class/drm")
QUIET: Final = 10.0
"""Seconds after our own last answer during which a card's whole use may still be ours."""
RUNTIMES: Final = ("ollama", "llama-server", "llama_server", "vllm", "sglang", "text-generation", "lm studio", "lms")
"""How the processes of runtimes begin, in small letters: those of other users and of containers show no port."""
_APPLE: Final = re.compile(r'"Device Utilization %"=(\d+)')
_GENERATIONS: Final = 12


class Use(NamedTuple):
    """Share of the busiest card used by others; None if only we can have used it lately, or if there is no card."""

    share: float | None
    how: str


class Graphics:
    """Asks the first source that works; used by one thread."""

    def __init__(self, *, cards: Callable[[], Cards] = Cards, drm: Path = DRM, proc: Path = PROC) -> None:
        self._proc = proc
        self._drm = drm
        self._served_at: float | None = None
        try:
            self._cards: Cards | None = cards()
        except Unreadable:
            self._cards = None

    def others(self, own: set[int], *, serving: bool, now: float) -> Use:
        """What others use. `own` are processes of the runtimes, `serving` says they work for us now.

        Raises `Unreadable`.
        """
        if serving:
            self._served_at = now
        ours = self._served_at is not None and now - self._served_at < QUIET
        if self._cards is not None:
            try:
                return self._told(self._cards.by_process(), own, ours=ours)
            except Unreadable:
                how = "NVIDIA's library, the card's whole use"
                return Use(None, f"{how}: it works for us") if ours else Use(self._cards.whole(), how)
        return self._whole(ours=ours)

    def _told(self, cards: list[dict[int, float]], own: set[int], *, ours: bool) -> Use:
        how = "NVIDIA's library, by process"
        foreign = [{pid: share for pid, share in card.items() if not self._is_own(pid, own)} for card in cards]
        recognised = any(len(others) < len(card) for others, card in zip(foreign, cards, strict=True))
        if ours and not recognised and any(foreign):
            # A runtime in a container looks like anybody's program; while it works for us nobody can tell.
            return Use(None, f"{how}: the runtime's own process is not known while it works for us")
        return Use(min(max((sum(card.values()) for card in foreign), default=0.0), 1.0), how)

    def _is_own(self, pid: int, own: set[int]) -> bool:
        if comm(self._proc / str(pid)).lower().startswith(RUNTIMES):
            return True
        for _ in range(_GENERATIONS):
            if pid in own:
                return True
            pid = self._parent(pid)
            if pid <= 1:
                return False
        return False

    def _parent(self, pid: int) -> int:
        try:
            # The name stands in brackets and may hold anything, so what counts follows the last one.
            return int((self._proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return 0

    def _whole(self, *, ours: bool) -> Use:
        if sys.platform == "win32":
            raise Unreadable("Windows is asked through NVIDIA's library only, which does not answer")
        if sys.platform == "darwin":
            how = "ioreg, the GPU's whole use"
            if ours:
                return Use(None, f"{how}: it works for us")
            return Use(from_ioreg(output(["/usr/sbin/ioreg", "-r", "-c", "IOAccelerator", "-d", "1", "-w", "0"])), how)
        else:
            how = "Linux' gpu_busy_percent, the card's whole use"
            shares = from_drm(self._drm)
            if shares:
                return Use(None, f"{how}: it works for us") if ours else Use(max(shares), how)
            if cards_listed(self._drm):
                raise Unreadable("the GPU's driver tells no use (Intel, or NVIDIA without its library)")
            return Use(None, "there is no GPU")


def from_drm(folder: Path) -> list[float]:
    """Shares 0 to 1 by card, from the files of Linux' amdgpu driver."""
    shares = []
    for file in sorted(folder.glob("card*/device/gpu_busy_percent")):
        try:
            shares.append(min(int(file.read_text()), 100) / 100)
        except (OSError, ValueError):
            continue
    return shares


def cards_listed(folder: Path) -> bool:
    """True if Linux knows some card, whoever made it."""
    return any(re.fullmatch(r"card\d+", path.name) for path in folder.glob("card*"))


def from_ioreg(text: str) -> float:
    """Share 0 to 1 of macOS' busiest accelerator. Raises `Unreadable`."""
    found = [int(share) for share in _APPLE.findall(text)]
    if not found:
        raise Unreadable("ioreg told no use of the GPU")
    return min(max(found), 100) / 100
