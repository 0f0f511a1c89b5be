"""What the data plane needs from outside. `store` satisfies it structurally, `app` wires it: no import either way."""

from __future__ import annotations

from typing import Protocol

from intertie.core.ledger import Opening, Progress, Settlement
from intertie.core.policy.answers import CacheStatistics, Kept, Selection, Space
from intertie.core.routing.room import Room
from intertie.core.terms import Node, Snapshot, Upstream
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.neighbours import Vector


class Ledger(Protocol):
    """Where a request's account goes. The three record methods append to the spool with one write and never wait.

    Once a record method returns, the record survives `kill -9` of the process. Surviving power loss takes an fsync:
    group-committed within 5 ms, and awaited by `durable` when the operator chose `durability = "fsync"`.
    """

    def open(self, record: Opening) -> None:
        """Append before an attempt's first upstream byte. Raises `LedgerUnavailable` if it cannot be written."""
        ...

    def progress(self, record: Progress) -> None:
        """Checkpoint a long stream."""
        ...

    def settle(self, record: Settlement) -> None:
        """Append before the last byte of the answer (or its terminal marker) goes out. Exactly once per request."""
        ...

    async def durable(self) -> None:
        """Return once all records appended so far are as durable as the operator asked for."""
        ...


class SnapshotSource(Protocol):
    """Where the current configuration is read. A request reads it once and keeps what it got."""

    @property
    def current(self) -> Snapshot:
        """The newest snapshot."""
        ...


class RoomSource(Protocol):
    """Where it is known what a node can take: the links of this process."""

    def room(self, upstream: Upstream, node: Node, model: str) -> Room:
        """What it can take of this model at this moment. Called for each plan, so it must not wait."""
        ...


class Embedder(Protocol):
    """What makes vectors of questions, off the event loop."""

    @property
    def failure(self) -> str:
        """Why it could not the last time; empty if it could."""
        ...

    async def vector(self, x: Exchange, text: str, model: str) -> Vector | None:
        """The vector, of length 1, of what `x` asks, by the route called `model` or the local model.

        `None` if there is none, whyever: what comes is never an exception.
        """
        ...


class ResponseCache(Protocol):
    """Where answers are kept. Belongs to the event loop and never holds it up: the disk is asked in threads."""

    def remembered(self, key: bytes) -> Kept | None:
        """What memory has, expired or not."""
        ...

    async def get(self, key: bytes, space: Space = Space.CACHE) -> Kept | None:
        """What memory or the disk has. Nothing if the disk fails or is damaged; of the cache nothing if it is too busy.

        What an idempotency key has paid for is waited for: a miss would be paid for again.
        """
        ...

    async def put(self, key: bytes, kept: Kept) -> None:
        """Keep it; returns when it survives the death of the process, or cannot be made to."""
        ...

    async def clear(self, which: Selection) -> int:
        """Forget the answers chosen, and those on their way; how many there were."""
        ...

    def statistics(self) -> CacheStatistics:
        """Numbers of this moment."""
        ...

    @property
    def clearings(self) -> int:
        """How often answers were cleared: what was begun before a clearing must not be kept after it."""
        ...
