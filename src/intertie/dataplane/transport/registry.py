"""Finds the transport of an upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from intertie.core.terms import Upstream
from intertie.dataplane.transport.contract import Transport


class TransportRegistry:
    """One transport per connect timeout, made when first needed.

    Connections are pooled per address and credentials travel per request, so upstreams can share a transport.
    """

    def __init__(self, make: Callable[[float], Transport]) -> None:
        self._make = make
        self._transports: dict[float, Transport] = {}

    def of(self, upstream: Upstream) -> Transport:
        """The upstream's transport."""
        connect = upstream.timeouts.connect
        transport = self._transports.get(connect)
        if transport is None:
            transport = self._transports[connect] = self._make(connect)
        return transport

    async def close(self) -> None:
        """Close all of them; for the end of the process."""
        transports = list(self._transports.values())
        self._transports.clear()
        await asyncio.gather(*(transport.close() for transport in transports))

    def __repr__(self) -> str:
        return f"<TransportRegistry {len(self._transports)} transports>"
