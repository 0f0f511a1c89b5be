"""Pairs of questions from `questions.txt`: those that may have one answer, and those that must not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

Pairs = list[tuple[str, str]]


def read() -> dict[str, Pairs]:
    """Section -> its pairs."""
    sections: dict[str, Pairs] = {}
    pairs: Pairs = []
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            pairs = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            one, _, other = line.partition(" | ")
            pairs.append((one, other))
    return sections


SECTIONS: Final = read()
SAME: Final = SECTIONS["same"]
"""A person would be content with one answer to both."""
DIFFERENT: Final = SECTIONS["different"]
"""One answer to both would be wrong for one of them."""
NEW_SAME: Final = SECTIONS["new same"]
NEW_DIFFERENT: Final = SECTIONS["new different"]
