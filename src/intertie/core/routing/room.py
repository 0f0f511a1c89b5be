"""What is known right now about a node's capacity for one model."""

from __future__ import annotations

from typing import Final

import msgspec

OFFLINE: Final = "offline"
"""How the reason of a node without a link begins."""


class Room(msgspec.Struct, frozen=True):
    """A reading, good for this moment only. Absent for upstreams that are not nodes: their capacity is their affair."""

    open: bool
    """Its link is up and it takes work: the owner lets it, nobody drains it."""
    reason: str = ""
    """Why it is not open, for people: `offline since 12:03`, `the owner is using the machine`."""
    free: int = 0
    """Exchanges it would take at once: lanes parked, or still to be opened within its slots."""
    slots: int = 1
    warm: bool = True
    """The model is loaded."""
    decode: float | None = None
    """Measured output tokens per second of one stream."""

    @property
    def full(self) -> bool:
        """A further exchange would have to wait for a slot."""
        return self.free <= 0

    @property
    def load(self) -> float:
        """Share of its slots in use, 0 to 1."""
        return 1.0 - self.free / self.slots if self.slots > 0 else 1.0
