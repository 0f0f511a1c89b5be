"""What was used and what it cost, summed."""

from __future__ import annotations

from intertie.controlplane.control import Control
from intertie.store import usage
from intertie.store.usage import Dimension, UsageRow

__all__ = ["Dimension", "UsageRow", "by"]


def by(
    control: Control,
    organisation: str,
    dimension: Dimension = "route",
    since: float | None = None,
    until: float | None = None,
    *,
    shadow: bool = False,
) -> list[UsageRow]:
    """One row per value of `dimension`, for what began from `since` up to before `until` (UTC seconds).

    Of requests that callers sent; or, with `shadow`, of the copies of them that went to shadow targets.

    What is still in the spool is not included: flush the loader first. Unknown costs are counted apart, never as zero.
    """
    with control.database.read() as connection:
        return usage.by(connection, organisation, dimension, since, until, shadow=shadow)
