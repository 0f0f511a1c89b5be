"""Money is exact: integers, one rounding, unknown is never zero."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.pricing import MAX_COST, MAX_TOKENS, cost
from intertie.core.terms import Price, Usage

PRICE = Price(input=2_500_000, output=10_000_000)
TOKENS = st.integers(0, 10_000_000)
RATE = st.integers(0, 1_000_000_000)


def test_plain_input_and_output_are_charged_at_their_own_price() -> None:
    assert cost(Usage(input=1000, output=100), PRICE) == 2_500 + 1_000


def test_cached_input_and_cache_writes_have_their_own_price() -> None:
    price = Price(input=1_000_000, output=0, cached_input=100_000, cache_write=1_250_000)

    assert cost(Usage(input=1000, cached=300, cache_write=200), price) == 500 + 30 + 250


def test_a_class_without_a_price_is_charged_as_plain_input() -> None:
    usage = Usage(input=1000, cached=300, cache_write=200)

    assert cost(usage, PRICE) == 2_500


def test_reasoning_is_part_of_output_and_not_charged_twice() -> None:
    assert cost(Usage(output=100), PRICE) == cost(Usage(output=100, reasoning=80), PRICE)


def test_a_cached_price_of_zero_is_zero_and_not_the_plain_price() -> None:
    assert cost(Usage(input=1000, cached=1000), Price(input=1_000_000, output=0, cached_input=0)) == 0


def test_T61_used_tokens_at_an_unknown_price_cost_an_unknown_amount() -> None:
    assert cost(Usage(input=1), None) is None
    assert cost(Usage(output=1), None) is None


def test_nothing_used_costs_nothing_even_at_an_unknown_price() -> None:
    assert cost(Usage(), None) == 0


@pytest.mark.parametrize(("tokens", "expected"), [(1, 0), (3, 2), (5, 2), (7, 4), (2, 1)])
def test_T63_halves_are_rounded_to_even(tokens: int, expected: int) -> None:
    """Half a micro-unit a token: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4."""
    assert expected == cost(Usage(input=tokens), Price(input=500_000, output=0))


def test_T63_the_sum_is_rounded_once_and_not_each_part() -> None:
    """0.4 + 0.4 is 1 when rounded once, and 0 when each part is rounded."""
    assert cost(Usage(input=1, output=1), Price(input=400_000, output=400_000)) == 1


def test_T59_a_negative_count_is_no_refund() -> None:
    assert cost(Usage(input=-5, output=-5), PRICE) == 0
    assert cost(Usage(input=1000, cached=-400), PRICE) == 2_500


def test_T59_parts_larger_than_their_whole_are_cut_to_it() -> None:
    price = Price(input=1_000_000, output=0, cached_input=500_000, cache_write=2_000_000)

    assert cost(Usage(input=100, cached=900, cache_write=900), price) == 50


def test_T63_an_absurd_report_stays_within_64_bits() -> None:
    dearest = cost(Usage(input=10**30, output=10**30), Price(input=10**12, output=10**12))

    assert dearest == MAX_COST
    assert cost(Usage(input=MAX_TOKENS), PRICE) == cost(Usage(input=10**40), PRICE)


@given(TOKENS, TOKENS, TOKENS, TOKENS, RATE, RATE, RATE, RATE)
def test_T63_the_cost_is_the_exact_sum_to_within_half_a_unit(
    plain: int, cached: int, written: int, output: int, a: int, b: int, c: int, d: int
) -> None:
    usage = Usage(input=plain + cached + written, output=output, cached=cached, cache_write=written)
    exact = Fraction(plain * a + cached * b + written * c + output * d, 1_000_000)

    result = cost(usage, Price(input=a, output=d, cached_input=b, cache_write=c))

    assert result is not None
    assert abs(result - exact) <= Fraction(1, 2)


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=20))
def test_T63_the_sum_of_parts_differs_from_the_whole_by_rounding_only(parts: list[tuple[int, int]]) -> None:
    apart = [cost(Usage(input=i, output=o), PRICE) for i, o in parts]
    whole = cost(Usage(input=sum(i for i, _ in parts), output=sum(o for _, o in parts)), PRICE)

    assert whole is not None
    assert abs(sum(each or 0 for each in apart) - whole) <= Fraction(len(parts) + 1, 2)
