"""A made-up root folder of a Linux machine."""

from __future__ import annotations

from pathlib import Path

UNIX = "0000000000000000: 00000002 00000000 00010000 0001 01 23456 {}\n"
"""A listening socket's line in /proc/net/unix."""


def files(root: Path, texts: dict[str, str]) -> Path:
    """Writes files by their path below `root`, and gives `root`."""
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
