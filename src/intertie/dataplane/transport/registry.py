"""Finds the transport of an upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from intertie.core.terms import NODE, Upstream
from intertie.dataplane.transport.contract import Transport


class TransportRegistry:
    """One transport per kind and connect timeout, made when first needed by `make`, for nodes by `link`.

    Connections are pooled per upstream and credentials travel per request, so upstreams can share a transport.
    """

    def __init__(self, make: Callable[[float], Transport], link: Callable[[float], Transport] | None = None) -> None:
        self._make = make
        self._link = link or make
        self._transports: dict[tuple[bool, float], Transport] = {}

    def of(self, upstream: Upstream) -> Transport:
        """The upstream's transport."""
        key = (upstream.provider == NODE, upstream.timeouts.connect)
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = (self._link if key[0] else self._make)(key[1])
        return transport

    async def close(self) -> None:
        """Close all of them; for the end of the process."""
        transports = list(self._transports.values())
        self._transports.clear()
        await asyncio.gather(*(transport.close() for transport in transports))

    def __repr__(self) -> str:
        return f"<TransportRegistry {len(self._transports)} transports>"
