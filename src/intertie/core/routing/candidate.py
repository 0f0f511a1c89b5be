"""One target as a plan lists it."""

from __future__ import annotations

import msgspec

from intertie.core.routing.room import Room
from intertie.core.terms import Target, Upstream

TargetKey = tuple[str, str]
"""(`Upstream.id`, concrete model): what has a circuit. Upstreams belong to one organisation, so circuits do too."""


class Candidate(msgspec.Struct, frozen=True):
    """A target that may be asked, with the upstream it names."""

    target: Target
    upstream: Upstream
    degraded: bool = False
    """Known to be in trouble, and kept only because nothing better is left."""
    pace: float = 1.0
    """What slowness leaves of its weight, within (0, 1]."""
    room: Room | None = None
    """What the node can take right now; `None` for an upstream that is not a node."""

    @property
    def key(self) -> TargetKey:
        """The key of its circuit."""
        return self.upstream.id, self.target.model
