"""The admin key: recognised in constant time, and where it is not asked for.

Reading pages (never changing anything) is free to a person at this very machine: a loopback peer, a loopback Host (so
that no web page can rebind a name to us) and no trace of a proxy in between.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from typing import Final

from intertie.controlplane.control import Control
from intertie.core.keys import hash_key

_PROXY_MARKS: Final = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "x-intertie-forwarded"}
)
"""The last is what our own edge leaves when it removes the others."""


def matches(control: Control, expected: bytes, presented: str) -> bool:
    """True if `presented` is the admin key whose keyed hash is `expected`; takes the same time for every wrong key."""
    return hmac.compare_digest(hash_key(control.vault.pepper, presented), expected)


def on_this_machine(peer: str | None, host: str, header_names: Collection[str]) -> bool:
    """True for a request that came straight from this machine to a loopback name. Header names are lower-case."""
    if peer is None or not _PROXY_MARKS.isdisjoint(header_names):
        return False
    return _loopback(peer) and _loopback_name(host)


def _loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _loopback_name(host: str) -> bool:
    """Whether a Host header's value (`name`, `name:port`, `[::1]:port`) names loopback."""
    name = host[1 : host.find("]")] if host.startswith("[") else host.rpartition(":")[0] or host
    return name.lower() == "localhost" or _loopback(name)
