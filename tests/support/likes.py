"""How alike two questions are, by vector and by words."""

from __future__ import annotations

from typing import NamedTuple

from intertie.core.policy.likeness import likeness, shared
from intertie.dataplane.local_embedder import LocalEmbedder


class Measured(NamedTuple):
    """A pair of questions."""

    cosine: float
    words: float
    """Share of words in common; 0 if the literal guard lets the pair not pass."""


async def measured(local: LocalEmbedder, one: str, other: str) -> Measured:
    """Both measures of a pair."""
    vectors = [await local.embed(text) for text in (one, other)]
    assert vectors[0] is not None
    assert vectors[1] is not None
    first, second = likeness(one, "salt"), likeness(other, "salt")
    assert first is not None
    assert second is not None
    return Measured(sum(x * y for x, y in zip(*vectors, strict=True)), shared(first, second))
