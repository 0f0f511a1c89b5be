"""Kept answers: which ones an operator means, and the record that they are cleared."""

from __future__ import annotations

from intertie.controlplane import audit
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Control
from intertie.core.errors import BadCall
from intertie.core.policy.answers import CacheStatistics, Selection, Space

__all__ = ["CacheStatistics", "Selection", "clearing", "selection"]

_KEY_BYTES = 32


def selection(
    organisation: str,
    *,
    route: str | None = None,
    prefix: str | None = None,
    key: str | None = None,
    idempotency: bool = False,
) -> Selection:
    """The answers that fit everything given. Raises `BadCall` for a key that is none."""
    raw = None
    if key is not None:
        try:
            raw = bytes.fromhex(key)
        except ValueError:
            raw = b""
        if len(raw) != _KEY_BYTES:
            raise BadCall(
                "this is no key of a kept answer: copy the 64 digits of the response header x-intertie-cache-key",
                param="key",
            )
    return Selection(organisation, Space.IDEMPOTENCY if idempotency else Space.CACHE, route, prefix, raw)


def clearing(control: Control, organisation: str, by: Actor, which: Selection) -> None:
    """Records that answers are about to be cleared, and how they were chosen: first the record, then the deed."""
    words = {"route": which.route, "prefix": which.prefix, "key": which.key.hex() if which.key else None}
    chosen = {name: word for name, word in words.items() if word is not None}
    with control.database.write() as connection:
        audit.record(connection, control, organisation, by, "cache.clear", which.space.value, **chosen)
