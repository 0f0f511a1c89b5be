"""Catalogue prices become whole micro-units; what is odd there is simplified, what is missing stays unknown."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from intertie.controlplane import prices
from intertie.controlplane.prices import price_for
from intertie.core.terms import Price

IN, OUT = Decimal("2.5"), Decimal(10)


def _priced(*listed: ModelPrice | list[ConditionalPrice], model: str = "m") -> dict[str, Provider]:
    """A catalogue in which openai has one model."""
    models = [ModelInfo(id=model, match=ClauseEquals(equals=model), prices=each) for each in listed]
    return {"openai": Provider(id="openai", name="", api_pattern="", models=models)}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the catalogue say something."""

    def say(*prices_: ModelPrice | list[ConditionalPrice], model: str = "m") -> Price | None:
        monkeypatch.setattr(prices, "_catalogue", lambda: _priced(*prices_, model=model))
        return price_for("openai", model)

    return say


def test_a_price_is_exact_micro_units_per_million_tokens(listed: Any) -> None:
    found = listed(ModelPrice(input_mtok=Decimal("0.003625"), output_mtok=OUT, cache_read_mtok=Decimal("0.25")))

    assert found == Price(3625, 10_000_000, cached_input=250_000, source="catalogue")


def test_of_several_tiers_the_one_for_short_inputs_counts(listed: Any) -> None:
    tiered = TieredPrices(base=IN, tiers=[Tier(start=272_000, price=Decimal(5))])

    assert listed(ModelPrice(input_mtok=tiered, output_mtok=OUT)).input == 2_500_000


def test_a_price_that_began_replaces_the_one_before_and_one_to_come_does_not(listed: Any) -> None:
    found = listed(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(9), output_mtok=OUT)),
            ConditionalPrice(
                constraint=StartDateConstraint(start_date=date(2020, 1, 1)),
                prices=ModelPrice(input_mtok=IN, output_mtok=OUT),
            ),
            ConditionalPrice(
                constraint=StartDateConstraint(start_date=date(9999, 1, 1)),
                prices=ModelPrice(input_mtok=Decimal(1), output_mtok=OUT),
            ),
        ]
    )

    assert found.input == 2_500_000


def test_of_several_hours_the_dearest_count(listed: Any) -> None:
    """The books rather say too much than too little, whatever the time of the request."""
    night = TimeOfDateConstraint(start_time=time(0, tzinfo=UTC), end_time=time(6, tzinfo=UTC))
    cheap, dear = ModelPrice(input_mtok=Decimal(1), output_mtok=OUT), ModelPrice(input_mtok=IN, output_mtok=OUT)

    for base, other in ((cheap, dear), (dear, cheap)):
        assert (
            listed([ConditionalPrice(prices=base), ConditionalPrice(constraint=night, prices=other)]).input == 2_500_000
        )


@pytest.mark.parametrize(
    "odd",
    [
        ModelPrice(),
        ModelPrice(input_mtok=IN),
        ModelPrice(output_mtok=OUT),
        ModelPrice(input_mtok=Decimal(0), output_mtok=Decimal(0)),
        ModelPrice(input_mtok=Decimal(-1), output_mtok=OUT),
        ModelPrice(input_mtok=IN, output_mtok=Decimal(10_001)),
        ModelPrice(audio_hours=Decimal(1)),
    ],
    ids=["nothing", "no output", "no input", "free", "negative", "absurd", "by the hour"],
)
def test_T61_what_is_no_sane_price_per_token_is_unknown(listed: Any, odd: ModelPrice) -> None:
    assert listed(odd) is None


def test_embeddings_need_no_price_for_output(listed: Any) -> None:
    assert listed(ModelPrice(input_mtok=IN), model="text-embedding-9") == Price(2_500_000, 0, source="catalogue")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "text-embedding-3-small"),
        ("groq", "llama-3.3-70b-versatile"),
        ("mistral", "mistral-small-latest"),
        ("deepseek", "deepseek-chat"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("openrouter", "openai/gpt-4o-mini"),
        ("fireworks", "accounts/fireworks/models/llama-v3p1-8b-instruct"),
        ("xai", "grok-3"),
    ],
)
def test_every_kind_with_a_price_list_finds_a_well_known_model(provider: str, model: str) -> None:
    found = price_for(provider, model)

    assert found is not None
    assert 0 < found.input < 100_000_000
    assert found.source == "catalogue"


@pytest.mark.parametrize(
    "provider", ["openai_compatible", "ollama", "vllm", "llama_cpp", "lm_studio", "sglang", "no-such-kind"]
)
def test_own_machines_and_strangers_have_no_list_price(provider: str) -> None:
    assert price_for(provider, "gpt-4o-mini") is None


def test_T61_an_unknown_model_is_unknown_and_not_free() -> None:
    assert price_for("openai", "no-such-model") is None


def test_asking_for_many_names_remembers_none_of_them() -> None:
    """Callers choose names, so anything kept per name would grow without bound."""
    from genai_prices.data_snapshot import get_snapshot

    for number in range(50):
        price_for("openai", f"no-such-model-{number}")

    assert len(get_snapshot()._lookup_cache) + len(get_snapshot()._provider_cache) == 0


def test_the_catalogue_has_todays_price_at_every_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    found = prices._catalogue()["deepseek"].find_model("deepseek-chat")
    assert found is not None
    at = [
        prices._price(prices._today(found, datetime(2026, 1, 1, hour, tzinfo=UTC)), embeds=False) for hour in range(24)
    ]

    assert len(set(map(repr, at))) == 1
