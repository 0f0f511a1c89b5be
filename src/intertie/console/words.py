"""Figures as people read them, for templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

_MICRO: Final = 1_000_000


def count(number: int) -> str:
    """12345 as `12,345`."""
    return f"{number:,}"


def money(micros: int) -> str:
    """Micro-units with two to six decimals."""
    whole, rest = divmod(micros, _MICRO)
    return f"{whole:,}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def span(seconds: float | None) -> str:
    """Seconds as `0.35 s`, `12 s`, `4 min`, `2 h`; empty for none."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


def soon(seconds: float) -> str:
    """When something that waits may be used again: `in 12 s`, or `with the next call` once its time is over."""
    return f"in {span(seconds)}" if seconds > 0 else "with the next call"


def clock(at: float) -> str:
    """UTC seconds as `2026-11-22 18:40:03 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "count": count,
    "money": money,
    "span": span,
    "soon": soon,
    "clock": clock,
}
