"""How alike two questions are, by vector and by words."""

from __future__ import annotations

from typing import NamedTuple

from intertie.core.policy.likeness import likeness, shared
from intertie.dataplane.local_embedder import LocalEmbedder


class Measured(NamedTuple):
    """A pair of questions."""

    cosine: float
    marks: bool
    """What must be literally the same is."""
    words: float
    """Share of words in common; 0 if the literal guard does not let the pair pass."""


async def measured(local: LocalEmbedder, one: str, other: str) -> Measured:
    """Both measures of a pair."""
    vectors = [await local.embed(text) for text in (one, other)]
    assert vectors[0] is not None
    assert vectors[1] is not None
    first, second = likeness(one, "salt"), likeness(other, "salt")
    assert first is not None
    assert second is not None
    cosine = sum(x * y for x, y in zip(*vectors, strict=True))
    return Measured(cosine, first.marks == second.marks, shared(first, second))
