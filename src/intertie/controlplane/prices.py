"""List prices from the `genai-prices` catalogue; the operator's own prices override them.

The catalogue comes with its package and is never fetched. Its prices are taken for micro-units of the operator's
currency as they are, in US dollars. What it knows in more detail than `Price` is simplified: the tier for short inputs,
the dearest hours of the day, cache writes of the shortest life. What is missing there, or free, is unknown here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from intertie.core.providers import load
from intertie.core.terms import Price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

SOURCE: Final = "catalogue"

DEAREST: Final = Decimal(10_000)
"""Dollars per million tokens above which an entry of the catalogue is taken for a mistake."""


def price_for(provider: str, model: str) -> Price | None:
    """The list price today, or `None` if it is unknown. Quick for kinds without a price list.

    The first call for any other kind loads the catalogue, which takes some tenths of a second: see `preload`.
    """
    adapter = load().get(provider)
    name = adapter.catalogue if adapter is not None else None
    if name is None:
        return None
    listed = _catalogue()[name].find_model(model)
    return None if listed is None else _price(_today(listed, datetime.now(UTC)), embeds="embed" in listed.id.lower())


def preload(providers: Iterable[str]) -> None:
    """Loads the catalogue if a provider of these kinds may ask for it, so that no request has to wait for that."""
    if any(adapter.catalogue for kind, adapter in load().items() if kind in set(providers)):
        _catalogue()


@cache
def _catalogue() -> Mapping[str, Provider]:
    """Not through the package's own look-up, which remembers every name it was ever asked, and callers choose names."""
    from genai_prices.data_snapshot import get_snapshot

    return {provider.id: provider for provider in get_snapshot().providers}


def _today(listed: ModelInfo, now: datetime) -> list[ModelPrice]:
    """The prices that apply at some time of the day of `now`; later entries replace earlier ones."""
    from genai_prices.types import ConditionalPrice, ModelPrice, TimeOfDateConstraint

    if isinstance(listed.prices, ModelPrice):
        return [listed.prices]
    found: list[ModelPrice] = []
    for each in listed.prices:
        assert isinstance(each, ConditionalPrice)
        if isinstance(each.constraint, TimeOfDateConstraint):
            found.append(each.prices)
        elif each.constraint is None or each.constraint.active(now):
            found = [each.prices]
    return found


def _price(prices: Iterable[ModelPrice], *, embeds: bool) -> Price | None:
    """The dearest of `prices`. Only embeddings may be without a price for output: they have none."""
    made = [price for each in prices if (price := _single(each.__dict__, embeds=embeds)) is not None]
    return max(made, key=lambda price: (price.input, price.output), default=None)


def _single(fields: Mapping[str, Any], *, embeds: bool) -> Price | None:
    taken = _micros(fields.get("input_mtok"))
    given = 0 if embeds and fields.get("output_mtok") is None else _micros(fields.get("output_mtok"))
    if taken is None or given is None:
        return None
    return Price(
        input=taken,
        output=given,
        cached_input=_micros(fields.get("cache_read_mtok")),
        cache_write=_micros(fields.get("cache_write_mtok")),
        source=SOURCE,
    )


def _micros(listed: Any) -> int | None:
    """Micro-units per million tokens; `None` for nothing, zero, or what cannot be true."""
    base = getattr(listed, "base", listed)  # of several tiers, the one for short inputs
    if not isinstance(base, Decimal) or not 0 < base <= DEAREST:
        return None
    return int((base * 1_000_000).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
