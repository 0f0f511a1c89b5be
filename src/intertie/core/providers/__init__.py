"""One file per provider adapter. The folder is the list: every module not starting with `_` defines `ADAPTER`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from intertie.core.providers._adapter import Adapter, Reader

__all__ = ["Adapter", "Reader", "load"]


@cache
def load() -> Mapping[str, Adapter]:
    """Adapter kind -> adapter, for every file of this folder."""
    adapters: dict[str, Adapter] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            adapter: Adapter = importlib.import_module(f"{__name__}.{module.name}").ADAPTER
            adapters[adapter.kind] = adapter
    return MappingProxyType(adapters)
