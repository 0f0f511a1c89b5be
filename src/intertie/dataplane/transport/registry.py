"""Finds the transport of an upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from intertie.core.terms import Upstream
from intertie.dataplane.transport.contract import Transport

Kind = tuple[bool, float]
"""(encrypted, connect timeout in seconds): what upstreams must share to share a transport."""


class TransportRegistry:
    """One transport per kind, made when first needed: making one reads the machine's root certificates.

    Connections are pooled per address and credentials travel per request, so upstreams can share a transport.
    """

    def __init__(self, make: Callable[[bool, float], Transport]) -> None:
        self._make = make
        self._transports: dict[Kind, Transport] = {}

    def of(self, upstream: Upstream) -> Transport:
        """The upstream's transport."""
        kind = (upstream.base_url.startswith("https:"), upstream.timeouts.connect)
        transport = self._transports.get(kind)
        if transport is None:
            transport = self._transports[kind] = self._make(*kind)
        return transport

    async def close(self) -> None:
        """Close all of them; for the end of the process."""
        transports = list(self._transports.values())
        self._transports.clear()
        await asyncio.gather(*(transport.close() for transport in transports))

    def __repr__(self) -> str:
        return f"<TransportRegistry {len(self._transports)} transports>"
