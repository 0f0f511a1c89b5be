"""SGLang. Read after python/sglang/srt/entrypoints/http_server.py and its page on production metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from intertie.agent.inventory import Model, Runtime
from intertie.agent.runtimes._answers import (
    count,
    embeds,
    members,
    objects,
    parameters_in,
    quantisation_in,
    sees,
    slots,
    whole,
    word,
)
from intertie.agent.runtimes._kind import Listed, Reading, Site

UNKNOWN_SLOTS: Final = 8
"""Where it does not tell how many requests it runs at most."""


class SGLang:
    """Serves one model, always loaded. Its server information has its own key in it: only named members are kept."""

    kind = "sglang"
    title = "SGLang"
    ports: tuple[int, ...] = (30000,)
    owners = frozenset({"sglang"})

    async def read(self, site: Site, listed: Listed) -> Reading | None:
        """What runs at `site`; `None` if it is no SGLang."""
        server, model = await asyncio.gather(
            _either(site, "/get_server_info", "/server_info"), _either(site, "/get_model_info", "/model_info")
        )
        if not is_sglang(listed, server, model):
            return None
        metrics, load = await asyncio.gather(site.ask("/metrics"), site.ask("/get_load"))
        found = runtime(site, listed, server, model, queue=waiting(metrics.text, load.json))
        return Reading(found)

    async def running(self, site: Site, _loaded: Sequence[str]) -> int | None:
        """From the metrics (only with `--enable-metrics`), else from `/get_load`."""
        metrics, load = await asyncio.gather(site.ask("/metrics"), site.ask("/get_load"))
        return held(metrics.text, load.json)


async def _either(site: Site, first: str, second: str) -> dict[str, Any]:
    """Newer ones have dropped `get_` from the paths."""
    return members((await site.ask(first)).json) or members((await site.ask(second)).json)


def is_sglang(listed: Listed, server: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Its model information has what nobody else's has, or it names itself as owner."""
    return ("model_path" in model and "is_generation" in model) or ("sglang" in listed.owners and bool(server))


def runtime(
    site: Site, listed: Listed, server: Mapping[str, Any], model: Mapping[str, Any], *, queue: int | None
) -> Runtime:
    """From `/v1/models`, the server's and the model's information."""
    most = most_running(server)
    path = word(server.get("model_path")) or word(model.get("model_path"))
    told = word(server.get("quantization"))
    found = tuple(
        Model(
            entry["id"],
            context=whole(entry.get("max_model_len"))
            or whole(server.get("context_length"))
            or whole(server.get("max_req_input_len")),
            slots=most,
            quantisation=told.upper() or quantisation_in(path) or quantisation_in(entry["id"]),
            parameters=parameters_in(path) or parameters_in(entry["id"]),
            capabilities=capabilities(f"{entry['id']} {path}", server, model),
        )
        for entry in listed.entries
    )
    version = word(server.get("version"))
    guessed = most is None
    most = most or UNKNOWN_SLOTS
    return Runtime("sglang", site.url, site.key, version, found, slots=most, guessed=guessed, queue=queue)


def most_running(server: Mapping[str, Any]) -> int | None:
    """Requests it runs at a time: what it works out from its memory, summed over its replicas, else what was set."""
    states = objects(server.get("internal_states"))
    effective = [whole(state.get("effective_max_running_requests_per_dp")) for state in states]
    told = [number for number in effective if number is not None]
    return slots(sum(told)) if told else slots(server.get("max_running_requests"))


def capabilities(names: str, server: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, ...]:
    """By `is_generation`. Tools only with a parser for them (`--tool-call-parser`), else calls come out as text.

    A JSON schema needs a grammar backend; one is on unless switched off. Vision is told by newer ones, else by name.
    """
    if model.get("is_generation") is False or server.get("is_embedding") is True:
        return ("embedding",)
    if "is_generation" not in model and any(embeds(name) for name in names.split()):
        return ("embedding",)
    told = model.get("has_image_understanding", server.get("enable_multimodal"))
    seeing = told if isinstance(told, bool) else any(sees(name) for name in names.split())
    return (
        "chat",
        "completion",
        *(("tools",) if word(server.get("tool_call_parser")) else ()),
        *(("vision",) if seeing else ()),
        *(("json_schema",) if server.get("grammar_backend") != "none" else ()),
    )


def held(metrics: str, load: object) -> int | None:
    """Requests that run or wait."""
    told = count(metrics, "num_running_reqs", "num_queue_reqs")
    return told if told is not None else _sum(load, "num_reqs")


def waiting(metrics: str, load: object) -> int | None:
    """Requests that wait."""
    told = count(metrics, "num_queue_reqs")
    return told if told is not None else _sum(load, "num_waiting_reqs")


def _sum(load: object, member: str) -> int | None:
    """Over its replicas."""
    told = [one[member] for one in objects(load) if isinstance(one.get(member), int)]
    return max(0, sum(told)) if told else None


KIND: Final = SGLang()
