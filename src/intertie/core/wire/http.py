"""HTTP as values: what an adapter asks a transport to send, and the head of what comes back."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class WireRequest(msgspec.Struct, frozen=True):
    """One request towards an upstream, without its credential: the transport signs it."""

    url: str
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes
    method: str = "POST"
    pool: str = ""
    """Whose connections may carry it, an upstream's id: a connection serves one upstream for all its life."""


class Head(msgspec.Struct, frozen=True):
    """Status and the headers that the gateway reads, lower-case names."""

    status: int
    headers: Mapping[str, str]
