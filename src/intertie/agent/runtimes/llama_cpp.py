"""llama.cpp's server, with one model or as a router of many. Read after its tools/server/README.md and a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from intertie.agent.inventory import Model, Runtime
from intertie.agent.runtimes._answers import (
    MOST_SLOTS,
    count,
    embeds,
    members,
    objects,
    parameters_in,
    quantisation_in,
    size_word,
    slots,
    whole,
    word,
    words,
)
from intertie.agent.runtimes._kind import Listed, Reading, Site

_NOT_SUPPORTED: Final = 501
_MOST_KEPT: Final = 100
_MOST_ROUTED: Final = 16
"""Loaded models of a router that are asked one by one."""


class LlamaCpp:
    """Says in `/props` what its slots and their context are."""

    kind = "llama_cpp"
    title = "llama.cpp"
    # 9931 is what its newer documentation names; 8081 and 8082 are where people put a second and a third one.
    ports: tuple[int, ...] = (8080, 8081, 8082, 9931)
    owners = frozenset({"llamacpp"})

    def __init__(self) -> None:
        self._embeds: dict[tuple[str, str], bool] = {}

    async def read(self, site: Site, listed: Listed) -> Reading | None:
        """What runs at `site`; `None` if it is no llama.cpp server."""
        props = members((await site.ask("/props")).json)
        if not is_llama_cpp(listed, props):
            return None
        if is_router(listed, props):
            return await self._read_router(site, listed, props)
        metrics, embedding = await asyncio.gather(site.ask("/metrics"), self._can_embed(site, props))
        found = tuple(model(entry, props, embedding=embedding) for entry in listed.entries)
        return Reading(runtime(site, props, found, metrics.text), mark(props))

    async def running(self, site: Site, loaded: Sequence[str]) -> int | None:
        """From `/slots` (on by default) and the metrics (off by default)."""
        listed, metrics = await asyncio.gather(site.ask("/slots"), site.ask("/metrics"))
        told = held(listed.json, metrics.text)
        if told is not None or listed.status not in {400, 404}:
            return told
        # A router wants to be told whose slots; never load a model only to look at it.
        paths = [f"/slots?model={quote(name, safe='')}&autoload=false" for name in loaded[:_MOST_ROUTED]]
        answers = [held(answer.json, "") for answer in await asyncio.gather(*(site.ask(path) for path in paths))]
        known = [answer for answer in answers if answer is not None]
        return sum(known) if known else None

    async def _read_router(self, site: Site, listed: Listed, props: dict[str, Any]) -> Reading:
        loaded = [entry for entry in listed.entries if status(entry) == "loaded"][:_MOST_ROUTED]
        paths = [f"/props?model={quote(entry['id'], safe='')}&autoload=false" for entry in loaded]
        told = [members(answer.json) for answer in await asyncio.gather(*(site.ask(path) for path in paths))]
        by_name = {entry["id"]: own for entry, own in zip(loaded, told, strict=True)}
        found = tuple(
            model(entry, by_name.get(entry["id"], {}), embedding=False)
            for entry in listed.entries
            if status(entry) not in {"downloading", "failed"}
        )
        total = sum(one.slots or 0 for one in found if one.loaded)
        return Reading(
            Runtime(
                "llama_cpp",
                site.url,
                site.key,
                word(props.get("build_info")),
                found,
                slots=min(max(total, 1), MOST_SLOTS),
            )
        )

    async def _can_embed(self, site: Site, props: Mapping[str, Any]) -> bool:
        """Whether it was started with `--embeddings`: an empty question is refused for the one reason or the other.

        Asked once per process, and not of a sleeping one, which would wake up.
        """
        key = (site.url, mark(props) or word(props.get("model_path")))
        if key not in self._embeds:
            if props.get("is_sleeping") is True:
                return False
            status = (await site.ask("/v1/embeddings", {})).status
            if not 400 <= status <= _NOT_SUPPORTED:
                return False
            if len(self._embeds) >= _MOST_KEPT:
                self._embeds.clear()
            self._embeds[key] = status == 400  # it would embed, had there been an input
        return self._embeds[key]


def is_llama_cpp(listed: Listed, props: Mapping[str, Any]) -> bool:
    """It says so as owner of its models or as server, or `/props` has its slots."""
    named = "llamacpp" in listed.owners or listed.server.lower().startswith("llama.cpp")
    return "total_slots" in props or (named and bool(props)) or "llamacpp" in listed.owners


def is_router(listed: Listed, props: Mapping[str, Any]) -> bool:
    """Several models are listed, each with its status."""
    return props.get("role") == "router" or any(status(entry) for entry in listed.entries)


def mark(props: Mapping[str, Any]) -> str:
    """What newer ones draw at their start, to set off pictures in a prompt; older ones all have the same short one."""
    drawn = word(props.get("media_marker"))
    return drawn if len(drawn) > len("<__media__>") else ""


def status(entry: Mapping[str, Any]) -> str:
    """What a router says about a model: `loaded`, `unloaded`, `loading`, `sleeping`, `failed`; else empty."""
    told = members(entry.get("status"))
    return "failed" if told.get("failed") is True else word(told.get("value"))


def model(entry: Mapping[str, Any], props: Mapping[str, Any], *, embedding: bool) -> Model:
    """From an entry of `/v1/models` and `/props`. `n_ctx` there is what one request may use, slots shared or not."""
    meta = members(entry.get("meta"))
    name = str(entry["id"])
    file = PurePath(word(props.get("model_path")) or name).name
    settings = members(props.get("default_generation_settings"))
    return Model(
        name,
        context=whole(settings.get("n_ctx")) or whole(meta.get("n_ctx")),
        slots=slots(props.get("total_slots")),
        loaded=status(entry) in {"", "loaded"} and props.get("is_sleeping") is not True,
        quantisation=_quantisation(word(props.get("model_ftype")) or word(meta.get("ftype")), file),
        parameters=size_word(meta.get("n_params")) or parameters_in(file),
        capabilities=capabilities(entry, props, embedding=embedding),
    )


def _quantisation(told: str, file: str) -> str:
    return quantisation_in(told.replace(" ", "_")) or quantisation_in(told) or quantisation_in(file)


def capabilities(entry: Mapping[str, Any], props: Mapping[str, Any], *, embedding: bool) -> tuple[str, ...]:
    """Tools by what it found in the chat template (`chat_template_caps`; older ones: the word in the template).

    A JSON schema always becomes a grammar. Vision is told as a modality. `embedding` is whether it was started so; a
    model that can only embed is known by its name.
    """
    if embedding and embeds(f"{entry['id']} {PurePath(word(props.get('model_path'))).name}"):
        return ("embedding",)
    caps = props.get("chat_template_caps")
    template = props.get("chat_template")
    tools = (
        members(caps).get("supports_tools") is True
        if caps
        else isinstance(template, str) and "tools" in template and "tool_call" in template
    )
    seeing = members(props.get("modalities")).get("vision") is True or "image" in words(
        members(entry.get("architecture")).get("input_modalities")
    )
    return (
        "chat",
        "completion",
        *(("embedding",) if embedding else ()),
        *(("tools",) if tools else ()),
        *(("vision",) if seeing else ()),
        "json_schema",
    )


def runtime(site: Site, props: Mapping[str, Any], found: tuple[Model, ...], metrics: str) -> Runtime:
    """From `/props`, and from the metrics where they are on."""
    return Runtime(
        "llama_cpp",
        site.url,
        site.key,
        word(props.get("build_info")),
        found,
        slots=slots(props.get("total_slots")) or 1,
        queue=count(metrics, "requests_deferred"),
    )


def held(listed: object, metrics: str) -> int | None:
    """Requests that have a slot (older ones say `state` 1), and those that wait for one where the metrics are on."""
    waiting = count(metrics, "requests_deferred")
    busy = count(metrics, "requests_processing")
    if isinstance(listed, list):
        taken = [one for one in objects(listed) if one.get("is_processing") is True or one.get("state") == 1]
        busy = max(len(taken), busy or 0)
    return None if busy is None else busy + (waiting or 0)


KIND: Final = LlamaCpp()
