"""Windows tile the time line, in every zone, through every shift of the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.policy.windows import EVER, Per, window

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/Havana",
)
moments = st.floats(min_value=1.2e9, max_value=2.0e9)


@given(st.sampled_from([per for per in Per if per is not Per.TOTAL]), st.sampled_from(ZONES), moments)
def test_every_moment_is_in_its_window_and_windows_touch(per: Per, zone: str, at: float) -> None:
    found = window(per, zone, at)
    assert found.start <= at < found.end
    assert window(per, zone, found.end).start == found.end
    assert window(per, zone, found.start) == found
    assert window(per, zone, found.end - 1) == found


@pytest.mark.parametrize(
    ("per", "zone", "at", "start", "hours"),
    [
        (Per.DAY, "Europe/Berlin", "2026-03-29T12:00:00+02:00", "2026-03-28T23:00:00+00:00", 23),
        (Per.DAY, "Europe/Berlin", "2026-10-25T12:00:00+01:00", "2026-10-24T22:00:00+00:00", 25),
        (Per.DAY, "Asia/Kolkata", "2026-01-01T00:00:00+05:30", "2025-12-31T18:30:00+00:00", 24),
        (Per.WEEK, "UTC", "2026-11-22T23:59:59+00:00", "2026-11-16T00:00:00+00:00", 168),
        (Per.MONTH, "UTC", "2028-02-29T23:59:59+00:00", "2028-02-01T00:00:00+00:00", 29 * 24),
        (Per.HOUR, "America/New_York", "2026-11-01T01:30:00-05:00", "2026-11-01T06:00:00+00:00", 1),
    ],
)
def test_days_are_as_long_as_they_are(per: Per, zone: str, at: str, start: str, hours: int) -> None:
    found = window(per, zone, datetime.fromisoformat(at).timestamp())
    assert datetime.fromtimestamp(found.start, UTC) == datetime.fromisoformat(start)
    assert found.end - found.start == hours * 3600


@pytest.mark.parametrize("per", [Per.DAY, Per.WEEK, Per.MONTH])
def test_a_midnight_that_comes_twice_begins_its_day_the_first_time(per: Per) -> None:
    """Cuba's clocks go back from one to midnight, in 2026 on the first of a month that is a Sunday."""
    first = datetime(2026, 11, 1, 0, 30, fold=0, tzinfo=ZoneInfo("America/Havana")).timestamp()
    second = datetime(2026, 11, 1, 0, 30, fold=1, tzinfo=ZoneInfo("America/Havana")).timestamp()

    assert second == first + 3600
    assert window(per, "America/Havana", second) == window(per, "America/Havana", first)


def test_a_day_that_a_zone_skipped_does_not_stop_the_count() -> None:
    """Samoa had no 30 December 2011."""
    before = datetime(2011, 12, 29, 12, tzinfo=ZoneInfo("Pacific/Apia")).timestamp()
    found = window(Per.DAY, "Pacific/Apia", before)
    assert window(Per.DAY, "Pacific/Apia", found.end).start >= found.end


def test_a_total_never_ends() -> None:
    assert window(Per.TOTAL, "UTC", 5.0) is EVER
