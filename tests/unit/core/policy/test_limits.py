"""The nouns of policy: which limits are rates, which are known only with a target, and ids that stay."""

from __future__ import annotations

import pytest

from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per


@pytest.mark.parametrize(
    ("measure", "per", "rate"),
    [
        (Measure.REQUESTS, None, True),
        (Measure.TOKENS, None, True),
        (Measure.REQUESTS, Per.HOUR, False),
        (Measure.MONEY, Per.MONTH, False),
        (Measure.CONCURRENCY, None, False),
    ],
)
def test_a_rate_has_no_window_and_is_no_number_at_a_time(measure: Measure, per: Per | None, rate: bool) -> None:
    assert Limit("x", Level.KEY, "k", measure, 1, per).is_rate is rate


def test_only_models_and_upstreams_wait_for_a_target() -> None:
    assert {level for level in Level if level.of_target} == {Level.MODEL, Level.UPSTREAM}


def test_one_holder_has_one_limit_per_measure_and_period() -> None:
    ids = {
        limit_id(level, holder, measure, per)
        for level in Level
        for holder in ("a", "b")
        for measure in Measure
        for per in (None, *Per)
    }
    assert len(ids) == len(Level) * 2 * len(Measure) * (len(Per) + 1)
