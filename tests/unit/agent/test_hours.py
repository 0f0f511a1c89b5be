"""Hours of the week."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.hours import DAY, DAYS, HoursRefused, read_hours

MON, TUE, WED, THU, FRI, SAT, SUN = range(7)


def at(clock: str) -> int:
    """Minutes of the day."""
    hour, _, minute = clock.partition(":")
    return int(hour) * 60 + int(minute)


NIGHTS = "mon-fri 18:00-08:00, sat-sun"


@pytest.mark.parametrize(
    ("text", "day", "clock", "is_open"),
    [
        ("", WED, "12:00", True),
        (NIGHTS, MON, "07:59", False),  # Sunday's entry has no night of its own: it ends at midnight
        (NIGHTS, MON, "18:00", True),
        (NIGHTS, TUE, "07:59", True),
        (NIGHTS, TUE, "08:00", False),
        (NIGHTS, TUE, "17:59", False),
        (NIGHTS, SAT, "00:00", True),
        (NIGHTS, SAT, "15:00", True),
        (NIGHTS, SUN, "23:59", True),
        ("sun 22:00-06:00", MON, "05:59", True),  # over the end of the week
        ("sun 22:00-06:00", MON, "06:00", False),
        ("fri-mon", SUN, "12:00", True),
        ("fri-mon", TUE, "12:00", False),
        ("9-17", WED, "16:59", True),
        ("9-17", WED, "17:00", False),
        ("18:00-24:00", WED, "23:59", True),
        ("18:00-00:00", WED, "23:59", True),
        ("18:00-00:00", WED, "00:00", False),
        ("Monday \u2013 Friday 8:00 - 12:00 13:00-17:00", FRI, "12:30", False),
        ("Monday \u2013 Friday 8:00 - 12:00 13:00-17:00", FRI, "13:00", True),
        ("mon wed 8-9", WED, "08:30", True),
        ("mon wed 8-9", TUE, "08:30", False),
    ],
)
def test_a_window_is_open_by_the_wall_clock(text: str, day: int, clock: str, *, is_open: bool) -> None:
    """Half-open, over midnight, over the end of the week."""
    assert read_hours(text).open(day, at(clock)) is is_open


@pytest.mark.parametrize(
    ("text", "day", "clock", "opens"),
    [
        (NIGHTS, MON, "09:00", "mon 18:00"),
        ("sun 22:00-06:00", MON, "07:00", "sun 22:00"),
        ("mon 8-9", MON, "09:00", "mon 08:00"),
    ],
)
def test_a_closed_window_says_when_it_opens(text: str, day: int, clock: str, opens: str) -> None:
    """Next, not first of the week."""
    assert read_hours(text).opens(day, at(clock)) == opens


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mo-fri", "'mo' is no day (did you mean \"mon\"?)"),
        ("someday 8-9", "'someday' is no day"),
        ("mon 25:00-26:00", "'25:00' is no time of day"),
        ("mon 8:60-9:00", "'8:60' is no time of day"),
        ("mon 8:00", "'8:00' has no end; write for example 8:00-22:00"),
        ("mon 8-8", "ends when it begins; for a whole day write only the day"),
        ("mon 24:00-06:00", "24:00 can only be an end"),
        ("mon,,tue", "nothing between two commas"),
        ("8-9 mon", "days come before times; separate entries with a comma"),
        ("mon 8-9 tue 9-10", "separate entries with a comma"),
    ],
)
def test_what_cannot_be_read_is_named_and_mended(text: str, says: str) -> None:
    """The part at fault, and what is right."""
    with pytest.raises(HoursRefused) as caught:
        read_hours(text)
    assert says in str(caught.value)


@given(
    days=st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True),
    begin=st.integers(0, DAY - 1),
    length=st.integers(1, DAY - 1),
    day=st.integers(0, 6),
    minute=st.integers(0, DAY - 1),
)
def test_a_window_is_what_a_person_would_say(days: list[int], begin: int, length: int, day: int, minute: int) -> None:
    """Against the plain definition: it began today, or yesterday and goes over midnight."""
    end = (begin + length) % DAY
    words = [f"{DAYS[one]} {begin // 60}:{begin % 60:02}-{end // 60}:{end % 60:02}" for one in days]
    today = day in days and begin <= minute < begin + length
    yesterday = (day - 1) % 7 in days and minute + DAY < begin + length

    assert read_hours(", ".join(words)).open(day, minute) is (today or yesterday)


@pytest.mark.parametrize(
    ("instant", "is_open"),
    [
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), True),  # 01:59 in Berlin, then clocks go to 03:00
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), True),  # 03:00
        (datetime(2026, 3, 29, 2, 0, tzinfo=UTC), False),  # 04:00
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), True),  # 02:30 for the first time
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), True),  # 02:30 for the second time
        (datetime(2026, 10, 25, 3, 0, tzinfo=UTC), False),  # 04:00
    ],
)
def test_days_of_23_and_25_hours_go_by_the_clock_on_the_wall(
    monkeypatch: pytest.MonkeyPatch, instant: datetime, *, is_open: bool
) -> None:
    """The night in which Central Europe changes its clocks."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        wall = time.localtime(instant.timestamp())
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert read_hours("sat-sun 22:00-04:00").open(wall.tm_wday, wall.tm_hour * 60 + wall.tm_min) is is_open
