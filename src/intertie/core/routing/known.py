"""What strategies are told besides the targets themselves."""

from __future__ import annotations

import msgspec

from intertie.core.routing.health import HealthBook
from intertie.core.routing.traffic import Held, Traffic


class Known(msgspec.Struct, frozen=True):
    """The call's size, and what was learned of targets. `now` is monotonic seconds."""

    health: HealthBook
    traffic: Traffic
    now: float = 0.0
    tokens: int = 0
    """Input tokens, estimated."""
    output: int = 0
    """Output tokens to expect."""
    held: Held | None = None
    """Who has this conversation, on a sticky route."""
    exploring: bool = True
    """May a call go elsewhere than best to learn something?"""
