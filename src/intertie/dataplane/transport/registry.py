"""Finds the transport of an upstream, and lets go of those that the configuration no longer names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from intertie.core.terms import Timeouts, Upstream
from intertie.dataplane.transport.contract import Transport


class TransportRegistry:
    """One transport per upstream, made when first needed.

    A transport that is let go is not closed: requests under way keep it alive, and its pool goes with the last of them.
    """

    def __init__(self, make: Callable[[Upstream], Transport]) -> None:
        self._make = make
        self._transports: dict[str, tuple[str, Timeouts, Transport]] = {}

    def of(self, upstream: Upstream) -> Transport:
        """The upstream's transport; a changed address or connect time gets a new one."""
        entry = self._transports.get(upstream.id)
        if entry is not None and entry[0] == upstream.base_url and entry[1] == upstream.timeouts:
            return entry[2]
        made = self._make(upstream)
        self._transports[upstream.id] = (upstream.base_url, upstream.timeouts, made)
        return made

    def keep_only(self, upstream_ids: Collection[str]) -> None:
        """Forget the transports of upstreams that are gone."""
        for upstream_id in [known for known in self._transports if known not in upstream_ids]:
            del self._transports[upstream_id]

    async def close(self) -> None:
        """Close all of them; for the end of the process."""
        transports = [entry[2] for entry in self._transports.values()]
        self._transports.clear()
        await asyncio.gather(*(transport.close() for transport in transports))

    def __repr__(self) -> str:
        return f"<TransportRegistry {len(self._transports)} transports>"
