"""What few routes have, as one JSON column: how an entry becomes options, and options what the data plane reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from intertie.controlplane.entries import RouteEntry
from intertie.core.keeping import CachePolicy
from intertie.core.terms import Hedge

_MEMBERS: Final = frozenset({"cache", "fallback", "hedge", "sticky"})


def stored(entry: RouteEntry) -> dict[str, Any] | None:
    """The options of a route as they are stored; `None` if it has none."""
    kept = entry.model_dump(mode="json", include=set(_MEMBERS), exclude_defaults=True)
    if entry.shadow is not None:
        kept["shadow"] = {"share": entry.shadow.share}  # its targets are rows of their own
    return kept or None


def cache(options: Mapping[str, Any] | None) -> CachePolicy | None:
    """How the route's answers are kept, if they are."""
    found = (options or {}).get("cache")
    return None if found is None else msgspec.convert(found, CachePolicy)


def sticky(options: Mapping[str, Any] | None) -> bool:
    """Do conversations stay with the target that has them?"""
    return bool((options or {}).get("sticky"))


def fallback(options: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Code of a rejection -> models to try instead."""
    return {code: tuple(models) for code, models in (options or {}).get("fallback", {}).items()}


def hedge(options: Mapping[str, Any] | None) -> Hedge | None:
    """When a second target is asked, if it is."""
    found = (options or {}).get("hedge")
    return None if found is None else msgspec.convert(found, Hedge)


def shadow_share(options: Mapping[str, Any] | None) -> float:
    """The part of answered calls of which shadow targets get copies; 0 if there are none."""
    return float((options or {}).get("shadow", {}).get("share", 0.0))
