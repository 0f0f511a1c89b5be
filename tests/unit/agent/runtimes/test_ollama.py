"""Ollama's answers, in the shapes of its docs/api.md and api/types.go (ListModelResponse, ProcessModelResponse)."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.agent.inventory import Model
from intertie.agent.runtimes._kind import Site
from intertie.agent.runtimes.ollama import is_ollama, models, runtime

LLAMA: dict[str, Any] = {
    "name": "llama3.2:latest",
    "model": "llama3.2:latest",
    "modified_at": "2025-05-04T17:37:44.706015396-07:00",
    "size": 2019393189,
    "digest": "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.2B",
        "quantization_level": "Q4_K_M",
    },
}
LOADED = {
    "name": "llama3.2:latest",
    "model": "llama3.2:latest",
    "size": 3137025024,
    "digest": LLAMA["digest"],
    "details": LLAMA["details"],
    "expires_at": "2026-06-04T14:38:31.83753-07:00",
    "size_vram": 3137025024,
    "context_length": 4096,
}
SHOWN = {
    "capabilities": ["completion", "tools", "insert"],
    "parameters": 'num_keep 24\nnum_ctx                        32768\nstop "<|eot_id|>"',
    "details": LLAMA["details"],
}


def read(tags: object, loaded: object = None, shown: dict[str, dict[str, Any]] | None = None) -> tuple[Model, ...]:
    return models(tags, loaded, shown or {})


def test_a_loaded_model_has_the_context_it_was_loaded_with() -> None:
    """4096 by default on small cards, whatever the model could take and its file asks for."""
    (model,) = read({"models": [LLAMA]}, {"models": [LOADED]}, {"llama3.2:latest": SHOWN})

    assert model == Model(
        "llama3.2:latest",
        context=4096,
        loaded=True,
        quantisation="Q4_K_M",
        parameters="3.2B",
        capabilities=("chat", "completion", "tools", "json_schema"),
    )


def test_before_it_is_loaded_only_its_own_setting_is_known() -> None:
    (set_up,) = read({"models": [LLAMA]}, {"models": []}, {"llama3.2:latest": SHOWN})
    (plain,) = read({"models": [LLAMA]}, {"models": []})

    assert (set_up.loaded, set_up.context) == (False, 32768)
    assert (plain.loaded, plain.context) == (False, None)


def test_an_older_one_does_not_tell_the_loaded_context() -> None:
    older = {name: value for name, value in LOADED.items() if name != "context_length"}
    (model,) = read({"models": [LLAMA]}, {"models": [older]})

    assert (model.loaded, model.context) == (True, None)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["completion"], ("chat", "completion", "json_schema")),
        (["completion", "vision", "thinking"], ("chat", "completion", "vision", "json_schema")),
        (["embedding"], ("embedding",)),
        (["image"], ()),
    ],
)
def test_capabilities_are_what_it_tells(told: list[str], expected: tuple[str, ...]) -> None:
    (in_list,) = read({"models": [{**LLAMA, "capabilities": told}]})
    (shown,) = read({"models": [LLAMA]}, None, {"llama3.2:latest": {"capabilities": told}})

    assert in_list.capabilities == shown.capabilities == expected


def test_without_capabilities_the_family_decides() -> None:
    details = {"family": "nomic-bert", "families": ["nomic-bert"], "quantization_level": "unknown"}
    (embedding,) = read({"models": [{"name": "my-vectors:latest", "details": details}]})
    (seeing,) = read({"models": [{"name": "old:latest", "details": {"families": ["llama", "clip"]}}]})

    assert (embedding.capabilities, embedding.quantisation) == (("embedding",), "")
    assert seeing.capabilities == ("chat", "completion", "vision", "json_schema")


def test_models_that_run_in_somebodys_cloud_are_not_this_machines() -> None:
    cloud = {**LLAMA, "name": "kimi-k2:cloud", "remote_model": "kimi-k2", "remote_host": "https://ollama.com:443"}

    assert [model.name for model in read({"models": [cloud, LLAMA]})] == ["llama3.2:latest"]


@pytest.mark.parametrize("tags", [None, [], {"models": None}, {"models": [{"name": 5}, {}, 7]}, {"models": "x"}])
def test_odd_lists_are_empty(tags: object) -> None:
    assert read(tags) == ()


def test_it_is_known_by_its_version_and_its_tags() -> None:
    assert is_ollama({"version": "0.12.3"}, {"models": None})
    assert is_ollama({"version": "0.12.3"}, {"models": [LLAMA]})
    assert not is_ollama({"version": "0.12.3"}, None)
    assert not is_ollama(None, {"models": []})


def test_it_gets_one_exchange_at_a_time() -> None:
    found = runtime(Site("http://127.0.0.1:11434"), {"version": "0.12.3"}, ())

    assert (found.version, found.slots, found.queue) == ("0.12.3", 1, None)
