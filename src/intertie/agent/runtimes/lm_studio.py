"""LM Studio. Read after its documentation of `/api/v1/models` (since 0.4) and `/api/v0/models` (since 0.3.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from intertie.agent.inventory import Model, Runtime
from intertie.agent.runtimes._answers import members, objects, slots, whole, word, words
from intertie.agent.runtimes._kind import Listed, Reading, Site

_KINDS: Final = frozenset({"llm", "vlm", "embedding", "embeddings"})


class LMStudio:
    """Lists what is on disk and may load it when it is called ("just in time"), which can take a minute."""

    kind = "lm_studio"
    title = "LM Studio"
    ports: tuple[int, ...] = (1234,)
    owners = frozenset({"organization_owner"})

    async def read(self, site: Site, listed: Listed) -> Reading | None:
        """What runs at `site`; `None` if it is no LM Studio."""
        newer, older = await asyncio.gather(site.ask("/api/v1/models"), site.ask("/api/v0/models"))
        found = models(newer.json, listed.names)
        if found is None:
            found = older_models(older.json, listed.names)
        return None if found is None else Reading(runtime(site, found))

    async def running(self, _site: Site, _loaded: Sequence[str]) -> int | None:
        """Its server does not tell; only its own command line tool does."""
        return None


def models(answer: object, listed: Sequence[str]) -> tuple[Model, ...] | None:
    """From `/api/v1/models`: each loaded instance by the name it is called by, then what else may be called."""
    entries = objects(members(answer).get("models"))
    if not any("loaded_instances" in entry and word(entry.get("key")) for entry in entries):
        return () if members(answer).get("models") == [] else None
    found: list[Model] = []
    for entry in entries:
        key = word(entry.get("key"))
        if not key or word(entry.get("type")) not in _KINDS:
            continue
        instances = [one for one in objects(entry.get("loaded_instances")) if word(one.get("id"))]
        found += [_model(entry, instance["id"], members(instance.get("config"))) for instance in instances]
        # Without just-in-time loading only the loaded ones are in `/v1/models`, and others cannot be called.
        if not instances and key in listed:
            found.append(_model(entry, key, None))
    return tuple(found)


def _model(entry: Mapping[str, Any], name: str, config: Mapping[str, Any] | None) -> Model:
    told = members(entry.get("capabilities"))
    return Model(
        name,
        context=None if config is None else whole(config.get("context_length")),
        slots=None if config is None else slots(config.get("parallel")),
        loaded=config is not None,
        quantisation=word(members(entry.get("quantization")).get("name")),
        parameters=word(entry.get("params_string")),
        capabilities=capabilities(
            word(entry.get("type")), tools=told.get("trained_for_tool_use") is True, vision=told.get("vision") is True
        ),
    )


def older_models(answer: object, listed: Sequence[str]) -> tuple[Model, ...] | None:
    """From `/api/v0/models`: the loaded ones, then what else may be called."""
    entries = objects(members(answer).get("data"))
    if not any("compatibility_type" in entry or "max_context_length" in entry for entry in entries):
        return None
    found: list[Model] = []
    for entry in entries:
        name, loaded = word(entry.get("id")), entry.get("state") == "loaded"
        kind = word(entry.get("type"))
        if not name or kind not in _KINDS or not (loaded or name in listed):
            continue
        found.append(
            Model(
                name,
                context=whole(entry.get("loaded_context_length")) if loaded else None,
                loaded=loaded,
                quantisation=word(entry.get("quantization")),
                capabilities=capabilities(
                    kind, tools="tool_use" in words(entry.get("capabilities")), vision=kind == "vlm"
                ),
            )
        )
    return tuple(found)


def capabilities(kind: str, *, tools: bool, vision: bool) -> tuple[str, ...]:
    """By the model's type. It enforces a JSON schema by a grammar for every language model."""
    if kind.startswith("embedding"):
        return ("embedding",)
    return ("chat", "completion", *(("tools",) if tools else ()), *(("vision",) if vision else ()), "json_schema")


def runtime(site: Site, found: tuple[Model, ...]) -> Runtime:
    """As many slots as the loaded models work on together (`parallel`, 0.4 and later); one if it does not tell.

    Its version is told nowhere.
    """
    told = sum(model.slots or 1 for model in found if model.loaded)
    guessed = all(model.slots is None for model in found)
    return Runtime("lm_studio", site.url, site.key, "", found, slots=slots(told) or 1, guessed=guessed)


KIND: Final = LMStudio()
