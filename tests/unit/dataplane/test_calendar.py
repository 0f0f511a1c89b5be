"""The clock of windows: forward with the wall's, and never back."""

from __future__ import annotations

from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per, window
from intertie.dataplane.calendar import Calendar

LIMIT = Limit("org/x", Level.PROJECT, "p", Measure.MONEY, 100, Per.HOUR)


def test_it_stands_still_while_the_wall_is_behind() -> None:
    moments = iter([100.0, 40.0, 99.0, 101.0])
    calendar = Calendar(lambda: next(moments))

    assert [calendar.tick(), calendar.now(), calendar.tick(), calendar.tick()] == [100.0, 100.0, 100.0, 101.0]


def test_a_moment_from_before_is_dated_now_and_a_later_one_is_now_from_then_on() -> None:
    calendar = Calendar(lambda: 0.0)

    assert [calendar.tick(50.0), calendar.tick(20.0), calendar.now()] == [50.0, 50.0, 50.0]


def test_what_was_dated_ahead_is_spent_in_its_window_until_somebody_knows_better() -> None:
    calendar, span = Calendar(lambda: 0.0), window(Per.HOUR, "UTC", 7200.0)
    assert calendar.spent(LIMIT, span) == 0
    calendar.expect(LIMIT, {span.id: 30})
    assert (calendar.spent(LIMIT, span), calendar.spent(LIMIT, window(Per.HOUR, "UTC", 0.0))) == (30, 0)
    calendar.expect(LIMIT, {})
    assert calendar.spent(LIMIT, span) == 0
