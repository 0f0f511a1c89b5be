"""Whose word about a client's address is taken: proxies that the operator named, and nobody else's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_MOST: Final = 32
"""Hops that are looked at. A chain of real proxies has two or three."""


class Proxies:
    """Networks of trusted proxies, each as `10.0.0.0/8`, `::1` and the like. Without any, nobody is trusted."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(one) for one in networks]

    def __repr__(self) -> str:
        return f"<Proxies {', '.join(map(str, self._networks)) or 'none'}>"

    def trusts(self, address: str) -> bool:
        """True if the peer at this address is one of them."""
        found = _read(address) if self._networks else None
        return found is not None and self._has(found)

    def client(self, peer: str, forwarded: bytes) -> str:
        """Who asked, by the `X-Forwarded-For` (values joined by commas) that the trusted `peer` sent.

        Read from its end: each entry was written by the hop behind it, so it counts only if that one is trusted. What
        a client put there itself is never reached. An entry that is no address ends the search.
        """
        found = peer
        for entry in reversed(forwarded.split(b",")[-_MOST:]):
            address = _read(entry.decode("latin-1").strip())
            if address is None:
                break
            found = str(address)
            if not self._has(address):
                break
        return found

    def _has(self, address: _Address) -> bool:
        return any(address.version == one.version and address in one for one in self._networks)


def _read(text: str) -> _Address | None:
    """An address, with or without a port and brackets; IPv4 in IPv6's clothes is IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
