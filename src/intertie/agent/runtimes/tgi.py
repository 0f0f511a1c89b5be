"""Hugging Face Text Generation Inference. Read after router/src/lib.rs (`Info`) and router/src/server.rs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from intertie.agent.inventory import Model, Runtime
from intertie.agent.runtimes._answers import (
    count,
    members,
    parameters_in,
    quantisation_in,
    sees,
    slots,
    whole,
    word,
)
from intertie.agent.runtimes._kind import Listed, Reading, Site

_SEEING: Final = frozenset({"image-text-to-text", "image-to-text"})


class TGI:
    """Serves one model, always loaded."""

    kind = "tgi"
    title = "Text Generation Inference"
    # 80 in its container, which people publish as 8080; 3000 for its launcher.
    ports: tuple[int, ...] = (3000, 80)
    owners: frozenset[str] = frozenset()

    async def read(self, site: Site, listed: Listed) -> Reading | None:
        """What runs at `site`; `None` if it is no TGI."""
        info, metrics = await asyncio.gather(site.ask("/info"), site.ask("/metrics"))
        told = members(info.json)
        return Reading(runtime(site, listed, told, metrics.text)) if is_tgi(told) else None

    async def running(self, site: Site, _loaded: Sequence[str]) -> int | None:
        """From the metrics, which are always on."""
        return held((await site.ask("/metrics")).text)


def is_tgi(info: Mapping[str, Any]) -> bool:
    """Its information has both limits; the server for embeddings of the same makers has only the second."""
    return bool(word(info.get("model_id"))) and "max_total_tokens" in info and "max_concurrent_requests" in info


def runtime(site: Site, listed: Listed, info: Mapping[str, Any], metrics: str) -> Runtime:
    """From `/v1/models`, `/info` and `/metrics`."""
    most = slots(info.get("max_concurrent_requests"))
    model = str(info["model_id"])
    found = tuple(
        Model(
            name,
            context=whole(info.get("max_total_tokens")),
            slots=most,
            quantisation=quantisation_in(model),
            parameters=parameters_in(model),
            capabilities=capabilities(model, info),
        )
        for name in listed.names
    )
    return Runtime(
        "tgi",
        site.url,
        site.key,
        word(info.get("version")),
        found,
        slots=most or 1,
        guessed=most is None,
        queue=count(metrics, "tgi_queue_size"),
    )


def capabilities(model: str, info: Mapping[str, Any]) -> tuple[str, ...]:
    """It guides tools and JSON schemas by a grammar for every model. Vision by what the model is published as."""
    tag = word(info.get("model_pipeline_tag"))
    seeing = tag in _SEEING if tag else sees(model)
    return ("chat", "completion", "tools", *(("vision",) if seeing else ()), "json_schema")


def held(metrics: str) -> int | None:
    """Requests in the batch, and those that wait to join it."""
    return count(metrics, "tgi_batch_current_size", "tgi_queue_size")


KIND: Final = TGI()
