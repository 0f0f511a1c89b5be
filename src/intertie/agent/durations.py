"""Lengths of time as owners write and read them: "20s", "10m", "1h30m"; "4 s", "12 min", "3 h 5 min"."""

from __future__ import annotations

import math
import re
from typing import Final

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)\s*")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def read_duration(text: str) -> float:
    """Seconds of "20s", "10m", "1h30m" or "90 seconds". Raises `ValueError`: a number without a unit is ambiguous."""
    rest = text.strip().lower()
    total, at = 0.0, 0
    while found := _PART.match(rest, at):
        total += float(found[1]) * _SECONDS[found[2][0]]
        at = found.end()
    if not rest or at != len(rest):
        raise ValueError(f"{text!r} is not a length of time; write for example 20s, 10m or 1h30m")
    return total


def spell(seconds: float) -> str:
    """`seconds` in at most two units, rounded down; for people, so "0.4 s" but "3 min"."""
    if math.isinf(seconds):
        return "for ever"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + " s"
    if seconds < 120:
        return f"{int(seconds)} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    return f"{hours // 24} days"
