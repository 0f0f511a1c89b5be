"""Where a target is, in one word: `acme`, `node:lab-rig-1`, `node_label:gpu`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PLACES: Final = ("upstream", "node", "node_label")
"""The members of a target that say where it is; each has exactly one. Names never contain a colon."""


def word(target: Mapping[str, Any]) -> str:
    """The place of a target, as the admin API shows it or a file says it; empty if it says none."""
    kind = next((kind for kind in PLACES if target.get(kind)), None)
    if kind is None:
        return ""
    return str(target[kind]) if kind == "upstream" else f"{kind}:{target[kind]}"


def members(word: str) -> dict[str, str]:
    """The member of a target that means this place: the reverse of `word`."""
    kind, colon, name = word.partition(":")
    return {kind: name} if colon and kind in PLACES else {"upstream": word}
