"""One file per kind of runtime. The folder is the list: every module not starting with `_` defines `KIND`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from intertie.agent.runtimes._kind import Kind, Listed, Reading, Site

__all__ = ["Kind", "Listed", "Reading", "Site", "load"]


@cache
def load() -> Mapping[str, Kind]:
    """Kind -> how to read it, for every file of this folder."""
    kinds: dict[str, Kind] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            kind: Kind = importlib.import_module(f"{__name__}.{module.name}").KIND
            kinds[kind.kind] = kind
    return MappingProxyType(kinds)
