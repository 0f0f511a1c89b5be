"""What a machine has to offer, as plain values, and the one message that tells a gateway about it.

Addresses and keys of runtimes stay on the machine: the message has neither.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

MOST_MODELS: Final = 500
"""Models told to a gateway. A machine that lists more keeps the loaded ones."""
LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class Model:
    """A model of one runtime. The words are those of `core.terms.ModelFacts`."""

    name: str
    context: int | None = None
    """Tokens one request may use as the model is loaded now, not the model's maximum; `None` is unknown."""
    slots: int | None = None
    """Requests it works on at the same time; `None` is unknown."""
    loaded: bool = True
    quantisation: str = ""
    parameters: str = ""
    """Size, such as `8.0B`."""
    capabilities: tuple[str, ...] = ()
    """Of `chat`, `completion`, `embedding`, `tools`, `vision`, `json_schema`."""
    prefill: float | None = None
    """Measured input tokens per second."""
    decode: float | None = None
    """Measured output tokens per second of one stream."""


@dataclass(frozen=True)
class Runtime:
    """A model server at an address its owner approved, or on loopback."""

    kind: str
    """Name of a file in `agent/runtimes`."""
    url: str
    """Scheme, host and port, without `/v1` and without a slash at the end."""
    key: str = field(default="", repr=False)
    """Bearer secret towards the runtime, or empty. Never leaves the machine."""
    version: str = ""
    models: tuple[Model, ...] = ()
    slots: int = 1
    """Exchanges it should get at a time."""
    queue: int | None = None
    """Requests that wait inside it; `None` where it does not tell."""
    guessed: bool = False
    """It does not tell its slots, so the owner's number is better than ours."""


def holders(runtimes: Sequence[Runtime], model: str) -> list[Runtime]:
    """The runtimes that serve `model`, those that have it loaded first."""
    having = [(one, facts.loaded) for one in runtimes for facts in one.models if facts.name == model]
    return [one for one, _ in sorted(having, key=lambda pair: not pair[1])]


def names(runtimes: Sequence[Runtime]) -> list[str]:
    """Every model once, loaded ones first, otherwise in the order of the runtimes."""
    seen: dict[str, bool] = {}
    for runtime in runtimes:
        for model in runtime.models:
            seen[model.name] = seen.get(model.name, False) or model.loaded
    return sorted(seen, key=lambda name: not seen[name])


def granted(runtimes: Sequence[Runtime], slots: int | None) -> list[Runtime]:
    """The runtimes with the owner's number of slots in place of guesses; `None` leaves them as they are."""
    return [replace(one, slots=slots) if one.guessed and slots is not None else one for one in runtimes]


def total_slots(runtimes: Sequence[Runtime]) -> int:
    """Exchanges all runtimes together should get at a time."""
    return sum(runtime.slots for runtime in runtimes)


def message(runtimes: Sequence[Runtime], hardware: Mapping[str, Any], *, revision: int, slots: int) -> dict[str, Any]:
    """The members of `Say.INVENTORY`."""
    told = [name for name in names(runtimes) if _fit(name)][:MOST_MODELS]
    return {
        "revision": revision,
        "runtimes": [
            {
                "kind": runtime.kind,
                "version": runtime.version,
                "slots": runtime.slots,
                "queue": runtime.queue,
                "models": [model.name for model in runtime.models if model.name in set(told)],
            }
            for runtime in runtimes
        ],
        "models": [_facts(runtimes, name) for name in told],
        "hardware": dict(hardware),
        "slots": slots,
        "platform": f"{platform.system().lower()}-{platform.machine().lower()}",
    }


def _facts(runtimes: Sequence[Runtime], name: str) -> dict[str, Any]:
    """One model, in the members of `ModelFacts`. Where several runtimes serve it, what holds whichever answers."""
    serving = holders(runtimes, name)
    found = [next(model for model in runtime.models if model.name == name) for runtime in serving]
    alike = [model for model in found if model.loaded == found[0].loaded]
    best = replace(
        alike[0],
        context=min((model.context for model in alike if model.context is not None), default=None),
        slots=sum(model.slots for model in alike if model.slots is not None) or None,
        capabilities=tuple(one for one in alike[0].capabilities if all(one in model.capabilities for model in alike)),
    )
    return {
        "name": best.name,
        "runtime": serving[0].kind,
        "context": best.context,
        "slots": best.slots,
        "loaded": best.loaded,
        "quantisation": best.quantisation,
        "parameters": best.parameters,
        "capabilities": list(best.capabilities),
        "prefill": best.prefill,
        "decode": best.decode,
    }


def _fit(name: str) -> bool:
    return bool(name) and name.isprintable() and len(name) <= LONGEST_NAME
