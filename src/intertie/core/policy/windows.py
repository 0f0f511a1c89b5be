"""Calendar windows in a time zone: which one a moment belongs to, and when it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo


class Per(StrEnum):
    """How long a quota or a budget lasts. Weeks begin on Monday."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


class Window(NamedTuple):
    """One calendar window. `start` and `end` are UTC seconds; a total never ends."""

    id: str
    start: float
    end: float


EVER: Final = Window("total", 0.0, float("inf"))


def window(per: Per, zone: str, at: float) -> Window:
    """The window of `per` in the time zone `zone` that holds the moment `at` (UTC seconds).

    Minutes and hours are counted in real time, so a shift of the clock neither repeats nor skips one; days and longer
    begin at the zone's local midnight, however long that day is.
    """
    if per is Per.TOTAL:
        return EVER
    if per is Per.MINUTE or per is Per.HOUR:
        length = 60 if per is Per.MINUTE else 3600
        start = int(at // length) * length
        return Window(f"{per}:{start}", start, start + length)
    return _calendar(per, zone, int(at // 60))


@lru_cache(maxsize=512)
def _calendar(per: Per, zone: str, minute: int) -> Window:
    # Offsets of time zones in use are whole minutes, so one look per minute is exact.
    here = ZoneInfo(zone)
    local = datetime.fromtimestamp(minute * 60, UTC).astimezone(here)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if per is Per.WEEK:
        day -= timedelta(days=day.weekday())
    elif per is Per.MONTH:
        day = day.replace(day=1)
    if per is Per.DAY:
        following = day + timedelta(days=1)
    elif per is Per.WEEK:
        following = day + timedelta(days=7)
    else:
        following = (day + timedelta(days=32)).replace(day=1)
    start = day.replace(tzinfo=here).timestamp()
    end = following.replace(tzinfo=here).timestamp()
    return Window(f"{per}:{day:%Y-%m-%d}:{zone}", start, end)
