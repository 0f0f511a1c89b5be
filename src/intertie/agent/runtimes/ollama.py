"""Ollama. Read after its docs/api.md and api/types.go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from intertie.agent.inventory import Model, Runtime
from intertie.agent.runtimes._answers import embeds, members, objects, whole, word, words
from intertie.agent.runtimes._kind import Listed, Reading, Site

_AT_ONCE: Final = 4
_SHOWING: Final = 1.5
"""Seconds for all of `/api/show` that is still unknown."""
_MOST_KEPT: Final = 500
_NUM_CTX: Final = re.compile(r"^\s*num_ctx\s+(\d+)\s*$", re.MULTILINE)
_BERT: Final = ("bert", "nomic-bert", "xlmroberta", "gte")
_VISION_FAMILIES: Final = frozenset({"clip", "mllama"})


class Ollama:
    """Lists what is on disk and loads on demand; says what is loaded, and with how much context, in `/api/ps`."""

    kind = "ollama"
    title = "Ollama"
    ports: tuple[int, ...] = (11434,)
    owners = frozenset({"library"})

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str], dict[str, Any]] = {}

    async def read(self, site: Site, _listed: Listed) -> Reading | None:
        """What runs at `site`; `None` if it is no Ollama."""
        version, tags = await asyncio.gather(site.ask("/api/version"), site.ask("/api/tags"))
        if not is_ollama(version.json, tags.json):
            return None
        loaded = (await site.ask("/api/ps")).json
        shown = await self._show(site, tags.json, loaded)
        return Reading(runtime(site, version.json, models(tags.json, loaded, shown)))

    async def running(self, _site: Site, _loaded: Sequence[str]) -> int | None:
        """Ollama does not tell."""
        return None

    async def _show(self, site: Site, tags: object, loaded: object) -> Mapping[str, dict[str, Any]]:
        """Name -> `/api/show`, which is asked once per digest, for the loaded ones first."""
        at_once = asyncio.Semaphore(_AT_ONCE)
        present = {word(one.get("name")) for one in objects(members(loaded).get("models"))}
        entries = sorted(_local(tags), key=lambda entry: entry["name"] not in present)
        shown: dict[str, dict[str, Any]] = {}

        async def show(entry: dict[str, Any]) -> None:
            key = (site.url, word(entry.get("digest")) or entry["name"])
            if key not in self._shown:
                async with at_once:
                    answer = members((await site.ask("/api/show", {"model": entry["name"]})).json)
                if not answer:
                    return
                if len(self._shown) >= _MOST_KEPT:
                    self._shown.clear()
                self._shown[key] = {name: answer.get(name) for name in ("capabilities", "parameters", "details")}
            shown[entry["name"]] = self._shown[key]

        tasks = [asyncio.create_task(show(entry)) for entry in entries[:_MOST_KEPT]]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=_SHOWING)
        finally:
            for task in tasks:
                task.cancel()  # what was not answered in time is asked at the next look
            await asyncio.gather(*tasks, return_exceptions=True)
        return shown


def is_ollama(version: object, tags: object) -> bool:
    """Both of its own paths answer in its own shape. llama.cpp answers the second one only."""
    return bool(word(members(version).get("version"))) and isinstance(members(tags).get("models", False), list | None)


def models(tags: object, loaded: object, shown: Mapping[str, Mapping[str, Any]]) -> tuple[Model, ...]:
    """From `/api/tags`, `/api/ps` and the answers of `/api/show` by name."""
    present = {word(one.get("name")): one for one in objects(members(loaded).get("models"))}
    return tuple(_model(one, present.get(one["name"]), shown.get(one["name"], {})) for one in _local(tags))


def runtime(site: Site, version: object, found: tuple[Model, ...]) -> Runtime:
    """One slot: OLLAMA_NUM_PARALLEL is 1 unless its owner says otherwise, and nothing tells. The owner may say more."""
    return Runtime("ollama", site.url, site.key, word(members(version).get("version")), found, slots=1, guessed=True)


def _local(tags: object) -> list[dict[str, Any]]:
    """Models of this machine. Those with a remote host run in somebody's cloud, so they are no part of a node."""
    listed = objects(members(tags).get("models"))
    return [one for one in listed if word(one.get("name")) and not (one.get("remote_host") or one.get("remote_model"))]


def _model(entry: dict[str, Any], loaded: Mapping[str, Any] | None, shown: Mapping[str, Any]) -> Model:
    details = members(entry.get("details"))
    context = None
    if loaded is not None:
        context = whole(loaded.get("context_length"))
    elif isinstance(parameters := shown.get("parameters"), str) and (set_to := _NUM_CTX.search(parameters)):
        context = whole(set_to[1])  # what it will be loaded with; without it nobody knows before it is loaded
    return Model(
        entry["name"],
        context=context,
        loaded=loaded is not None,
        quantisation=_quantisation(details),
        parameters=word(details.get("parameter_size")),
        capabilities=capabilities(entry, shown),
    )


def _quantisation(details: Mapping[str, Any]) -> str:
    level = word(details.get("quantization_level"))
    return "" if level.lower() == "unknown" else level


def capabilities(entry: Mapping[str, Any], shown: Mapping[str, Any]) -> tuple[str, ...]:
    """From the list's or `/api/show`'s `capabilities` (0.6.4 and later), else from families and name.

    A model that completes also chats and obeys a JSON schema: Ollama enforces it by a grammar for every such model.
    """
    told = words(entry.get("capabilities")) or words(shown.get("capabilities"))
    if not told:
        families = words(members(entry.get("details")).get("families"))
        if embeds(entry["name"]) or any(family.startswith(_BERT) for family in families):
            return ("embedding",)
        seeing = ("vision",) if _VISION_FAMILIES & set(families) else ()
        return ("chat", "completion", *seeing, "json_schema")
    found = ["embedding"] if "embedding" in told else []
    if "completion" in told:
        found = ["chat", "completion", *found, *(one for one in ("tools", "vision") if one in told), "json_schema"]
    return tuple(found)


KIND: Final = Ollama()
