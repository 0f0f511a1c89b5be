"""A clock that is set back opens no window again, and what is dated ahead waits for its window."""

from __future__ import annotations

from intertie.core.policy.calendar import Calendar
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per, window

LIMIT = Limit("k", Level.KEY, "k", Measure.MONEY, 10, Per.HOUR)


def test_it_stands_still_while_the_wall_is_behind_what_was_dated() -> None:
    wall = [100.0]
    calendar = Calendar(lambda: wall[0])
    assert (calendar.now(), calendar.tick()) == (100.0, 100.0)
    wall[0] = 40.0
    assert (calendar.now(), calendar.tick(), calendar.tick(70.0)) == (100.0, 100.0, 100.0)
    wall[0] = 130.0
    assert calendar.now() == 130.0
    wall[0] = 40.0
    assert calendar.now() == 100.0, "a look dates nothing"
    assert calendar.tick(110.0) == 110.0


def test_what_is_dated_ahead_is_spent_in_its_window_until_told_otherwise() -> None:
    calendar = Calendar(lambda: 0.0)
    ahead = window(Per.HOUR, "UTC", 3600.0)
    calendar.expect(LIMIT, {ahead.id: 7})
    assert calendar.spent(LIMIT, ahead) == 7
    assert calendar.spent(LIMIT, window(Per.HOUR, "UTC", 0.0)) == 0
    calendar.expect(LIMIT, {})
    assert calendar.spent(LIMIT, ahead) == 0
