"""Text Generation Inference's answers, after router/src/lib.rs (`Info`) and the gauges in backends/v3/src."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.agent.runtimes._kind import Listed, Site
from intertie.agent.runtimes.tgi import capabilities, held, is_tgi, runtime

INFO: dict[str, Any] = {
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "model_sha": "0e9e39f249a16976918f6564b8830bc894c89659",
    "model_pipeline_tag": "text-generation",
    "max_concurrent_requests": 128,
    "max_best_of": 2,
    "max_stop_sequences": 4,
    "max_input_tokens": 4095,
    "max_total_tokens": 4096,
    "validation_workers": 2,
    "max_client_batch_size": 4,
    "router": "text-generation-router",
    "version": "3.3.7",
    "sha": None,
    "docker_label": None,
}
ENTRY = {"id": INFO["model_id"], "object": "model", "created": 0, "owned_by": INFO["model_id"]}
METRICS = "# TYPE tgi_queue_size gauge\ntgi_queue_size 2\ntgi_batch_current_size 6\ntgi_batch_next_size_sum 9\n"


def test_model_context_slots_and_queue() -> None:
    found = runtime(Site("http://127.0.0.1:3000"), Listed((ENTRY,)), INFO, METRICS)
    (model,) = found.models

    assert (found.version, found.slots, found.queue) == ("3.3.7", 128, 2)
    assert (model.name, model.context, model.parameters) == ("meta-llama/Llama-3.1-8B-Instruct", 4096, "8B")
    assert model.capabilities == ("chat", "completion", "tools", "json_schema")


def test_what_it_holds() -> None:
    assert held(METRICS) == 8
    assert held("") is None


@pytest.mark.parametrize(
    ("model", "tag", "sees"),
    [("a/b", "image-text-to-text", True), ("a/llava-1.5", None, True), ("a/llava-1.5", "text-generation", False)],
)
def test_vision_is_told_by_its_tag_else_by_name(model: str, tag: str | None, sees: bool) -> None:
    assert ("vision" in capabilities(model, {**INFO, "model_pipeline_tag": tag})) is sees


def test_it_is_known_by_its_limits() -> None:
    embedding = {"model_id": "BAAI/bge-m3", "max_concurrent_requests": 512, "max_input_length": 8192}

    assert is_tgi(INFO)
    assert not is_tgi(embedding)
    assert not is_tgi({})
