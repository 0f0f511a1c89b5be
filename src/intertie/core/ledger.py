"""What the books get of each request: records before an attempt, during a long one, and at the end.

Units are those of `core.terms`. An older record lacks younger fields: each of these has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from intertie.core.terms import Operation, Price, Trust, Usage

NONE: Final[frozenset[str]] = frozenset()
"""For sets of facts that are empty: this very object is left out of records, another empty set is not."""


class Considered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One target of a plan, as explanations and books show it: why it was left out, or what gave it its place.

    `score` is what its strategy compared; lower is better. `base` is its place before rules; `None` if health, room or
    reach kept it out, whatever rules say. `setback` put it behind others whatever rules prefer: 1 just back, 2 full, 4
    degraded, summed. `latency` (s) is there where a rule asked; 0: not measured. `via`: a fallback to that model.
    """

    upstream: str
    model: str
    why: str = ""
    score: float | None = None
    allowed: bool = True
    base: float | None = None
    setback: int = 0
    latency: float | None = None
    via: str = ""


class CallFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rules may ask about a call, and all that the books keep of it: never its content."""

    key: str
    project: str
    model: str
    operation: Operation
    tags: frozenset[str] = NONE
    headers: Mapping[str, str] = {}
    """Only those that some rule asks for."""
    needs: frozenset[str] = NONE
    """Capabilities: `tools`, `vision`, `json_schema`."""
    tokens: int = 0  # of input, estimated
    output: int | None = None
    """The largest output the caller allows."""
    content: frozenset[str] = NONE
    """Classes of content that some rule asks for and that were found."""
    trust: Trust = Trust.VENDOR  # the caller's ceiling
    at: float = 0.0
    member: str = ""


class State(StrEnum):
    """How a request or an attempt ended."""

    OK = "ok"
    FAILED = "failed"  # no answer, or an error answer
    INTERRUPTED = "interrupted"  # broke after the commit point
    CANCELLED = "cancelled"  # the client left
    BEATEN = "beaten"  # another attempt of the request had output first; nobody is charged for it but the operator
    RECOVERED = "recovered"  # in flight when the process died; settled by estimate at the next start


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One send to one target, as the books keep it."""

    n: int
    upstream: str
    """`Upstream.name` (readable in books even after deletion)."""
    model: str
    credential: str
    state: State
    started_at: float
    duration_ms: int
    node: str = ""
    """The node's name, if a node was asked."""
    status: int = 0
    error: str = ""
    usage: Usage = Usage()
    cost: int | None = 0  # `None` is unknown, never zero
    ttft_ms: int | None = None


class Opening(msgspec.Struct, frozen=True, tag="open", omit_defaults=True):
    """Written to the spool before an attempt's first upstream byte, so that a crash leaves a trace of it."""

    request_id: str
    n: int
    organisation: str
    project: str
    key_id: str
    key_name: str
    route: str
    operation: Operation
    stream: bool
    upstream: str
    model: str
    credential: str
    started_at: float
    input_estimate: int
    price: Price | None = None
    node: str = ""
    member: str = ""
    hedge: bool = False
    """The attempt before it goes on."""
    shadow_of: str = ""
    """See `Settlement.shadow_of`."""
    asked_at: float | None = None  # when the request began; `None`: with this attempt


class Progress(msgspec.Struct, frozen=True, tag="progress", omit_defaults=True):
    """Checkpoint of a long stream: output tokens delivered so far (estimated). Or that an attempt failed."""

    request_id: str
    n: int
    output: int
    failed: bool = False  # it is over and charged nothing, and the request goes on


class Settlement(msgspec.Struct, frozen=True, tag="settle", omit_defaults=True):
    """The final account of one request; its usage and cost are the sums over its attempts, beaten ones left out."""

    request_id: str
    organisation: str
    project: str
    key_id: str
    key_name: str
    route: str
    operation: Operation
    stream: bool
    state: State
    status: int
    started_at: float
    duration_ms: int
    attempts: tuple[AttemptRecord, ...] = ()
    error: str = ""
    ttft_ms: int | None = None
    overhead_ms: float = 0.0
    cache: str = ""
    """hit, similar, miss, bypass, coalesced, or empty where no cache is configured."""
    saved: int | None = None
    """Micro-units that an answer from the cache would have cost; `None` if none came from there, or unknown."""
    plan: tuple[Considered, ...] = ()
    facts: CallFacts | None = None
    member: str = ""
    shadow_of: str = ""
    """Id of the request of which this is a copy for a shadow target: nobody was answered with it."""
