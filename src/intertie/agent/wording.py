"""Words for people who mistyped something."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean "…"?)` for the known word that looks most like `word`, or nothing."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.55)
    return f' (did you mean "{found[0]}"?)' if found else ""
