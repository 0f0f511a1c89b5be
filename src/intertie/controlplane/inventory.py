"""What a node says it has: read with suspicion, cut to size, and turned into what routing needs.

Nothing in a report is trusted to be well-formed: members of the wrong kind are dropped, texts and lists are cut, and
numbers that cannot be are unknown. Only a report that is no report at all is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from intertie.core.terms import ModelFacts

MODELS: Final = 500
RUNTIMES: Final = 32
MEMBERS: Final = 64
"""Entries of one list or object inside `hardware`."""
DEPTH: Final = 4
TEXT: Final = 200
STEADY: Final = 0.1
"""A measured speed that moved by less than this share is the same: else every report would be a change of routing."""

_CAPABILITIES: Final = ("chat", "completion", "embedding", "tools", "vision", "json_schema")
_LARGEST: Final = 2**53
_FASTEST: Final = 1e7


class Unreadable(ValueError):
    """The report has no list of models."""


def clean(message: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The report as it is stored; `before` is the one it replaces. Raises `Unreadable`."""
    listed = message.get("models")
    if not isinstance(listed, list):
        raise Unreadable("an inventory has no list of models")
    known: dict[object, dict[str, Any]] = {model["name"]: model for model in before.get("models", ())}
    models: dict[str, dict[str, Any]] = {}
    for one in listed[: 4 * MODELS]:
        name = one.get("name") if isinstance(one, dict) else None
        if isinstance(name, str) and _is_model(name) and name not in models and len(models) < MODELS:
            models[name] = _model(one, known.get(name, {}))
    runtimes = message.get("runtimes")
    return {
        "revision": _whole(message.get("revision")) or 0,
        "runtimes": [_runtime(one) for one in runtimes[:RUNTIMES] if isinstance(one, dict)]
        if isinstance(runtimes, list)
        else [],
        "models": list(models.values()),
        "hardware": _plain(message.get("hardware"), DEPTH) if isinstance(message.get("hardware"), dict) else {},
        "slots": min(_whole(message.get("slots")) or 1, 4096),
        "platform": _text(message.get("platform")),
    }


def facts(inventory: Mapping[str, Any]) -> dict[str, ModelFacts]:
    """Name -> what routing knows of each model of a stored report."""
    found = {}
    for model in inventory.get("models", ()):
        members = {**model, "capabilities": tuple(model.get("capabilities", ()))}
        found[model["name"]] = ModelFacts(**members)
    return found


def _model(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    named = given.get("capabilities")
    capabilities = set(named) if isinstance(named, list) and all(isinstance(one, str) for one in named) else set()
    return {
        "name": given["name"],
        "runtime": _text(given.get("runtime"), 40),
        "context": _whole(given.get("context")),
        "slots": _whole(given.get("slots")),
        "loaded": given.get("loaded") is not False,
        "quantisation": _text(given.get("quantisation"), 40),
        "parameters": _text(given.get("parameters"), 40),
        "capabilities": [one for one in _CAPABILITIES if one in capabilities],
        "prefill": _steady(_rate(given.get("prefill")), before.get("prefill")),
        "decode": _steady(_rate(given.get("decode")), before.get("decode")),
    }


def _runtime(given: Mapping[str, Any]) -> dict[str, Any]:
    names = given.get("models")
    return {
        "kind": _text(given.get("kind"), 40),
        "version": _text(given.get("version"), 64),
        "slots": _whole(given.get("slots")),
        "queue": _whole(given.get("queue"), least=0),
        "models": [name for name in names[:MODELS] if isinstance(name, str) and _is_model(name)]
        if isinstance(names, list)
        else [],
    }


def _is_model(name: str) -> bool:
    return 0 < len(name) <= TEXT and name.isprintable() and not any(map(str.isspace, name))


def _steady(value: float | None, before: float | None) -> float | None:
    if value is None or before is None or abs(value - before) > STEADY * before:
        return value
    return before


def _plain(value: object, depth: int) -> Any:
    """JSON of any shape, cut in depth, width and length."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) and abs(value) <= _LARGEST else None
    if depth and isinstance(value, list):
        return [_plain(one, depth - 1) for one in value[:MEMBERS]]
    if depth and isinstance(value, dict):
        return {_text(name, 64): _plain(one, depth - 1) for name, one in _first(value.items())}
    return None


def _first(items: Iterable[tuple[object, object]]) -> Iterable[tuple[object, object]]:
    return (item for item, _ in zip(items, range(MEMBERS), strict=False))


def _text(value: object, most: int = TEXT) -> str:
    return "".join(filter(str.isprintable, value[: 2 * most]))[:most] if isinstance(value, str) else ""


def _whole(value: object, *, least: int = 1) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST else None


def _rate(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _FASTEST:
        return None
    return float(value)
