"""Hours of the week in which a machine may serve: "mon-fri 18:00-08:00, sat-sun".

Everything is the wall clock of the machine: a weekday (Monday is 0) and a minute of the day. Nothing is added to an
instant, so a day that daylight saving makes an hour longer or shorter needs no rule: the window opens and closes when
the clock on the wall says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from intertie.agent.wording import nearest

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NAMES: Final = {name: day for names in (DAYS, _FULL) for day, name in enumerate(names)}
DAY: Final = 24 * 60
WEEK: Final = 7 * DAY

_TIME: Final = re.compile(r"(\d{1,2})(?::(\d{2}))?")
_SPAN: Final = re.compile(r"\s*[-\u2010-\u2015]\s*")


class HoursRefused(ValueError):
    """The text is not hours of the week; the message quotes the part and says what is right."""


class Hours(NamedTuple):
    """Half-open spans in minutes since Monday 00:00, each inside the week, sorted. No span at all: any time."""

    spans: tuple[tuple[int, int], ...]

    def open(self, weekday: int, minute: int) -> bool:
        """True if the machine may serve at that minute of that day."""
        at = weekday * DAY + minute
        return not self.spans or any(begin <= at < end for begin, end in self.spans)

    def opens(self, weekday: int, minute: int) -> str:
        """When the window next opens by the wall clock, for instance "mon 18:00"."""
        at = weekday * DAY + minute
        begin = min((begin for begin, _ in self.spans), key=lambda begin: (begin - at) % WEEK, default=at)
        return f"{DAYS[begin // DAY]} {begin % DAY // 60:02}:{begin % 60:02}"


@lru_cache(maxsize=16)
def read_hours(text: str) -> Hours:
    """The spans of `text`; "" means any time.

    Entries are separated by commas; each has days ("mon", "mon-fri", "fri-mon"), times ("18:00-08:00", several with
    spaces between), or both. Days alone are whole days, times alone hold every day. A time that ends before it begins
    goes over midnight and belongs to the day on which it begins. Raises `HoursRefused`.
    """
    if not text.strip():
        return Hours(())
    minutes = sorted(piece for entry in text.lower().split(",") for piece in _entry(entry))
    spans: list[tuple[int, int]] = []
    for begin, end in minutes:
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return Hours(tuple(spans))


def _entry(text: str) -> Iterator[tuple[int, int]]:
    words = _SPAN.sub("-", text.strip()).split()
    if not words:
        raise HoursRefused("there is nothing between two commas")
    days: list[int] = []
    times: list[tuple[int, int]] = []
    for word in words:
        if word[0].isdigit():
            times.append(_times(word))
        elif times:
            raise HoursRefused(f"{text.strip()!r}: days come before times; separate entries with a comma")
        else:
            days += _days(word)
    for day in days or range(7):
        for begin, end in times or [(0, DAY)]:
            last = end if end > begin else end + DAY
            yield from _within(day * DAY + begin, day * DAY + last)


def _within(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """What goes past Sunday's midnight is Monday's."""
    yield begin, min(end, WEEK)
    if end > WEEK:
        yield 0, end - WEEK


def _days(word: str) -> list[int]:
    first, dash, last = word.partition("-")
    begin = _day(first)
    end = _day(last) if dash else begin
    return [(begin + step) % 7 for step in range((end - begin) % 7 + 1)]


def _day(word: str) -> int:
    if word not in _NAMES:
        raise HoursRefused(f"{word!r} is no day{nearest(word, DAYS)}; days are {', '.join(DAYS)}")
    return _NAMES[word]


def _times(word: str) -> tuple[int, int]:
    first, dash, last = word.partition("-")
    if not dash:
        raise HoursRefused(f"{word!r} has no end; write for example {word}-22:00")
    begin, end = _time(first), _time(last)
    if begin == DAY:
        raise HoursRefused("24:00 can only be an end; a day begins at 00:00")
    if begin == end:
        raise HoursRefused(f"{word!r} ends when it begins; for a whole day write only the day")
    return begin, end


def _time(word: str) -> int:
    found = _TIME.fullmatch(word)
    minutes = int(found[1]) * 60 + int(found[2] or 0) if found else -1
    if found is None or not 0 <= minutes <= DAY or int(found[2] or 0) > 59:
        raise HoursRefused(f"{word!r} is no time of day; write for example 18:00")
    return minutes
