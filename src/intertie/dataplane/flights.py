"""Equal calls that are under way at the same time: one of them leads, the others wait for its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from enum import Enum
from typing import Final

from intertie.core.errors import DeadlineExceeded
from intertie.core.policy.answers import Kept, Space
from intertie.core.policy.likeness import Likeness
from intertie.dataplane.neighbours import Vector

FOLLOWERS: Final = 1000
"""Calls that may wait for one answer."""

FAILURES: Final = 2
"""Leaders of one flight that may fail before the rest stops waiting: one after the other would take too long."""


class Turn(Enum):
    """What a follower is told when there is no answer for it."""

    LEAD = "lead"
    """The leader could not help; the next one leads."""
    ALONE = "alone"
    """Leaders keep failing; everyone asks for himself."""


class Flight:
    """One answer in the making, and who waits for it."""

    __slots__ = ("digest", "failures", "patient", "waiting")

    def __init__(self, digest: bytes, *, patient: bool) -> None:
        self.digest = digest
        """Of the body, where the key alone does not say what is asked."""
        self.patient = patient
        """Followers wait through any number of failing leaders."""
        self.failures = 0
        self.waiting: deque[asyncio.Future[Kept | Turn]] = deque()

    def __repr__(self) -> str:
        return f"<Flight with {len(self.waiting)} waiting>"


class Subject:
    """A question as it is compared with others."""

    __slots__ = ("likeness", "making", "place", "text")

    def __init__(self, text: str, place: bytes, likeness: Likeness) -> None:
        self.text = text
        self.place = place
        """Where those lie that may share its answer; see `neighbours`."""
        self.likeness = likeness
        self.making: asyncio.Task[Vector | None] | None = None
        """Its vector, under way or made."""

    def __repr__(self) -> str:
        return f"<Subject in {self.place.hex()[:8]}>"


class Lead:
    """What one request owes those who wait for it, and where its answer is to be kept."""

    __slots__ = ("clearings", "flight", "key", "over", "recording", "space", "subject")

    def __init__(self, key: bytes, flight: Flight | None, space: Space, clearings: int) -> None:
        self.key = key
        self.flight = flight
        """`None` if nobody may wait for this one."""
        self.space = space
        self.clearings = clearings
        """How often answers had been cleared when this began."""
        self.over = False
        """Somebody else lands the flight, or it has landed."""
        self.recording: Recording | None = None
        self.subject: Subject | None = None
        """What it is compared by with similar questions."""

    def __repr__(self) -> str:
        return f"<Lead {self.space} over={self.over}>"


class Recording:
    """What went out to a client, as long as it is small enough to keep."""

    __slots__ = ("_limit", "lost", "pieces", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.pieces: list[bytes] = []
        self.size = 0
        self.lost = False
        """It is larger than the limit; nothing of it is held any more."""

    def __repr__(self) -> str:
        return f"<Recording of {self.size} bytes>"

    def add(self, piece: bytes) -> None:
        """More of it."""
        self.size += len(piece)
        if self.size <= self._limit:
            self.pieces.append(piece)
        elif not self.lost:
            self.lost = True
            self.pieces.clear()


class Flights:
    """All of them, by key. Belongs to the event loop; nothing here waits between looking and changing."""

    def __init__(self, followers: int = FOLLOWERS) -> None:
        self._flights: dict[bytes, Flight] = {}
        self._followers = followers

    def __len__(self) -> int:
        return len(self._flights)

    def under_way(self, key: bytes) -> Flight | None:
        """The flight of this key, if there is one."""
        return self._flights.get(key)

    def full(self, flight: Flight) -> bool:
        """True if nobody else may wait for it."""
        return len(flight.waiting) >= self._followers

    def lead(self, key: bytes, digest: bytes = b"", *, patient: bool = False) -> Flight:
        """Begin the flight of this key. The caller must `land` it, whatever happens."""
        flight = self._flights[key] = Flight(digest, patient=patient)
        return flight

    async def follow(self, key: bytes, flight: Flight, seconds: float) -> Kept | Turn:
        """Wait for the answer. Raises `DeadlineExceeded` after so many seconds."""
        turn: asyncio.Future[Kept | Turn] = asyncio.get_running_loop().create_future()
        flight.waiting.append(turn)
        try:
            await asyncio.wait((turn,), timeout=max(0.0, seconds))
        except asyncio.CancelledError:
            self._leave(key, flight, turn)
            raise
        if not turn.done():
            self._leave(key, flight, turn)
            raise DeadlineExceeded("The deadline passed while an equal call was being answered.")
        return turn.result()

    def land(self, key: bytes, flight: Flight, kept: Kept | None, *, failed: bool = False) -> None:
        """The leader is done: everyone gets the answer; if there is none, the next one leads."""
        if kept is not None:
            self._end(key, flight, kept)
            return
        flight.failures += failed
        if flight.failures >= FAILURES and not flight.patient:
            self._end(key, flight, Turn.ALONE)
            return
        while flight.waiting:
            turn = flight.waiting.popleft()
            if not turn.done():
                turn.set_result(Turn.LEAD)
                return
        self._end(key, flight, Turn.ALONE)

    def _end(self, key: bytes, flight: Flight, outcome: Kept | Turn) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        while flight.waiting:
            turn = flight.waiting.popleft()
            if not turn.done():
                turn.set_result(outcome)

    def _leave(self, key: bytes, flight: Flight, turn: asyncio.Future[Kept | Turn]) -> None:
        """A follower goes. If the lead was just handed to it, the next one gets it."""
        if turn.done() and not turn.cancelled():
            if turn.result() is Turn.LEAD:
                self.land(key, flight, None)
            return
        turn.cancel()
        with contextlib.suppress(ValueError):
            flight.waiting.remove(turn)
