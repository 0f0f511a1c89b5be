"""What a gateway may ask of a node: the members of OPEN, checked before anything else happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from intertie.core.wire.link import FORWARDED, PATHS, Violation

MAX_BODY: Final = 32 * 1024 * 1024
"""Bytes of a request. Nothing of it is kept: it flows through as the runtime takes it."""
MAX_ID: Final = 256


class Order(NamedTuple):
    """What OPEN asks for, in acceptable form."""

    id: str
    path: str
    model: str
    headers: dict[str, str]
    length: int
    whole: bool
    allowed: bool
    """False if policy forbids it, whatever else it says."""


def read_order(message: Mapping[str, Any]) -> Order:
    """The members of OPEN. Raises `Violation` for what is no OPEN at all."""
    name, path, model = (message.get(member) for member in ("id", "path", "model"))
    headers, length, whole = message.get("headers", {}), message.get("length"), message.get("whole", False)
    if not isinstance(name, str) or not isinstance(path, str) or not isinstance(model, str) or len(name) > MAX_ID:
        raise Violation("an exchange is opened without an id, a path or a model")
    if type(length) is not int or not 0 <= length <= MAX_BODY:
        raise Violation(f"the body of an exchange has 0 to {MAX_BODY} bytes")
    if not isinstance(headers, dict) or not isinstance(whole, bool):
        raise Violation("an exchange is opened with headers that are none")
    kept = {name: value for name, value in headers.items() if name in FORWARDED}
    clean = all(isinstance(value, str) and value.isascii() and value.isprintable() for value in kept.values())
    allowed = clean and path in PATHS and message.get("method", "POST") == "POST"
    return Order(name, path, model, {"content-type": "application/json", **kept}, length, whole, allowed)
