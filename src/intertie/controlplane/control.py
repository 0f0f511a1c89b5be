"""What every operation is given, and the ways one can be refused."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from intertie.controlplane.consistency import nearest
from intertie.controlplane.guard import Guard
from intertie.controlplane.vault import Vault
from intertie.core.errors import BadCall
from intertie.core.terms import Price
from intertie.store.database import Database

DEFAULT_ORGANISATION: Final = "default"
DEFAULT_PROJECT: Final = "default"


@dataclass(frozen=True)
class Control:
    """The control plane's surroundings. `prices(provider, model)` is the catalogue; None is unknown, never zero."""

    database: Database
    vault: Vault
    clock: Callable[[], float]
    prices: Callable[[str, str], Price | None]
    guard: Guard = field(default_factory=Guard)
    """What this process remembers about strangers."""


class Conflict(BadCall):
    """The change contradicts what exists: a name that is taken, something still in use."""

    status = 409
    code = "conflict"


class Unknown(BadCall):
    """Nothing of that name exists in the organisation."""

    status = 404
    code = "not_found"


def nobody(noun: str, name: str, known: Iterable[str], listing: str) -> Unknown:
    """That no `noun` is named so: the nearest of the `known` names, or else the command that lists them."""
    near = nearest(name, list(known))
    return Unknown(f"no {noun} is named {name}" + (f": {near}" if near else f"; `{listing}` shows them all"))


def make_id(prefix: str) -> str:
    """A random id such as `key_3f9c…`; the prefix says what it names."""
    return f"{prefix}_{secrets.token_hex(8)}"
