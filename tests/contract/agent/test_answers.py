"""Values out of answers of any shape: usable or nothing, never an exception."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.runtimes._answers import (
    count,
    embeds,
    labels,
    members,
    metric,
    objects,
    parameters_in,
    quantisation_in,
    sees,
    size_word,
    slots,
    whole,
    word,
    words,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(ANYTHING)
def test_nothing_raises_and_everything_has_its_type(value: Any) -> None:
    assert whole(value) is None or 0 < (whole(value) or 0) <= 10**9
    assert slots(value) is None or 0 < (slots(value) or 0) <= 1024
    assert len(word(value)) <= 200
    assert all(isinstance(one, dict) for one in [members(value), *objects(value)])
    assert all(isinstance(one, str) for one in words(value))
    assert isinstance(size_word(value), str)


@given(st.text())
def test_metrics_of_any_text_do_not_raise(text: str) -> None:
    assert count(text, "num_requests_running") is None or count(text, "num_requests_running") == 0
    assert isinstance(labels(text, "cache_config_info"), list)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8192, 8192),
        (8192.0, 8192),
        ("8192", 8192),
        (0, None),
        (-1, None),
        (True, None),
        (float("nan"), None),
        (10**12, None),
    ],
)
def test_a_count_is_a_number_above_zero(value: object, expected: int | None) -> None:
    assert whole(value) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (134515008, "135M"),
        (8030261248, "8.0B"),
        (999_900_000, "1.0B"),
        (70.6e9, "70.6B"),
        (12, ""),
        (None, ""),
        ("7B", ""),
    ],
)
def test_parameters_for_people(number: object, expected: str) -> None:
    assert size_word(number) == expected


@pytest.mark.parametrize(
    ("name", "quantisation", "parameters"),
    [
        ("Qwen/Qwen3-8B-AWQ", "AWQ", "8B"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1", "135M"),
        ("gemma-3-4b-it-UD-Q4_K_XL.gguf", "Q4_K_XL", "4B"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "", "8x7B"),
        ("TheBloke/Llama-2-70B-GPTQ", "GPTQ", "70B"),
        ("neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8", "FP8", "8B"),
        ("qwen2.5-0.5b-instruct", "", "0.5B"),
        ("mlx-community/Qwen3-4B-4bit", "4bit", "4B"),
        ("gpt-oss:20b", "", "20B"),
        ("phi-4", "", ""),
        ("b1234", "", ""),
    ],
)
def test_what_a_name_tells(name: str, quantisation: str, parameters: str) -> None:
    assert (quantisation_in(name), parameters_in(name)) == (quantisation, parameters)


@pytest.mark.parametrize(
    "name", ["nomic-embed-text:latest", "BAAI/bge-m3", "intfloat/e5-large", "all-minilm:33m", "gte-qwen2"]
)
def test_names_of_embedding_models(name: str) -> None:
    assert embeds(name)


@pytest.mark.parametrize("name", ["llama3.2:3b", "Qwen/Qwen3-8B", "qwen2.5-coder", "bridge5-gt", "gemma-3-4b"])
def test_names_of_other_models(name: str) -> None:
    assert not embeds(name)
    assert not sees(name)


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-7B", "llava:13b", "mistralai/Pixtral-12B", "llama3.2-vision:11b"])
def test_names_of_models_that_see(name: str) -> None:
    assert sees(name)


METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b} c"} 2.0
vllm:num_requests_running{engine="1",model_name="a"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a"} 1e0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:other_num_requests_running_total 7
vllm:cache_config_info{block_size="16",num_gpu_blocks="2048"} 1.0
sglang:token_usage NaN
"""


def test_metrics_are_found_by_their_end_and_summed_over_engines() -> None:
    assert metric(METRICS, "num_requests_running") == 3.0
    assert count(METRICS, "num_requests_running", "num_requests_waiting") == 4
    assert metric(METRICS.replace("vllm:", "vllm_"), "num_requests_running") == 3.0
    assert metric(METRICS, "token_usage") is None
    assert metric(METRICS, "requests") is None
    assert labels(METRICS, "cache_config_info") == [{"block_size": "16", "num_gpu_blocks": "2048"}]
