"""Questions that were answered, as vectors in memory: which of them is nearest to another.

They lie in *places*: all in one place may share an answer and have the same marks, so nothing is ever compared across
places. Bounded; the places used least recently go first. Nothing here outlives the process: it fills again as calls
come.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

from intertie.core.policy.answers import Selection, Space
from intertie.core.policy.likeness import Likeness, shared

PER_PLACE: Final = 256
"""Questions of one place."""

MEMORY: Final = 32 * 1024 * 1024
"""Bytes of all, about."""

COMPARED: Final = 32
"""Vectors that one look compares, at most: it is done on the event loop."""

_OVERHEAD: Final = 600
"""Bytes that a question takes besides its vector, about."""

if TYPE_CHECKING:
    Vector = array[float]
else:
    Vector = array  # Python 3.11 does not take the parameter at run time


class Neighbour(NamedTuple):
    """A question whose answer is kept under `key`."""

    key: bytes
    likeness: Likeness
    vector: Vector
    """Of length 1."""

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.vector) * self.vector.itemsize + 9 * len(self.likeness.parts) + _OVERHEAD


class _Place:
    __slots__ = ("entries", "organisation", "route")

    def __init__(self, organisation: str, route: str) -> None:
        self.organisation = organisation
        self.route = route
        self.entries: OrderedDict[bytes, Neighbour] = OrderedDict()


class Neighbours:
    """All places. Belongs to the event loop."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._places: OrderedDict[bytes, _Place] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return sum(len(place.entries) for place in self._places.values())

    def __repr__(self) -> str:
        return f"<Neighbours {len(self)} in {len(self._places)} places>"

    def alike(self, place: bytes, likeness: Likeness, words: float) -> list[Neighbour]:
        """Those that have enough words in common with this one, most first; `words` is a share."""
        found = self._places.get(place)
        if found is None:
            return []
        self._places.move_to_end(place)
        rated = ((shared(one.likeness, likeness), one) for one in reversed(found.entries.values()))
        enough = [(share, one) for share, one in rated if share >= words]
        enough.sort(key=lambda pair: -pair[0])
        return [one for _, one in enough[:COMPARED]]

    def add(self, place: bytes, whose: tuple[str, str], one: Neighbour) -> None:
        """Remember this question; `whose` is its organisation and route."""
        found = self._places.get(place)
        if found is None:
            found = self._places[place] = _Place(*whose)
        self._places.move_to_end(place)
        self._forget(found, one.key)
        found.entries[one.key] = one
        self.bytes += one.size
        if len(found.entries) > PER_PLACE:
            self._forget(found, next(iter(found.entries)))
        while self.bytes > self._memory:
            oldest, least = next(iter(self._places.items()))
            self._forget(least, next(iter(least.entries)))
            if not least.entries:
                del self._places[oldest]

    def drop(self, place: bytes, key: bytes) -> None:
        """Its answer is gone."""
        found = self._places.get(place)
        if found is not None:
            self._forget(found, key)
            if not found.entries:
                del self._places[place]

    def clear(self, which: Selection) -> None:
        """Forget the questions whose answers are meant."""
        for name, place in list(self._places.items()):
            if which.space is Space.CACHE and which.fits(place.organisation, place.route):
                for key in [key for key in place.entries if which.key in (None, key)]:
                    self.drop(name, key)

    def _forget(self, place: _Place, key: bytes) -> None:
        gone = place.entries.pop(key, None)
        if gone is not None:
            self.bytes -= gone.size


def nearest(vector: Vector, neighbours: Iterable[Neighbour]) -> list[tuple[float, Neighbour]]:
    """The same, each with its cosine, nearest first. Vectors of another length are of another model and left out."""
    found = [(min(1.0, sum(map(mul, vector, one.vector))), one) for one in neighbours if len(one.vector) == len(vector)]
    return sorted(found, key=lambda pair: -pair[0])


def unit(numbers: Iterable[float]) -> Vector:
    """These numbers as a vector of length 1. Raises `ValueError` for what is none."""
    vector = array("d", numbers)
    length = math.sqrt(sum(map(mul, vector, vector)))
    if not math.isfinite(length) or length == 0:
        raise ValueError("not a vector")
    return array("f", [number / length for number in vector])
