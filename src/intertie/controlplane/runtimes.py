"""Model servers people already run on their machine: where they listen, and what their answers say.

Deciding only; the asking is `cli/detect.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

PORTS: Final[dict[int, str]] = {
    11434: "ollama",
    8000: "vllm",
    8080: "llama_cpp",
    8081: "llama_cpp",
    8082: "llama_cpp",
    1234: "lm_studio",
    30000: "sglang",
}
"""Usual loopback ports and the provider expected there; what the answer says wins."""

_OWNERS: Final = {
    "llamacpp": "llama_cpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "organization_owner": "lm_studio",
    "library": "ollama",
}
_MOST_MODELS: Final = 50
_LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class DetectedRuntime:
    """A model server that answered on loopback. `models` are the names it serves, as it spells them."""

    provider: str
    base_url: str
    models: tuple[str, ...]


def identify(port: int, body: bytes) -> DetectedRuntime | None:
    """Read an answer to `GET /v1/models` on a loopback port; `None` if it is not a list of models."""
    try:
        listed = json.loads(body)["data"]
        entries = [entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    models = tuple(name for entry in entries[:_MOST_MODELS] if (name := entry["id"]) and _printable(name))
    owners = {str(entry.get("owned_by", "")) for entry in entries}
    if "intertie" in owners:
        return None
    known = [_OWNERS[owner] for owner in owners if owner in _OWNERS]
    provider = known[0] if known else PORTS.get(port, "openai_compatible")
    return DetectedRuntime(provider, f"http://127.0.0.1:{port}/v1", models)


def starter() -> str:
    """A first configuration file: a cloud account to fill in."""
    return (
        "upstreams:\n"
        "  - name: openai\n"
        "    provider: openai\n"
        "    credentials: [{env: OPENAI_API_KEY}]\n"
        "    models:\n"
        "      - {name: gpt-4o-mini}\n"
        "routes:\n"
        "  - model: gpt-4o-mini\n"
        "    targets: [{upstream: openai, model: gpt-4o-mini}]\n"
    )


def as_json(found: Sequence[DetectedRuntime]) -> list[dict[str, Any]]:
    """The same list for programs."""
    return [{"provider": one.provider, "base_url": one.base_url, "models": list(one.models)} for one in found]


def _printable(name: str) -> bool:
    return name.isprintable() and len(name) <= _LONGEST_NAME
