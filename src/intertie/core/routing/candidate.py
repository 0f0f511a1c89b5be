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
    position: int = 0
    """Its place in the route as written."""
    preferred: int = 0
    """How many preferences of rules it meets; earlier rules weigh more."""
    score: float | None = None
    """What the strategy compares, lower is better; `None` is unknown and worst. Written by the strategy."""
    why: str = ""
    """What gave it its place, for people."""
    rule: str = ""
    """What rules say of it, for people."""
    latency: float | None = None
    """Measured seconds to the first output, where a rule asks; 0: not measured."""
    setback: int = 0
    """See `core.terms.Considered`."""

    @property
    def key(self) -> TargetKey:
        """The key of its circuit."""
        return self.upstream.id, self.target.model

    def turn(self) -> tuple[int, bool, float]:
        """What strategies that compare scores sort by: tier, then score, unknown ones last."""
        return self.target.tier, self.score is None, self.score or 0.0
