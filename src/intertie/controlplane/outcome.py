"""What a write did."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Writing what is already there is `unchanged` and not counted as a change."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class Origin(StrEnum):
    """Who made a row: a configuration file, which also removes it when it is no longer listed, a node that enrolled,
    or anything else.
    """

    CONFIG = "config"
    NODE = "node"
    API = "api"
