"""What a provider adapter is: bytes out and bytes in for one vendor or runtime, without I/O."""

from __future__ import annotations

from typing import Protocol

from intertie.core.errors import UpstreamError
from intertie.core.terms import Call, Operation, Target, Upstream, Usage
from intertie.core.wire.http import Head, WireRequest
from intertie.core.wire.openai_chat import Answer


class Reader(Protocol):
    """Reads one streamed answer; see `core.wire.openai_chat.ChatReader` for the meaning of each member."""

    output: bool
    finished: bool
    error: UpstreamError | None
    usage: Usage | None
    unasked: bytes
    pieces: int
    model: str

    @property
    def over(self) -> bool:
        """The stream has ended, well or badly."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay to the client for this chunk: whole events, without the terminal marker."""
        ...

    def end(self) -> None:
        """The upstream closed the stream; sets `error` if too early."""
        ...

    def delivered(self) -> Usage:
        """Tokens delivered so far, estimated unless the upstream counted."""
        ...

    @property
    def output_so_far(self) -> int:
        """Estimated output tokens delivered so far."""
        ...


class Adapter(Protocol):
    """One provider. Credentials never enter an adapter: the transport signs the request."""

    kind: str
    """Name of the adapter's file; what configuration calls `provider`."""
    title: str
    """Name for people."""
    base_url: str | None
    """Where the vendor answers, ending in its version path; `None` if the operator must say."""
    catalogue: str | None
    """The vendor's name in the price catalogue; `None` for own machines, whose operator says what they cost."""
    operations: frozenset[Operation]
    bills_cancelled: bool
    """The vendor bills input tokens of a request that was cancelled before any output (S10)."""

    def request(self, call: Call, target: Target, upstream: Upstream) -> WireRequest:
        """The call in this provider's phrasing, for the target's model."""
        ...

    def reader(self, call: Call, head: Head) -> Reader:
        """A reader for one streamed answer to `call`. Raises `UpstreamInvalid` if `head` does not announce events."""
        ...

    def answer(self, call: Call, head: Head, body: bytes) -> Answer:
        """A whole answer with status 2xx. Raises an `UpstreamError` if it is not one."""
        ...

    def classify(self, head: Head, body: bytes, now: float) -> UpstreamError:
        """What an answer with any other status means (S2). `now` is wall-clock time, for dates in Retry-After."""
        ...
