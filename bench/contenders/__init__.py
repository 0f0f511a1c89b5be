"""One file per contender; the folder is the list. A file not starting with `_` defines `CONTENDER`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from bench.contenders._contender import Contender

_ORDER = ("direct", "nginx", "intertie")


def load() -> Mapping[str, Contender]:
    """Every contender by name: the references and ourselves first, then the rivals by alphabet."""
    found: dict[str, Contender] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            contender: Contender = importlib.import_module(f"{__name__}.{module.name}").CONTENDER
            found[contender.name] = contender
    return {name: found[name] for name in [*_ORDER, *sorted(set(found) - set(_ORDER))]}
