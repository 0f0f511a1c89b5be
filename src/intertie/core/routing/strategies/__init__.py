"""How the targets of a route are ordered. One file per strategy; this folder is the list.

Each file defines `STRATEGY`. To add one: a file here, its name in `StrategyName`, and the mirror unit test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from random import Random
from types import MappingProxyType
from typing import Protocol

from intertie.core.routing.candidate import Candidate
from intertie.core.routing.known import Known
from intertie.core.terms import Call, StrategyName


class Strategy(Protocol):
    """An order of preference."""

    name: StrategyName
    shares: bool
    """May equal nodes share the places it gives them among themselves, by what room they have?"""

    def order(self, targets: Sequence[Candidate], call: Call, known: Known, rng: Random, /) -> Sequence[Candidate]:
        """All of `targets`, the one to ask first in front, each with its `score` and `why` filled in.

        Must not drop or add any, nor change anything else of them; chance only from `rng`.
        """
        ...


def load() -> Mapping[StrategyName, Strategy]:
    """Every strategy in this folder. Raises `ImportError` if a file defines none or two share a name."""
    found: dict[StrategyName, Strategy] = {}
    for entry in iter_modules(__path__):
        module = import_module(f"{__name__}.{entry.name}")
        strategy: Strategy | None = getattr(module, "STRATEGY", None)
        if strategy is None or strategy.name in found:
            raise ImportError(f"{module.__name__} must define STRATEGY with a name of its own")
        found[strategy.name] = strategy
    return MappingProxyType(found)
