"""SGLang's answers, after srt/entrypoints/http_server.py (get_server_info, get_model_info, get_load) and its docs."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.agent.inventory import Runtime
from intertie.agent.runtimes._kind import Listed, Site
from intertie.agent.runtimes.sglang import capabilities, held, is_sglang, most_running, runtime, waiting

ENTRY = {
    "id": "Qwen/Qwen3-14B",
    "object": "model",
    "owned_by": "sglang",
    "root": "Qwen/Qwen3-14B",
    "max_model_len": 40960,
}
SERVER: dict[str, Any] = {
    "model_path": "Qwen/Qwen3-14B",
    "context_length": None,
    "quantization": "fp8",
    "api_key": "sk-secret",
    "max_running_requests": None,
    "max_req_input_len": 40954,
    "tool_call_parser": "qwen25",
    "grammar_backend": "xgrammar",
    "is_embedding": False,
    "internal_states": [
        {"effective_max_running_requests_per_dp": 24, "last_gen_throughput": 0.0},
        {"effective_max_running_requests_per_dp": 24},
    ],
    "version": "0.5.4",
}
MODEL: dict[str, Any] = {
    "model_path": "Qwen/Qwen3-14B",
    "tokenizer_path": "Qwen/Qwen3-14B",
    "is_generation": True,
    "preferred_sampling_params": None,
    "weight_version": "default",
}
METRICS = (
    'sglang:num_running_reqs{model_name="q",tp_rank="0"} 3.0\nsglang:num_queue_reqs{model_name="q",tp_rank="0"} 1.0\n'
)
LOAD = [{"dp_rank": 0, "num_reqs": 5, "num_waiting_reqs": 2}, {"dp_rank": 1, "num_reqs": 1, "num_waiting_reqs": 0}]


def read(server: dict[str, Any] = SERVER, entry: dict[str, Any] = ENTRY) -> Runtime:
    return runtime(Site("http://127.0.0.1:30000"), Listed((entry,)), server, MODEL, queue=1)


def test_model_context_and_slots_over_its_replicas() -> None:
    found = read()
    (model,) = found.models

    assert (found.version, found.slots, found.queue) == ("0.5.4", 48, 1)
    assert (model.name, model.context, model.slots) == ("Qwen/Qwen3-14B", 40960, 48)
    assert (model.quantisation, model.parameters) == ("FP8", "14B")
    assert "sk-secret" not in repr(vars(found))


def test_older_ones_tell_the_context_elsewhere() -> None:
    short = {name: value for name, value in ENTRY.items() if name != "max_model_len"}

    assert read(SERVER, short).models[0].context == 40954
    assert read({**SERVER, "context_length": 8192}, short).models[0].context == 8192


def test_slots_as_set_or_guessed() -> None:
    assert most_running({"max_running_requests": 12, "internal_states": [{}]}) == 12
    assert most_running({"internal_states": None}) is None
    assert read({"version": "0.4"}).slots == 8


@pytest.mark.parametrize(
    ("server", "model", "expected"),
    [
        (SERVER, MODEL, ("chat", "completion", "tools", "json_schema")),
        ({**SERVER, "tool_call_parser": None}, MODEL, ("chat", "completion", "json_schema")),
        ({**SERVER, "grammar_backend": "none"}, MODEL, ("chat", "completion", "tools")),
        (SERVER, {**MODEL, "has_image_understanding": True}, ("chat", "completion", "tools", "vision", "json_schema")),
        (SERVER, {**MODEL, "is_generation": False}, ("embedding",)),
    ],
)
def test_capabilities(server: dict[str, Any], model: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert capabilities("Qwen/Qwen3-14B", server, model) == expected


def test_counts_from_metrics_else_from_its_load() -> None:
    assert (held(METRICS, LOAD), waiting(METRICS, LOAD)) == (4, 1)
    assert (held("", LOAD), waiting("", LOAD)) == (6, 2)
    assert (held("", None), waiting("", {"detail": "Not Found"})) == (None, None)


def test_it_is_known_by_its_model_information() -> None:
    nobody = Listed(({"id": "x"},))

    assert is_sglang(nobody, {}, MODEL)
    assert is_sglang(Listed((ENTRY,)), SERVER, {})
    assert not is_sglang(Listed((ENTRY,)), {}, {})
    assert not is_sglang(nobody, SERVER, {})
