"""What every way to learn the idle time is."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Sample(NamedTuple):
    """One measurement."""

    seconds: float
    """Since the last input; infinite where nobody is there to give any."""
    note: str = ""
    """What its reader should know about it, if anything."""


class Source(Protocol):
    """A way that works here. Making one raises `Unreadable` where it does not."""

    way: str
    """Its name, as shown to owners."""
    pace: float
    """Seconds between two readings: as often as is cheap, at most a second."""

    def read(self) -> Sample:
        """The idle time now. Blocks for at most a moment. Raises `Unreadable`; it is then closed and made anew."""

    def close(self) -> None:
        """Lets go of what it holds."""
