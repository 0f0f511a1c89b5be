"""What the six runtimes and a plain compatible server answer to an agent's questions, as the real ones spell it.

After: ollama docs/api.md and api/types.go; vllm entrypoints/openai/models/serving.py and v1/metrics/loggers.py; a real
llama.cpp server (b11549); LM Studio's documentation of /api/v1/models and /api/v0/models; sglang
srt/entrypoints/http_server.py; text-generation-inference router/src/{lib,server}.rs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

METRICS = "text/plain; version=0.0.4"


@dataclass
class FakeModel:
    """A model as its runtime holds it."""

    name: str
    context: int = 8192
    """As loaded."""
    most: int = 131072
    """What it was trained for."""
    loaded: bool = True
    embedding: bool = False
    tools: bool = True
    vision: bool = False
    quantisation: str = "Q4_K_M"
    parameters: float = 8.03e9


class State(Protocol):
    """What the answers depend on."""

    models: dict[str, FakeModel]
    slots: int
    version: str
    metrics: bool

    @property
    def working(self) -> int:
        """Requests with a slot."""

    @property
    def waiting(self) -> int:
        """Requests without one."""


Shape = Callable[[State, Mapping[str, Any]], Any]
"""From the state and the request's JSON to a JSON answer, a text of metrics, or None for 404."""


def _billions(model: FakeModel) -> str:
    return f"{model.parameters / 1e9:.1f}B"


def _listed(owner: str) -> Shape:
    def shape(state: State, _: Mapping[str, Any]) -> Any:
        rows = [{"id": name, "object": "model", "created": 1754600000, "owned_by": owner} for name in state.models]
        return {"object": "list", "data": rows}

    return shape


# -- Ollama ------------------------------------------------------------------------------------------------------------


def _ollama_details(model: FakeModel) -> dict[str, Any]:
    family = "nomic-bert" if model.embedding else "llama"
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": _billions(model),
        "quantization_level": model.quantisation,
    }


def _ollama_entry(model: FakeModel) -> dict[str, Any]:
    size, digest = 4683075271, f"{abs(hash(model.name)):064x}"[:64]
    return {"name": model.name, "model": model.name, "size": size, "digest": digest, "details": _ollama_details(model)}


def _ollama_tags(state: State, _: Mapping[str, Any]) -> Any:
    return {
        "models": [_ollama_entry(model) | {"modified_at": "2026-05-04T17:37:44Z"} for model in state.models.values()]
    }


def _ollama_ps(state: State, _: Mapping[str, Any]) -> Any:
    loaded = [model for model in state.models.values() if model.loaded]
    more = {"expires_at": "2026-06-04T14:38:31Z", "size_vram": 4683075271}
    return {"models": [_ollama_entry(model) | more | {"context_length": model.context} for model in loaded]}


def _ollama_show(state: State, question: Mapping[str, Any]) -> Any:
    model = state.models.get(str(question.get("model")))
    if model is None:
        return None
    can = ["embedding"] if model.embedding else ["completion"]
    can += [word for word, has in (("tools", model.tools), ("vision", model.vision)) if has and not model.embedding]
    info = {"general.architecture": "llama", "llama.context_length": model.most}
    return {"modelfile": "# …", "details": _ollama_details(model), "model_info": info, "capabilities": can}


# -- vLLM --------------------------------------------------------------------------------------------------------------


def _vllm_models(state: State, _: Mapping[str, Any]) -> Any:
    rows = [
        {
            "id": model.name,
            "object": "model",
            "created": 1754600000,
            "owned_by": "vllm",
            "root": model.name,
            "parent": None,
            "max_model_len": model.context,
            "permission": [{"id": "modelperm-1", "object": "model_permission"}],
        }
        for model in state.models.values()
    ]
    return {"object": "list", "data": rows}


def _vllm_metrics(state: State, _: Mapping[str, Any]) -> Any:
    context = max((model.context for model in state.models.values()), default=4096)
    blocks = state.slots * context // 16
    label = f'engine="0",model_name="{next(iter(state.models), "")}"'
    return (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        f"vllm:num_requests_running{{{label}}} {float(state.working)}\n"
        "# TYPE vllm:num_requests_waiting gauge\n"
        f"vllm:num_requests_waiting{{{label}}} {float(state.waiting)}\n"
        "# TYPE vllm:cache_config_info gauge\n"
        f'vllm:cache_config_info{{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="{blocks}"}} 1.0\n'
        f'vllm:request_success_total{{{label},finished_reason="stop"}} 12.0\n'
    )


# -- llama.cpp ---------------------------------------------------------------------------------------------------------


def _llama_models(state: State, _: Mapping[str, Any]) -> Any:
    rows = [
        {
            "id": model.name,
            "aliases": [model.name],
            "object": "model",
            "created": 1754600000,
            "owned_by": "llamacpp",
            "meta": {
                "n_vocab": 49152,
                "n_ctx": model.context,
                "n_ctx_train": model.most,
                "n_params": int(model.parameters),
                "ftype": model.quantisation,
            },
        }
        for model in state.models.values()
    ]
    return {"models": [{"name": name, "capabilities": ["completion"]} for name in state.models], "data": rows}


def _llama_props(state: State, _: Mapping[str, Any]) -> Any:
    model = next(iter(state.models.values()))
    return {
        "default_generation_settings": {"params": {"temperature": 0.8}, "n_ctx": model.context},
        "total_slots": state.slots,
        "model_alias": model.name,
        "model_ftype": model.quantisation,
        "model_path": f"/models/{model.name}.gguf",
        "modalities": {"vision": model.vision, "audio": False},
        "media_marker": f"<__media_{id(state):032x}__>",
        "chat_template": "{% for tool in tools %}…{% endfor %}",
        "chat_template_caps": {"supports_tools": model.tools, "supports_tool_calls": model.tools},
        "build_info": state.version,
        "is_sleeping": not model.loaded,
    }


def _llama_slots(state: State, _: Mapping[str, Any]) -> Any:
    context = next(iter(state.models.values())).context
    return [{"id": n, "n_ctx": context, "is_processing": n < state.working} for n in range(state.slots)]


def _llama_metrics(state: State, _: Mapping[str, Any]) -> Any:
    if not state.metrics:
        return None
    return f"llamacpp:requests_processing {state.working}\nllamacpp:requests_deferred {state.waiting}\n"


# -- LM Studio ---------------------------------------------------------------------------------------------------------


def _lm_studio_models(state: State, _: Mapping[str, Any]) -> Any:
    rows = []
    for model in state.models.values():
        row: dict[str, Any] = {
            "type": "embedding" if model.embedding else "llm",
            "publisher": "somebody",
            "key": model.name,
            "quantization": {"name": model.quantisation, "bits_per_weight": 4},
            "size_bytes": 4683075271,
            "params_string": _billions(model),
            "loaded_instances": [],
            "max_context_length": model.most,
            "format": "gguf",
        }
        if not model.embedding:
            row["capabilities"] = {"vision": model.vision, "trained_for_tool_use": model.tools}
        if model.loaded:
            config = {"context_length": model.context, "parallel": state.slots, "flash_attention": True}
            row["loaded_instances"] = [{"id": model.name, "config": config}]
        rows.append(row)
    return {"models": rows}


# -- SGLang ------------------------------------------------------------------------------------------------------------


def _sglang_models(state: State, _: Mapping[str, Any]) -> Any:
    rows = [
        {"id": model.name, "object": "model", "owned_by": "sglang", "root": model.name, "max_model_len": model.context}
        for model in state.models.values()
    ]
    return {"object": "list", "data": rows}


def _sglang_server(state: State, _: Mapping[str, Any]) -> Any:
    model = next(iter(state.models.values()))
    return {
        "model_path": model.name,
        "context_length": None,
        "quantization": model.quantisation.lower(),
        "api_key": "sk-must-not-leave",
        "max_running_requests": None,
        "tool_call_parser": "qwen25" if model.tools else None,
        "grammar_backend": "xgrammar",
        "internal_states": [{"effective_max_running_requests_per_dp": state.slots, "last_gen_throughput": 41.0}],
        "version": state.version,
    }


def _sglang_model(state: State, _: Mapping[str, Any]) -> Any:
    model = next(iter(state.models.values()))
    told = {"is_generation": not model.embedding, "has_image_understanding": model.vision}
    return {"model_path": model.name, "tokenizer_path": model.name, **told}


def _sglang_load(state: State, _: Mapping[str, Any]) -> Any:
    return [{"dp_rank": 0, "num_reqs": state.working + state.waiting, "num_waiting_reqs": state.waiting}]


def _sglang_metrics(state: State, _: Mapping[str, Any]) -> Any:
    if not state.metrics:
        return None
    counts = {"num_running_reqs": state.working, "num_queue_reqs": state.waiting}
    return "".join(f'sglang:{name}{{tp_rank="0"}} {float(count)}\n' for name, count in counts.items())


# -- TGI ---------------------------------------------------------------------------------------------------------------


def _tgi_models(state: State, _: Mapping[str, Any]) -> Any:
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": name} for name in state.models]
    return {"object": "list", "data": rows}


def _tgi_info(state: State, _: Mapping[str, Any]) -> Any:
    model = next(iter(state.models.values()))
    return {
        "model_id": model.name,
        "model_sha": None,
        "model_pipeline_tag": "image-text-to-text" if model.vision else "text-generation",
        "max_concurrent_requests": state.slots,
        "max_best_of": 2,
        "max_input_tokens": model.context - 1,
        "max_total_tokens": model.context,
        "validation_workers": 2,
        "router": "text-generation-router",
        "version": state.version,
    }


def _tgi_metrics(state: State, _: Mapping[str, Any]) -> Any:
    return f"# TYPE tgi_queue_size gauge\ntgi_queue_size {state.waiting}\ntgi_batch_current_size {state.working}\n"


def _version(state: State, _: Mapping[str, Any]) -> Any:
    return {"version": state.version}


SHAPES: dict[str, dict[str, Shape]] = {
    "ollama": {
        "/api/version": _version,
        "/api/tags": _ollama_tags,
        "/api/ps": _ollama_ps,
        "/api/show": _ollama_show,
        "/v1/models": _listed("library"),
    },
    "vllm": {"/v1/models": _vllm_models, "/version": _version, "/metrics": _vllm_metrics},
    "llama_cpp": {
        "/v1/models": _llama_models,
        "/props": _llama_props,
        "/slots": _llama_slots,
        "/metrics": _llama_metrics,
    },
    "lm_studio": {"/v1/models": _listed("organization_owner"), "/api/v1/models": _lm_studio_models},
    "sglang": {
        "/v1/models": _sglang_models,
        "/get_server_info": _sglang_server,
        "/get_model_info": _sglang_model,
        "/get_load": _sglang_load,
        "/metrics": _sglang_metrics,
    },
    "tgi": {"/v1/models": _tgi_models, "/info": _tgi_info, "/metrics": _tgi_metrics},
    "compatible": {"/v1/models": _listed("somebody")},
    "gateway": {"/v1/models": _listed("ollama")},
    "proxy": {"/v1/models": _listed("openai")},
}
"""Kind -> path -> answer."""

SERVERS = {"llama_cpp": "llama.cpp", "vllm": "uvicorn", "sglang": "uvicorn"}
"""The header `server` where there is one."""
