"""Every allowed breach of a house rule, each with its reason. A test fails when an entry is no longer needed."""

from __future__ import annotations

from typing import Final, NamedTuple


class Allowed(NamedTuple):
    """One place that may break one rule."""

    rule: str
    """file, function, class, parameters, broad except, border, name, door."""
    where: str
    """Dotted module, then `:` and the qualified name inside it where the rule is about a definition."""
    reason: str


EXCEPTIONS: Final[tuple[Allowed, ...]] = ()
