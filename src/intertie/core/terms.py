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

from intertie.core.keeping import CachePolicy

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


class Price(msgspec.Struct, frozen=True, omit_defaults=True):
    """Micro-units per million tokens, by token class. `None` for a class means the plain input price."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    source: str = "config"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
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

    @property
    def lasting(self) -> bool:
        """The vendor is to keep the answer (`store`), so to send it twice is to do something twice."""
        return bytes(self.fields.get("store", b"")) == b"true"


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
    member: str = ""  # address of the person the key belongs to, if it belongs to one


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
    paused: frozenset[str] = frozenset()  # models that get no calls for now; `*` is all of them


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


class Hedge(msgspec.Struct, frozen=True):
    """That a second target is asked beside one that shows nothing for too long."""

    after: float = 1.0
    """Seconds without output, at least; the route's own 95th percentile, if that is longer."""
    share: float = 0.02
    """At most this part of the route's attempts."""


class Shadow(msgspec.Struct, frozen=True):
    """Who gets copies of answered calls, and of which part of them. What they answer goes nowhere."""

    targets: tuple[Target, ...]
    share: float = 0.1


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
    hedge: Hedge | None = None
    shadow: Shadow | None = None


class Webhook(msgspec.Struct, frozen=True):
    """Where an organisation is told that a quota or budget passed a threshold."""

    url: str
    secret: Secret  # signs what is sent


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
