"""vLLM. Read after vllm/entrypoints/openai/models/serving.py and vllm/v1/metrics/loggers.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from intertie.agent.inventory import Model, Runtime
from intertie.agent.runtimes._answers import (
    MOST_SLOTS,
    count,
    embeds,
    labels,
    members,
    parameters_in,
    quantisation_in,
    sees,
    whole,
    word,
)
from intertie.agent.runtimes._kind import Listed, Reading, Site

FEWEST_SLOTS: Final = 4
UNKNOWN_SLOTS: Final = 8
"""Where the metrics do not tell. It batches at every step, so a few more cost each one little."""
_WRONG_METHOD: Final = 405


class VLLM:
    """Serves one model, always loaded, and its adapters."""

    kind = "vllm"
    title = "vLLM"
    ports: tuple[int, ...] = (8000,)
    owners = frozenset({"vllm"})

    async def read(self, site: Site, listed: Listed) -> Reading | None:
        """What runs at `site`; `None` if it is no vLLM."""
        version, metrics, chat, embedding = await asyncio.gather(
            site.ask("/version"),
            site.ask("/metrics"),
            site.ask("/v1/chat/completions"),
            site.ask("/v1/embeddings"),
        )
        if not is_vllm(listed, metrics.text):
            return None
        paths = frozenset(
            path
            for path, answer in (("chat", chat), ("embedding", embedding))
            if answer.status in {_WRONG_METHOD, 200}  # there is such a path, it only wants a POST
        )
        return Reading(runtime(site, listed, version.json, metrics.text, paths))

    async def running(self, site: Site, _loaded: Sequence[str]) -> int | None:
        """From the metrics, which are always on."""
        return held((await site.ask("/metrics")).text)


def is_vllm(listed: Listed, metrics: str) -> bool:
    """It says so as owner of its models, or its metrics have its name."""
    return "vllm" in listed.owners or "\nvllm:" in metrics


def runtime(site: Site, listed: Listed, version: object, metrics: str, paths: frozenset[str]) -> Runtime:
    """From `/v1/models`, `/version`, `/metrics`, and which paths there are."""
    found = tuple(_model(entry, listed, paths) for entry in listed.entries)
    slots = whole_requests(metrics, max((model.context or 0 for model in found), default=0))
    return Runtime(
        "vllm",
        site.url,
        site.key,
        word(members(version).get("version")),
        tuple(Model(**{**vars(model), "slots": slots}) for model in found),
        slots=slots or UNKNOWN_SLOTS,
        guessed=slots is None,
        queue=count(metrics, "num_requests_waiting"),
    )


def whole_requests(metrics: str, context: int) -> int | None:
    """How many requests of full length its memory holds at a time, from the size of its cache in blocks of tokens.

    The configured `--max-num-seqs` is told nowhere. Most requests are far shorter, so this is on the safe side.
    """
    if not context:
        return None
    tokens = 0
    for found in labels(metrics, "cache_config_info"):
        tokens += (whole(found.get("block_size")) or 0) * (whole(found.get("num_gpu_blocks")) or 0)
    return min(max(tokens // context, FEWEST_SLOTS), MOST_SLOTS) if tokens else None


def held(metrics: str) -> int | None:
    """Requests that run or wait."""
    return count(metrics, "num_requests_running", "num_requests_waiting")


def _model(entry: dict[str, object], listed: Listed, paths: frozenset[str]) -> Model:
    name = str(entry["id"])
    root = word(entry.get("root"))
    # An adapter has its base model as parent, and that one's context.
    base = next((one for one in listed.entries if one["id"] == entry.get("parent")), entry)
    return Model(
        name,
        context=whole(entry.get("max_model_len")) or whole(base.get("max_model_len")),
        quantisation=quantisation_in(root) or quantisation_in(name),
        parameters=parameters_in(root) or parameters_in(name),
        capabilities=capabilities(f"{name} {root}", paths),
    )


def capabilities(names: str, paths: frozenset[str]) -> tuple[str, ...]:
    """Newer ones have only the paths their model can serve; older ones have all, then the name decides.

    Structured output is built in. Whether tools were switched on (`--enable-auto-tool-choice`) is told nowhere, and a
    server without them refuses such a call, so `tools` is not claimed. Vision is claimed by the model's name.
    """
    chat = "chat" in paths or not paths
    embedding = "embedding" in paths
    if (embedding and not chat) or (embedding and embeds(names)) or (not paths and embeds(names)):
        return ("embedding",)
    return ("chat", "completion", *(("vision",) if any(sees(name) for name in names.split()) else ()), "json_schema")


KIND: Final = VLLM()
