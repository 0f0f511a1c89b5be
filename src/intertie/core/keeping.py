"""What a route says about keeping its answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class CacheScope(StrEnum):
    """Whose calls may be answered by what somebody else's call was answered with."""

    ORGANISATION = "organisation"
    PROJECT = "project"


LOCAL: Final = "local"
"""`Similar.embeddings`: the small model inside the gateway's own process."""


class Similar(msgspec.Struct, frozen=True):
    """How alike two questions must be to have one answer. No caller can lower any of it."""

    threshold: float = 0.92
    """Cosine of their vectors, at least."""
    words: float = 1.0
    """Share of the words that carry meaning which both have, at least; see `core.policy.likeness`."""
    embeddings: str = LOCAL
    """Who makes the vectors: the name of a route for embeddings, or `LOCAL`."""


class CachePolicy(msgspec.Struct, frozen=True):
    """That a route's answers are kept for calls that no model could tell apart, and with `similar` for alike ones."""

    ttl: float = 3600.0
    """Seconds an answer may be given again."""
    scope: CacheScope = CacheScope.ORGANISATION
    similar: Similar | None = None
