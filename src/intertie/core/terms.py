"""The nouns of the gateway: frozen values that every layer shares.

Units: money is integer micro-units of the operator's currency (1.00 = 1_000_000), tokens are integers, durations are
seconds, wall-clock times are UTC seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Operation(StrEnum):
    """What a call asks a model to do."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"


class Dialect(StrEnum):
    """The API language a client or an upstream speaks."""

    OPENAI = "openai"


class Trust(StrEnum):
    """Who holds the machine that answers; also used as a ceiling, the most exposed class a call may reach."""

    OWN = "own"
    COMPANY = "company"
    COMMUNITY = "community"
    VENDOR = "vendor"

    def within(self, ceiling: Trust) -> bool:
        """True if a target of this class may serve a call restricted to `ceiling`."""
        return _EXPOSURE[self] <= _EXPOSURE[ceiling]


_EXPOSURE: Final = {Trust.OWN: 0, Trust.COMPANY: 1, Trust.COMMUNITY: 2, Trust.VENDOR: 3}


class StrategyName(StrEnum):
    """How the targets of a route are ordered. One file each in `core/routing/strategies`."""

    PRIORITY = "priority"
    WEIGHTED = "weighted"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    LEAST_BUSY = "least_busy"


class Secret:
    """A string that never prints itself: `repr`, `str` and formatting show `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Call this only where it is put on the wire or encrypted."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class Price(msgspec.Struct, frozen=True):
    """Micro-units per million tokens, by token class. `None` for a class means the plain input price."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    source: str = "config"


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one attempt. `input` includes `cached` and `cache_write`; `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    estimated: bool = False


class Call(msgspec.Struct, frozen=True):
    """The meaning of one client request. `fields` are the body's top-level members, values still raw JSON bytes."""

    id: str
    dialect: Dialect
    operation: Operation
    model: str
    stream: bool
    fields: Mapping[str, msgspec.Raw]
    wants_usage: bool = False
    size: int = 0  # bytes of the body as received


class Caller(msgspec.Struct, frozen=True):
    """Who calls: an API key of a project of an organisation, and what it may reach."""

    organisation: str
    project: str
    key_id: str
    key_name: str
    models: frozenset[str] | None = None
    """Route names the key may use; `None` means all of its organisation."""
    trust: Trust = Trust.VENDOR
    expires_at: float | None = None


class Credential(msgspec.Struct, frozen=True):
    """One secret used towards an upstream. `id` is safe to log; the secret is not."""

    id: str
    secret: Secret


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `first_output` bounds the wait for model output, `between_output` each silence after it."""

    connect: float = 3.0
    first_output: float = 60.0
    between_output: float = 60.0


NODE: Final = "node"
"""`Upstream.provider` of a node: a machine enrolled here, reached over its link instead of an address."""


class Upstream(msgspec.Struct, frozen=True):
    """Somewhere we send: a provider account, a runtime at an address, or a node (whose agent knows its runtimes)."""

    id: str
    organisation: str
    name: str
    provider: str
    """Adapter kind: the name of a file in `core/providers`."""
    base_url: str
    credentials: tuple[Credential, ...] = ()
    trust: Trust = Trust.VENDOR
    region: str = ""
    models: Mapping[str, Price | None] = MappingProxyType({})
    """Models it is known to serve and their price; `None` price is unknown, never zero."""
    headers: Mapping[str, str] = NOTHING
    timeouts: Timeouts = Timeouts()
    enabled: bool = True


class ModelFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node's agent found out about a model it serves."""

    name: str
    runtime: str = ""
    """Kind of the runtime, such as `ollama`."""
    context: int | None = None
    """Tokens the *loaded* model takes per request; not the model's maximum."""
    slots: int | None = None
    loaded: bool = True
    quantisation: str = ""
    parameters: str = ""
    capabilities: tuple[str, ...] = ()
    """Of `chat`, `completion`, `embedding`, `tools`, `vision`, `json_schema`."""
    prefill: float | None = None
    decode: float | None = None
    """Measured tokens per second: input, and output of one stream."""


class Node(msgspec.Struct, frozen=True):
    """An enrolled machine as the data plane sees it. Its upstream has the same id and name."""

    id: str
    organisation: str
    name: str
    labels: frozenset[str] = frozenset()
    drained: bool = False
    """An operator wants no new work on it."""
    slots: int | None = None
    """The operator's cap on its exchanges at a time."""
    void: int = 0
    """Links up to this epoch are of a key that enrolment has replaced since."""


class Target(msgspec.Struct, frozen=True):
    """An upstream's model inside a route. Lower tiers are tried first; weight shares traffic inside a tier."""

    upstream: str
    """`Upstream.id`."""
    model: str
    weight: int = 1
    tier: int = 0


class CacheScope(StrEnum):
    """Whose calls may be answered by what somebody else's call was answered with."""

    ORGANISATION = "organisation"
    PROJECT = "project"


class CachePolicy(msgspec.Struct, frozen=True):
    """That a route's answers are kept for calls that no model could tell apart."""

    ttl: float = 3600.0
    """Seconds an answer may be given again."""
    scope: CacheScope = CacheScope.ORGANISATION


class Route(msgspec.Struct, frozen=True):
    """A public model name that clients ask for, and the targets that can answer."""

    organisation: str
    model: str
    targets: tuple[Target, ...]
    strategy: StrategyName = StrategyName.PRIORITY
    deadline: float = 600.0
    """Seconds from admission to the last byte."""
    max_attempts: int = 3
    cache: CachePolicy | None = None
    sticky: bool = False
    """A conversation stays with the target that has it."""
    fallback: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Code of a rejection -> models to try instead."""


class Webhook(msgspec.Struct, frozen=True):
    """Where an organisation is told that a quota or budget passed a threshold."""

    url: str
    secret: Secret
    """Signs what is sent."""


class Snapshot(msgspec.Struct, frozen=True):
    """Everything the data plane knows, swapped whole by one assignment. Each request keeps the one it began with."""

    revision: int = 0
    callers: Mapping[bytes, Caller] = MappingProxyType({})
    """Keyed hash of an API key -> caller."""
    routes: Mapping[tuple[str, str], Route] = MappingProxyType({})
    """(organisation, model) -> route; the model `*` passes any model through."""
    upstreams: Mapping[str, Upstream] = MappingProxyType({})
    """`Upstream.id` -> upstream; nodes among them."""
    nodes: Mapping[tuple[str, str], Node] = MappingProxyType({})
    """(organisation, name) -> node, without revoked and pending ones."""
    limits: Mapping[tuple[str, str, str], tuple[Any, ...]] = MappingProxyType({})
    """(organisation, level, holder) -> each `core.policy.limits.Limit`, which stands above these nouns."""
    max_output: Mapping[tuple[str, str], int] = MappingProxyType({})
    """(organisation, project) -> output tokens of a call that must be bounded and does not say."""
    alerts: Mapping[str, Webhook] = MappingProxyType({})
    """Organisation -> whom to tell about its limits."""
    rules: Mapping[str, tuple[Any, ...]] = MappingProxyType({})
    """Organisation -> `core.routing.rules.Rule`s."""


class Considered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One target of a plan, as explanations and books show it: why it was left out, or what gave it its place.

    `score` is what its strategy compared, in its own unit; lower is better. `base` is its place before rules;
    `None` if health, room or reach kept it out, whatever rules say. `setback` put it behind others whatever rules
    prefer: 1 just back, 2 full, 4 degraded, summed. `latency` in seconds is there where a rule asked; 0: not measured.
    """

    upstream: str
    model: str
    why: str = ""
    score: float | None = None
    allowed: bool = True
    base: float | None = None
    setback: int = 0
    latency: float | None = None


class CallFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rules may ask about a call, and all that the books keep of it: never its content."""

    key: str
    project: str
    model: str
    operation: Operation
    tags: frozenset[str] = frozenset()
    headers: Mapping[str, str] = {}
    """Only those that some rule asks for."""
    needs: frozenset[str] = frozenset()
    """Capabilities: `tools`, `vision`, `json_schema`."""
    tokens: int = 0  # of input, estimated
    output: int | None = None
    """The largest output the caller allows."""
    content: frozenset[str] = frozenset()
    """Classes of content that some rule asks for and that were found."""
    trust: Trust = Trust.VENDOR
    """The caller's ceiling."""
    at: float = 0.0


class State(StrEnum):
    """How a request or an attempt ended."""

    OK = "ok"
    FAILED = "failed"  # no answer, or an error answer
    INTERRUPTED = "interrupted"
    """Broke after the commit point."""
    CANCELLED = "cancelled"  # the client left
    RECOVERED = "recovered"
    """In flight when the process died; settled by estimate at the next start."""


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
    asked_at: float | None = None  # when the request began; `None`: with this attempt


class Progress(msgspec.Struct, frozen=True, tag="progress", omit_defaults=True):
    """Checkpoint of a long stream: output tokens delivered so far (estimated). Or that an attempt failed."""

    request_id: str
    n: int
    output: int
    failed: bool = False  # it is over and charged nothing, and the request goes on


class Settlement(msgspec.Struct, frozen=True, tag="settle", omit_defaults=True):
    """The final account of one request; its usage and cost are the sums over its attempts."""

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
    cache: str = ""  # hit, miss, bypass, coalesced, or empty where no cache is configured
    saved: int | None = None
    """Micro-units that an answer from the cache would have cost; `None` if none came from there, or unknown."""
    plan: tuple[Considered, ...] = ()
    facts: CallFacts | None = None
