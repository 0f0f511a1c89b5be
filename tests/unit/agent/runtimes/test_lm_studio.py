"""LM Studio's answers, after its documentation of `GET /api/v1/models` and `GET /api/v0/models`."""

from __future__ import annotations

from typing import Any

from intertie.agent.runtimes._kind import Site
from intertie.agent.runtimes.lm_studio import models, older_models, runtime

GEMMA: dict[str, Any] = {
    "type": "llm",
    "publisher": "google",
    "key": "google/gemma-4-26b-a4b",
    "display_name": "Gemma 4 26B A4B",
    "architecture": "gemma4",
    "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
    "size_bytes": 17990911801,
    "params_string": "26B-A4B",
    "loaded_instances": [
        {
            "id": "google/gemma-4-26b-a4b",
            "config": {"context_length": 4096, "eval_batch_size": 512, "parallel": 4, "flash_attention": True},
        }
    ],
    "max_context_length": 262144,
    "format": "gguf",
    "capabilities": {"vision": True, "trained_for_tool_use": True},
}
R1 = {
    **GEMMA,
    "key": "deepseek-r1",
    "loaded_instances": [],
    "capabilities": {"vision": False, "trained_for_tool_use": False},
}
NOMIC: dict[str, Any] = {
    "type": "embedding",
    "key": "text-embedding-nomic-embed-text-v1.5",
    "quantization": {"name": "F16", "bits_per_weight": 16},
    "params_string": None,
    "loaded_instances": [],
    "max_context_length": 2048,
    "format": "gguf",
}
EVERY = ["google/gemma-4-26b-a4b", "deepseek-r1", "text-embedding-nomic-embed-text-v1.5"]


def test_loaded_context_and_parallel_are_the_instances() -> None:
    """Not the 262144 the model could take."""
    gemma, r1, nomic = models({"models": [GEMMA, R1, NOMIC]}, EVERY) or ()

    assert (gemma.name, gemma.context, gemma.slots, gemma.loaded) == ("google/gemma-4-26b-a4b", 4096, 4, True)
    assert (gemma.quantisation, gemma.parameters) == ("Q4_K_M", "26B-A4B")
    assert gemma.capabilities == ("chat", "completion", "tools", "vision", "json_schema")
    assert (r1.loaded, r1.context, r1.slots, r1.capabilities) == (
        False,
        None,
        None,
        ("chat", "completion", "json_schema"),
    )
    assert (nomic.capabilities, nomic.parameters) == (("embedding",), "")


def test_what_cannot_be_called_is_left_out() -> None:
    """Without just-in-time loading `/v1/models` lists the loaded ones only."""
    assert [model.name for model in models({"models": [GEMMA, R1]}, ["google/gemma-4-26b-a4b"]) or ()] == [GEMMA["key"]]


def test_instances_are_called_by_their_own_names() -> None:
    twice = {**GEMMA, "loaded_instances": [{"id": "fast", "config": {"parallel": 2}}, {"id": "long", "config": {}}]}
    found = models({"models": [twice]}, []) or ()

    assert [(model.name, model.slots, model.context) for model in found] == [("fast", 2, None), ("long", None, None)]
    assert runtime(Site("http://127.0.0.1:1234"), found).slots == 3
    assert runtime(Site("http://127.0.0.1:1234"), ()).slots == 1


def test_before_0_4_a_loaded_context_may_be_told() -> None:
    seeing = {
        "id": "qwen2-vl-7b-instruct",
        "object": "model",
        "type": "vlm",
        "publisher": "mlx-community",
        "arch": "qwen2_vl",
        "compatibility_type": "mlx",
        "quantization": "4bit",
        "state": "loaded",
        "max_context_length": 32768,
        "loaded_context_length": 4096,
        "capabilities": ["tool_use"],
    }
    older = {name: value for name, value in seeing.items() if name not in {"loaded_context_length", "capabilities"}}
    away = {**seeing, "id": "away", "state": "not-loaded"}
    first, second, third = older_models({"data": [seeing, {**older, "id": "older"}, away]}, ["away"]) or ()

    assert (first.context, first.quantisation, first.loaded) == (4096, "4bit", True)
    assert first.capabilities == ("chat", "completion", "tools", "vision", "json_schema")
    assert (second.context, second.loaded) == (None, True)
    assert (third.context, third.loaded) == (None, False)


def test_other_servers_lists_are_none_of_its() -> None:
    others: list[object] = [None, [], {"error": "x"}, {"models": [{"name": "llama"}]}, {"data": [{"id": "x"}]}]
    for other in others:
        assert models(other, []) is None
        assert older_models(other, []) is None
    assert models({"models": []}, []) == ()
