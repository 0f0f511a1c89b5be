"""Any other server with `/v1/models`: little is known about it, so little is promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from intertie.agent.inventory import Model, Runtime
from intertie.agent.runtimes._answers import embeds, parameters_in, quantisation_in, whole
from intertie.agent.runtimes._kind import Listed, Reading, Site

_CONTEXTS: Final = ("max_model_len", "loaded_context_length", "context_length", "context_window", "n_ctx")
"""Members by which servers tell how many tokens a model takes."""


class Compatible:
    """The last resort; `discover` asks every other kind first."""

    kind = "compatible"
    title = "OpenAI-compatible server"
    ports: tuple[int, ...] = ()
    owners: frozenset[str] = frozenset()

    async def read(self, site: Site, listed: Listed) -> Reading | None:
        """What is listed; `None` if that is nothing."""
        return Reading(runtime(site, listed)) if listed.entries else None

    async def running(self, _site: Site, _loaded: Sequence[str]) -> int | None:
        """There is no common way to ask."""
        return None


def runtime(site: Site, listed: Listed) -> Runtime:
    """From `/v1/models` alone. One slot, because nobody says that it can do more; the owner may."""
    return Runtime(
        "compatible", site.url, site.key, "", tuple(_model(entry) for entry in listed.entries), slots=1, guessed=True
    )


def _model(entry: Mapping[str, Any]) -> Model:
    name = str(entry["id"])
    return Model(
        name,
        context=next((found for member in _CONTEXTS if (found := whole(entry.get(member)))), None),
        quantisation=quantisation_in(name),
        parameters=parameters_in(name),
        capabilities=("embedding",) if embeds(name) else ("chat", "completion"),
    )


KIND: Final = Compatible()
