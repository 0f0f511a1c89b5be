"""Which way to learn the idle time works here, and what it says now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from intertie.agent.idle import place, windows
from intertie.agent.idle.logind import Logind
from intertie.agent.idle.macos import Registry
from intertie.agent.idle.mutter import Mutter
from intertie.agent.idle.source import Sample, Source
from intertie.agent.idle.terminals import Terminals
from intertie.agent.idle.wayland import Wayland
from intertie.agent.idle.windows import LastInput
from intertie.agent.idle.x11 import Screen
from intertie.agent.machine.unreadable import Unreadable

LOOK_AGAIN: Final = 15.0
"""Seconds after which better ways are tried again: people log in after a machine starts."""

Maker = Callable[[], Source]


class Found(NamedTuple):
    """A sample and the way it came."""

    way: str
    sample: Sample
    pace: float
    """Seconds until it is worth asking again."""


def ways() -> tuple[tuple[str, Maker], ...]:
    """The ways of this system, best first, with the names they go by while they do not work."""
    if sys.platform == "win32":
        return ((LastInput.way, lambda: LastInput(windows.User32())),)
    elif sys.platform == "darwin":
        return ((Registry.way, Registry),)
    elif place.subsystem():
        return (("Windows Subsystem for Linux", _subsystem),)
    else:
        return (
            (Mutter.way, Mutter),
            (Wayland.way, Wayland),
            (Screen.way, Screen),
            (Logind.way, Logind),
            (Terminals.way, Terminals),
        )


class Chooser:
    """Keeps the best way that works open. Used by one thread."""

    def __init__(self, makers: Sequence[tuple[str, Maker]] | None = None) -> None:
        self._makers = tuple(ways() if makers is None else makers)
        self._source: Source | None = None
        self._rank = len(self._makers)
        self._looked: float | None = None
        self.tried: dict[str, str] = {}
        """Ways that are better than the one in use, or all if there is none, and why they do not work."""

    def read(self, now: float) -> Found:
        """What the best way that works says. Raises `Unreadable` if none does."""
        due = self._looked is None or now - self._looked >= LOOK_AGAIN
        if self._source is not None and not due:
            try:
                return Found(self._source.way, self._source.read(), self._source.pace)
            except Unreadable as error:
                self.tried[self._source.way] = str(error)
                self._drop()
        elif self._source is None and not due:
            raise Unreadable(self._why())
        return self._look(now)

    def close(self) -> None:
        """Lets go of the way in use."""
        self._drop()

    def _look(self, now: float) -> Found:
        """Tries the ways in their order; the one in use is not made anew."""
        self._looked = now
        self.tried = {}
        for rank, (way, maker) in enumerate(self._makers):
            source = self._source if rank == self._rank else None
            try:
                source = source or maker()
                sample = source.read()
            except Unreadable as error:
                self.tried[way] = str(error)
                if source is not None:
                    source.close()
                if rank == self._rank:
                    self._source, self._rank = None, len(self._makers)
                continue
            if source is not self._source:
                self._drop()
                self._source, self._rank = source, rank
            return Found(source.way, sample, source.pace)
        self._drop()
        raise Unreadable(self._why())

    def _drop(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source, self._rank = None, len(self._makers)

    def _why(self) -> str:
        """What the last resort says: it knows that nothing better worked, and what to do."""
        return next(reversed(self.tried.values()), "there is no way to learn it on this system")


def _subsystem() -> Source:
    raise Unreadable(
        "inside the Windows Subsystem for Linux nobody sees Windows' input; run the agent on Windows itself, "
        "or wish mode always with hours"
    )
