"""What an attempt costs: tokens times price, in integers, rounded once."""

from __future__ import annotations

from typing import Final

from intertie.core.terms import Price, Usage

PER: Final = 1_000_000
"""Prices are per this many tokens."""

MAX_TOKENS: Final = 10**12
"""Largest count believed of one attempt: no model can produce it, so a larger claim is a forged or broken report."""

MAX_COST: Final = 10**15
"""Largest cost of one attempt (10^9 currency units): sums over thousands of such rows still fit 64 bits."""


def cost(usage: Usage, price: Price | None) -> int | None:
    """Micro-units for `usage` at `price`; `None` if tokens were used and the price is unknown.

    `usage.input` includes `cached` and `cache_write`, which have their own price where the provider gives one. Counts
    that cannot be true (negative, above `MAX_TOKENS`, parts above their whole) are bounded, never refused: the books
    must close whatever an upstream claims. The sum is rounded half to even, once.
    """
    plain_counts = 0 <= usage.input <= MAX_TOKENS and 0 <= usage.output <= MAX_TOKENS
    if price is not None and plain_counts and not usage.cached and not usage.cache_write:  # nearly every attempt
        return min(_rounded(usage.input * price.input + usage.output * price.output), MAX_COST)
    taken, cached, written, output = _bounded(usage)
    if price is None:
        return None if taken or output else 0
    plain = max(0, taken - cached - written)
    total = plain * price.input + output * price.output
    if cached:
        total += cached * (price.input if price.cached_input is None else price.cached_input)
    if written:
        total += written * (price.input if price.cache_write is None else price.cache_write)
    return min(_rounded(total), MAX_COST)


def _bounded(usage: Usage) -> tuple[int, int, int, int]:
    """Input, cached, cache writes and output, each between 0 and `MAX_TOKENS`, the parts within the input."""
    taken = min(max(usage.input, 0), MAX_TOKENS)
    cached = min(max(usage.cached, 0), taken)
    written = min(max(usage.cache_write, 0), taken - cached)
    return taken, cached, written, min(max(usage.output, 0), MAX_TOKENS)


def _rounded(total: int) -> int:
    """`total` millionths to whole units, half to even."""
    whole, rest = divmod(total, PER)
    if rest * 2 > PER or (rest * 2 == PER and whole % 2):
        whole += 1
    return whole
