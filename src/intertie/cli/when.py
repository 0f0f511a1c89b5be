"""Moments as people type and read them: local time on the terminal, UTC seconds everywhere else."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from intertie.cli.client import CommandProblem

_SPAN: Final = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def parse(text: str | None, now: float | None = None) -> float | None:
    """UTC seconds from a span back from now (`24h`, `7d`), `today`, or an ISO date or time. Raises `CommandProblem`."""
    if text is None:
        return None
    current = time.time() if now is None else now
    word = text.strip().lower()
    if word == "today":
        return datetime.fromtimestamp(current, UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    if span := _SPAN.fullmatch(word):
        return current - int(span[1]) * _SECONDS[span[2]]
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise CommandProblem(
            f"{text!r} is not a time", "write 24h, 7d, today, or 2026-11-22", code="bad_time"
        ) from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def moment(seconds: float | None) -> str:
    """UTC seconds as `2026-11-22 18:40:03`, in UTC; `-` for none."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
