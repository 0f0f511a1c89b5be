"""Moments as typed and as shown."""

from __future__ import annotations

import pytest

from intertie.cli.client import CommandProblem
from intertie.cli.when import moment, parse

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("24h", NOW - 86_400),
        ("7d", NOW - 604_800),
        ("90 min", NOW - 5400),
        ("today", 1_799_971_200.0),
        ("2027-01-15", 1_799_971_200.0),
        ("2027-01-15T08:00:00", NOW),
        ("2027-01-15T09:00:00+01:00", NOW),
    ],
)
def test_spans_and_dates_are_understood(text: str | None, seconds: float | None) -> None:
    """Without a zone they are UTC, as the books are."""
    assert parse(text, NOW) == seconds


@pytest.mark.parametrize("text", ["yesterday", "", "24", "h", "2027-13-01", "1e9"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    """A wrong guess would show wrong sums."""
    with pytest.raises(CommandProblem, match="is not a time"):
        parse(text, NOW)


def test_moments_are_shown_in_utc() -> None:
    """And none is a dash."""
    assert (moment(NOW), moment(None)) == ("2027-01-15 08:00:00", "-")
