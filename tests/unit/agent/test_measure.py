"""Rates from exchanges: moving averages with bounds, told only when they have changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.inventory import Model, Runtime
from intertie.agent.measure import FASTEST, MOST_MODELS, Meter, Rate, Rates, Trial, candidate

USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":500,"completion_tokens":41,"total_tokens":541,'
    b'"prompt_tokens_details":{"cached_tokens":100}}}\n\ndata: [DONE]\n\n'
)


def rates_of(*exchanges: tuple[int, float, int, float]) -> Rates:
    rates = Rates()
    for read, first, written, whole in exchanges:
        rates.observe("m", read, first, written, whole)
    return rates


def test_the_first_exchange_counts_whole_and_later_ones_a_fifth() -> None:
    once = rates_of((1000, 2.0, 41, 4.0))
    twice = rates_of((1000, 2.0, 41, 4.0), (1000, 1.0, 81, 3.0))

    assert once.of("m") == Rate(500.0, 20.0)
    assert twice.of("m") == Rate(600.0, 24.0)


def test_short_exchanges_say_nothing() -> None:
    assert rates_of((10, 2.0, 3, 4.0)).of("m") == Rate()
    assert rates_of((1000, 2.0, 3, 4.0)).of("m") == Rate(500.0, None)
    assert rates_of((10, 2.0, 41, 4.0)).of("m") == Rate(None, 20.0)
    assert rates_of((1000, 0.0, 41, 0.0)).of("m") == Rate()


def test_others_hear_of_notable_changes_only() -> None:
    rates = rates_of((1000, 2.0, 41, 4.0))
    assert rates.of("m").decode == 20.0
    rates.observe("m", 0, 1.0, 61, 3.0)
    assert rates.of("m").decode == 20.0
    for _ in range(3):
        rates.observe("m", 0, 1.0, 61, 3.0)
    assert rates.of("m").decode == 26.0


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1e4), st.integers(0, 10**9), st.floats(0, 1e4))))
def test_averages_stay_within_bounds(exchanges: list[tuple[int, float, int, float]]) -> None:
    rate = rates_of(*exchanges).of("m")

    assert all(value is None or 0 <= value <= FASTEST for value in (rate.prefill, rate.decode))


def test_the_number_of_models_is_bounded_and_the_longest_unseen_go_first() -> None:
    rates = Rates()
    for number in range(MOST_MODELS):
        rates.observe(f"m{number}", 1000, 2.0, 41, 4.0)
    rates.observe("m0", 1000, 2.0, 41, 4.0)
    rates.observe("one more", 1000, 2.0, 41, 4.0)

    assert rates.of("m1") == Rate()
    assert rates.of("m0").decode == 20.0


def test_rates_are_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    rates = rates_of((1000, 2.0, 41, 4.0))
    assert rates.changed
    rates.save(path)

    assert not rates.changed
    assert Rates.load(path).of("m") == Rate(500.0, 20.0)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"m": 5}', '{"m": ["x", -1]}', '{"m": [1e99, true]}', "[" * 100_000])
def test_a_damaged_file_is_measured_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rates.json"
    path.write_text(text)

    assert Rates.load(path).of("m") == Rate()
    assert Rates.load(tmp_path / "none").of("m") == Rate()


def test_rates_are_filled_into_the_inventory() -> None:
    runtime = Runtime("ollama", "http://x", models=(Model("m"), Model("other")))
    (filled,) = rates_of((1000, 2.0, 41, 4.0)).applied([runtime])

    assert [(model.prefill, model.decode) for model in filled.models] == [(500.0, 20.0), (None, None)]


def test_a_meter_times_a_stream_and_reads_its_usage_at_the_end() -> None:
    """Tokens that the runtime remembered were not read, and signs of life are no output."""
    rates = Rates()
    meter = Meter(rates, "m", 10.0)
    meter.took(b": ping\n\n", 11.0)
    meter.took(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', 12.0)
    meter.took(USAGE[:60], 13.9)
    meter.took(USAGE[60:], 14.0)
    meter.over()

    assert rates.of("m") == Rate(200.0, 20.0)


def test_a_meter_reads_usage_in_one_large_piece() -> None:
    rates = Rates()
    meter = Meter(rates, "m", 0.0)
    meter.took(b"data: x\n\n", 1.0)
    meter.took(b"y" * 9000 + USAGE, 3.0)
    meter.over()

    assert rates.of("m") == Rate(400.0, 20.0)


def test_a_stream_without_usage_says_nothing() -> None:
    rates = Rates()
    meter = Meter(rates, "m", 0.0)
    meter.took(b"data: x\n\n", 1.0)
    meter.over()
    Meter(rates, "m", 0.0).over()

    assert not rates.changed


def test_a_loaded_model_that_chats_is_asked_first() -> None:
    away = Model("away", loaded=False, capabilities=("chat",))
    embedding, chat = Model("vectors", capabilities=("embedding",)), Model("m", capabilities=("chat",))
    first = Runtime("ollama", "http://a", models=(Model("pictures"), away, embedding))
    second = Runtime("vllm", "http://b", models=(chat,))

    assert candidate([first, second]) == (second, chat)
    assert candidate([first]) == (first, embedding)
    assert candidate([]) is None


def test_the_rate_of_a_trial() -> None:
    assert Trial("m", answered=True, output_tokens=33, seconds_to_first=1.0, seconds=3.0).decode == 16.0
    assert Trial("m", answered=True, output_tokens=1, seconds_to_first=1.0, seconds=1.0).decode is None
