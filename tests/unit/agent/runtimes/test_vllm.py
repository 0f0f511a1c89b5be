"""vLLM's answers, in the shapes of entrypoints/openai/models/serving.py and v1/metrics/loggers.py."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.agent.inventory import Runtime
from intertie.agent.runtimes._kind import Listed, Site
from intertie.agent.runtimes.vllm import capabilities, held, is_vllm, runtime, whole_requests

BASE: dict[str, Any] = {
    "id": "assistant",
    "object": "model",
    "created": 1754600000,
    "owned_by": "vllm",
    "root": "Qwen/Qwen3-8B-AWQ",
    "parent": None,
    "max_model_len": 16384,
    "permission": [{"id": "modelperm-0d", "object": "model_permission"}],
}
ADAPTER = {"id": "lawyer", "owned_by": "vllm", "root": "/adapters/lawyer", "parent": "assistant", "max_model_len": None}
METRICS = (
    "# TYPE vllm:num_requests_running gauge\n"
    'vllm:num_requests_running{engine="0",model_name="assistant"} 5.0\n'
    'vllm:num_requests_waiting{engine="0",model_name="assistant"} 2.0\n'
    'vllm:kv_cache_usage_perc{engine="0",model_name="assistant"} 0.31\n'
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="9216"} 1.0\n'
)
BOTH = frozenset({"chat", "embedding"})
CHAT = frozenset({"chat"})


def read(*entries: dict[str, Any], metrics: str = METRICS, paths: frozenset[str] = CHAT) -> Runtime:
    return runtime(Site("http://127.0.0.1:8000"), Listed(entries), {"version": "0.11.0"}, metrics, paths)


def test_model_context_queue_and_slots() -> None:
    """9216 blocks of 16 tokens hold nine requests of full length."""
    found = read(BASE)
    (model,) = found.models

    assert (found.version, found.slots, found.queue) == ("0.11.0", 9, 2)
    assert (model.name, model.context, model.slots, model.loaded) == ("assistant", 16384, 9, True)
    assert (model.quantisation, model.parameters) == ("AWQ", "8B")
    assert model.capabilities == ("chat", "completion", "json_schema")


def test_an_adapter_has_the_context_of_its_base() -> None:
    assert [model.context for model in read(BASE, ADAPTER).models] == [16384, 16384]


@pytest.mark.parametrize("metrics", ["", "nonsense", METRICS.replace('"9216"', '"None"')])
def test_without_the_cache_in_the_metrics_slots_are_a_guess(metrics: str) -> None:
    found = read(BASE, metrics=metrics)

    assert (found.slots, found.models[0].slots) == (8, None)


def test_slots_have_bounds() -> None:
    assert whole_requests(METRICS, 10**6) == 4
    assert whole_requests(METRICS, 64) == 1024
    assert whole_requests(METRICS, 0) is None


def test_older_names_of_metrics_are_understood() -> None:
    assert held(METRICS.replace("vllm:", "vllm_")) == 7
    assert held("") is None


@pytest.mark.parametrize(
    ("names", "paths", "expected"),
    [
        ("Qwen/Qwen3-8B", CHAT, ("chat", "completion", "json_schema")),
        ("Qwen/Qwen3-8B", BOTH, ("chat", "completion", "json_schema")),
        ("Qwen/Qwen3-8B", frozenset(), ("chat", "completion", "json_schema")),
        ("some-vectors", frozenset({"embedding"}), ("embedding",)),
        ("BAAI/bge-m3", BOTH, ("embedding",)),
        ("BAAI/bge-m3", frozenset(), ("embedding",)),
        ("pictures Qwen/Qwen2.5-VL-7B", CHAT, ("chat", "completion", "vision", "json_schema")),
    ],
)
def test_capabilities_by_paths_then_by_name(names: str, paths: frozenset[str], expected: tuple[str, ...]) -> None:
    assert capabilities(names, paths) == expected


def test_it_is_known_as_owner_or_by_its_metrics() -> None:
    assert is_vllm(Listed((BASE,)), "")
    assert is_vllm(Listed(({"id": "x"},)), METRICS)
    assert not is_vllm(Listed(({"id": "x", "owned_by": "me"},)), "sglang:num_running_reqs 1")
