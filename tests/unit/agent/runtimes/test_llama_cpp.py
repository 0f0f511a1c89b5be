"""llama.cpp's answers: those of a real server (b11549); older and router ones after its tools/server/README.md."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.agent.runtimes._kind import Listed, Site
from intertie.agent.runtimes.llama_cpp import capabilities, held, is_llama_cpp, is_router, mark, model, runtime, status

ENTRY: dict[str, Any] = {
    "id": "smollm2-135m",
    "aliases": ["smollm2-135m"],
    "tags": [],
    "object": "model",
    "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
    "created": 1795383398,
    "owned_by": "llamacpp",
    "meta": {
        "vocab_type": 2,
        "n_vocab": 49152,
        "n_ctx": 1024,
        "n_ctx_train": 8192,
        "n_embd": 576,
        "n_params": 134515008,
        "size": 96576768,
        "ftype": "Q4_1",
    },
}
PROPS: dict[str, Any] = {
    "default_generation_settings": {"params": {"seed": 4294967295, "temperature": 0.8}, "n_ctx": 1024},
    "total_slots": 4,
    "model_alias": "smollm2-135m",
    "model_ftype": "Q4_1",
    "model_path": "/models/SmolLM2-135M-Instruct.Q4_1.gguf",
    "modalities": {"vision": False, "video": False, "audio": False},
    "media_marker": "<__media_MlKL04kUWGk6AuAaoMd6TLemtAnedttr__>",
    "endpoint_slots": True,
    "endpoint_metrics": True,
    "chat_template": "{%- for tool in tools %}…<tool_call>…",
    "chat_template_caps": {"supports_tool_calls": True, "supports_tools": True, "supports_system_role": True},
    "build_info": "b11549-3f2c",
    "is_sleeping": False,
}
OLDER_PROPS = {
    "default_generation_settings": {"id": 0, "n_ctx": 1024, "speculative": False, "params": {"n_predict": -1}},
    "total_slots": 1,
    "model_path": "../models/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
    "chat_template": "no such thing here",
    "build_info": "b4321-abc",
}
OLDER_ENTRY = {"id": "../models/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", "owned_by": "llamacpp", "meta": None}
SLOTS = [
    {"id": 0, "n_ctx": 1024, "speculative": False, "is_processing": True, "id_task": 135},
    {"id": 1, "n_ctx": 1024, "speculative": False, "is_processing": False},
]
METRICS = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\nllamacpp:requests_deferred 3\n"


def test_context_is_what_one_request_may_use() -> None:
    """`-c 4096 -np 4` without a shared cache: a quarter each, and not the 8192 it was trained with."""
    found = model(ENTRY, PROPS, embedding=False)

    assert (found.name, found.context, found.slots, found.loaded) == ("smollm2-135m", 1024, 4, True)
    assert (found.quantisation, found.parameters) == ("Q4_1", "135M")
    assert found.capabilities == ("chat", "completion", "tools", "json_schema")


def test_an_older_one_tells_less() -> None:
    found = model(OLDER_ENTRY, OLDER_PROPS, embedding=False)

    assert (found.context, found.slots) == (1024, 1)
    assert (found.quantisation, found.parameters) == ("Q4_K_M", "8B")
    assert found.capabilities == ("chat", "completion", "json_schema")


def test_one_that_sleeps_is_not_loaded() -> None:
    assert not model(ENTRY, {**PROPS, "is_sleeping": True}, embedding=False).loaded


@pytest.mark.parametrize(
    ("changed", "embedding", "expected"),
    [
        ({}, True, ("chat", "completion", "embedding", "tools", "json_schema")),
        ({"modalities": {"vision": True}}, False, ("chat", "completion", "tools", "vision", "json_schema")),
        ({"chat_template_caps": {"supports_tools": False}}, False, ("chat", "completion", "json_schema")),
        ({"chat_template_caps": None}, False, ("chat", "completion", "tools", "json_schema")),
        ({"model_path": "/m/nomic-embed-text-v1.5.gguf"}, True, ("embedding",)),
    ],
)
def test_capabilities(changed: dict[str, Any], embedding: bool, expected: tuple[str, ...]) -> None:
    assert capabilities(ENTRY, {**PROPS, **changed}, embedding=embedding) == expected


def test_a_router_says_of_each_model_whether_it_is_loaded() -> None:
    def routed(told: dict[str, Any]) -> dict[str, Any]:
        return {"id": "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "status": told}

    loaded, unloaded = routed({"value": "loaded", "args": ["llama-server"]}), routed({"value": "unloaded"})
    failed = routed({"value": "unloaded", "failed": True, "exit_code": 1})

    assert is_router(Listed((loaded, unloaded)), {})
    assert not is_router(Listed((ENTRY,)), PROPS)
    assert [status(one) for one in (loaded, unloaded, failed, ENTRY)] == ["loaded", "unloaded", "failed", ""]
    assert model(loaded, PROPS, embedding=False).loaded
    away = model(unloaded, {}, embedding=False)
    assert (away.loaded, away.context, away.slots, away.quantisation, away.parameters) == (
        False,
        None,
        None,
        "Q4_K_M",
        "4B",
    )


def test_what_it_holds_from_slots_and_metrics() -> None:
    assert held(SLOTS, "") == 1
    assert held(SLOTS, METRICS) == 4
    assert held(None, METRICS) == 4
    assert held([{"id": 0, "state": 1}], "") == 1
    assert held({"error": {"code": 501}}, "") is None


def test_the_queue_is_told_by_the_metrics_only() -> None:
    site = Site("http://127.0.0.1:8080")

    assert runtime(site, PROPS, (), METRICS).queue == 3
    assert runtime(site, PROPS, (), "").queue is None
    assert (runtime(site, PROPS, (), "").slots, runtime(site, {}, (), "").slots) == (4, 1)


def test_it_is_known_as_owner_as_server_or_by_its_slots() -> None:
    other = Listed(({"id": "x", "owned_by": "me"},))

    assert is_llama_cpp(Listed((ENTRY,)), {})
    assert is_llama_cpp(other, PROPS)
    assert is_llama_cpp(Listed((), "llama.cpp"), {"role": "router"})
    assert not is_llama_cpp(other, {})
    assert not is_llama_cpp(other, {"error": {}})


def test_only_what_a_process_draws_tells_it_from_another() -> None:
    assert mark(PROPS)
    assert not mark({"media_marker": "<__media__>"})
    assert not mark({})
