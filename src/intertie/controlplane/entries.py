"""The shapes of configuration: what a file, a command and the admin API may say about each noun.

One definition for every door. Unknown keys are errors; each field is validated by itself, so that one look finds every
problem. What relates two entries is checked in `consistency`.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from intertie.controlplane.addresses import base_url, is_public
from intertie.controlplane.limit_entries import Limited, ModelLimitsEntry, OrganisationEntry, by_name
from intertie.controlplane.member_entries import MemberEntry
from intertie.controlplane.places import PLACES
from intertie.controlplane.rule_entries import MOST_RULES, RuleEntry
from intertie.controlplane.shapes import Email, Entry, Model, Money, Name, Seconds, wrong
from intertie.core.keeping import LOCAL, CacheScope
from intertie.core.providers import load
from intertie.core.routing.resolve import DIRECT
from intertie.core.terms import NODE, StrategyName, Trust

_OWN_HEADERS: Final = frozenset(
    {
        *(
            "accept",
            "accept-encoding",
            "authorization",
            "connection",
            "content-encoding",
            "content-length",
            "content-type",
        ),
        *(
            "expect",
            "host",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
        ),
        "upgrade",
    }
)
_SECRET_HEADER: Final = re.compile(r"auth|cookie|credential|key|password|secret|token", re.IGNORECASE)


def _moment(value: object) -> float:
    """A date or time as UTC seconds; a date counts from its beginning, a time without zone is UTC."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool) and 1e9 < value < 1e11:
            return float(value)
    except ValueError:
        pass
    raise wrong("must be a date or time such as 2027-01-31 or 2027-01-31T18:00:00Z")


def _no_star(value: str) -> str:
    if value == "*":
        raise wrong("must name a model", "list the models, or leave `models` out to pass any model through")
    return value


def _not_direct(value: str) -> str:
    if value.startswith(DIRECT):
        raise wrong(f"must not begin with {DIRECT}", f"{DIRECT}NAME is what calls to one node are called in the books")
    return value


Moment = Annotated[float, BeforeValidator(_moment)]


def _resolved(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("resolved"))


class SecretEntry(Entry):
    """Where a secret is found. `value` is filled by `config.resolve` and never accepted from a file."""

    literal: ClassVar[bool] = False
    """May the value stand in a file?"""
    env: str | None = None
    file: str | None = None
    value: SecretStr | None = None

    @model_validator(mode="after")
    def _one_source(self, info: ValidationInfo) -> SecretEntry:
        if self.env is not None and self.file is not None:
            raise wrong("has both `env` and `file`", "keep one")
        if self.value is not None and not (self.literal or _resolved(info)):
            raise wrong(
                "secrets do not belong in the file", "write {env: NAME} or {file: PATH} and put the secret there"
            )
        if not (self.env or self.file or self.value):
            raise wrong("must say where the secret is", "write {env: NAME} or {file: PATH}")
        return self

    @property
    def label(self) -> str:
        """The place, for people: `env ACME_KEY`, `file /run/secrets/acme`, or `given`. Never the secret."""
        return f"env {self.env}"[:200] if self.env else f"file {self.file}"[:200] if self.file else "given"

    def reveal(self) -> str:
        """The secret; empty before `config.resolve`."""
        return self.value.get_secret_value() if self.value else ""


class HeaderEntry(SecretEntry):
    """A header's value: literal text, or a secret's place."""

    literal: ClassVar[bool] = True


def _header(value: object) -> object:
    return {"value": value} if isinstance(value, str) else value


class PriceEntry(Entry):
    """A model's own price, in currency units per million tokens; held as integer micro-units."""

    input: Money | None = None
    output: Money | None = None
    cached_input: Money | None = None
    cache_write: Money | None = None
    free: bool = False

    @model_validator(mode="after")
    def _complete(self) -> PriceEntry:
        amounts = (self.input, self.output, self.cached_input, self.cache_write)
        if self.free and any(amount is not None for amount in amounts):
            raise wrong("is free and has amounts", "keep one")
        if not self.free and (self.input is None or self.output is None):
            raise wrong("needs `input` and `output`", "leave `price` out to use the catalogue's")
        if not self.free and not self.input and not self.output:
            raise wrong("is zero", "write `price: free` if it costs nothing; leave `price` out if it is unknown")
        return self


class ModelEntry(Entry):
    """A model that an upstream serves."""

    name: Annotated[Model, AfterValidator(_no_star)]
    price: Annotated[PriceEntry | None, BeforeValidator(lambda v: {"free": True} if v == "free" else v)] = None


NamedModel = Annotated[ModelEntry, BeforeValidator(lambda v: {"name": v} if isinstance(v, str) else v)]


class TimeoutsEntry(Entry):
    """Seconds; see `core.terms.Timeouts`."""

    connect: Seconds = 3.0
    first_output: Seconds = 60.0
    between_output: Seconds = 60.0


class UpstreamEntry(Limited):
    """Somewhere to send: a provider account, or a runtime on a machine."""

    may_wait = False
    name: Name
    provider: str
    base_url: str | None = None
    credentials: list[SecretEntry] = Field(default=[], max_length=100)
    trust: Trust = Trust.VENDOR
    region: Name | None = None
    models: list[NamedModel] = Field(default=[])
    headers: dict[str, Annotated[HeaderEntry, BeforeValidator(_header)]] = Field(default={})
    timeouts: TimeoutsEntry = TimeoutsEntry()
    enabled: bool = True

    @field_validator("provider")
    @classmethod
    def _provider(cls, value: str) -> str:
        if value == NODE:
            raise wrong(
                "nodes are not declared as upstreams",
                "enrol the machine with: intertie nodes token NAME; routes then name it as {node: NAME}",
            )
        if value not in (known := [kind for kind in load() if kind != NODE]):
            near = difflib.get_close_matches(value, known, n=1)
            raise wrong(
                "no such provider", f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return base_url(value)
        except ValueError as error:
            raise wrong(str(error)) from None

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, HeaderEntry], info: ValidationInfo) -> dict[str, HeaderEntry]:
        for name, entry in value.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", name):
                raise wrong(f"{name!r} is not a header name")
            if name.lower() in _OWN_HEADERS:
                raise wrong(f"the gateway sets {name} itself", "put secrets under `credentials`")
            if entry.label == "given" and _SECRET_HEADER.search(name) and not _resolved(info):
                raise wrong(f"{name} looks like a secret", f"write {name}: {{env: NAME}}")
        return {name.lower(): entry for name, entry in value.items()}


class TargetEntry(Entry):
    """A model of an upstream, of one node, or of every node with a label, inside a route. Exactly one of the three.

    Without `model`, the one the client asked for.
    """

    upstream: Name | None = None
    node: Name | None = None
    node_label: Name | None = None
    model: Model | None = None
    weight: int = Field(default=1, ge=1, le=1000)
    tier: int = Field(default=0, ge=0, le=100)

    @model_validator(mode="after")
    def _one_place(self) -> TargetEntry:
        given = [name for name in PLACES if getattr(self, name) is not None]
        if not given:
            raise wrong("must say where to send", "give `upstream`, `node` or `node_label`")
        if len(given) > 1:
            raise wrong(f"has both `{given[0]}` and `{given[1]}`", "keep one, or write two targets")
        return self


class SimilarEntry(Entry):
    """That an answer is given to similar questions, too; see `core.terms.Similar`."""

    threshold: float = Field(default=0.92, ge=0.8, le=1.0)
    words: float = Field(default=1.0, ge=0.5, le=1.0)
    embeddings: Model = LOCAL


class CacheEntry(Entry):
    """That answers are kept: for so many seconds, shared by a project or the organisation."""

    ttl: float = Field(default=3600.0, gt=0, le=30 * 86_400, allow_inf_nan=False)
    scope: CacheScope = CacheScope.ORGANISATION
    similar: SimilarEntry | None = None


class HedgeEntry(Entry):
    """That a second target is asked beside one that shows nothing for too long. `true` is short for the defaults."""

    after: float = Field(default=1.0, ge=0.1, le=600, allow_inf_nan=False)
    share: float = Field(default=0.02, gt=0, le=1, allow_inf_nan=False)


class ShadowTargetEntry(Entry):
    """Who gets copies: an upstream or a node. Without `model`, they ask for the one the client asked for."""

    upstream: Name | None = None
    node: Name | None = None
    model: Model | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ShadowTargetEntry:
        if (self.upstream is None) == (self.node is None):
            raise wrong("must say where to send copies", "give `upstream` or `node`, not both")
        return self


class ShadowEntry(Entry):
    """That a share of a route's answered calls is sent to others, too, whose answers go nowhere."""

    targets: list[ShadowTargetEntry] = Field(min_length=1, max_length=5)
    share: float = Field(default=0.1, gt=0, le=1, allow_inf_nan=False)


def _switch(value: object) -> object:
    """`true` as the defaults, `false` as none."""
    if isinstance(value, bool):
        return {} if value else None
    return value


class FallbackCode(StrEnum):
    """Rejections of a call that another model may take."""

    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    CONTENT_FILTER = "content_filter"


class RouteEntry(Limited):
    """What clients call a model, and who answers."""

    model: Annotated[Model, AfterValidator(_not_direct)]
    strategy: StrategyName = StrategyName.PRIORITY
    targets: list[TargetEntry] = Field(min_length=1, max_length=100)
    deadline: Seconds = 600.0
    max_attempts: int = Field(default=3, ge=1, le=3)
    cache: CacheEntry | None = None
    sticky: bool = False
    fallback: dict[FallbackCode, list[Model]] = Field(default={})
    hedge: Annotated[HedgeEntry | None, BeforeValidator(_switch)] = None
    shadow: ShadowEntry | None = None


class KeyEntry(Limited):
    """An API key of a project, and of a member if one is named. Without `value` it is generated and shown once."""

    name: Name
    member: Email | None = None
    value: SecretEntry | None = None
    models: list[Model] | None = None
    trust: Trust = Trust.VENDOR
    expires: Moment | None = None


class ProjectEntry(Limited):
    """A project and its keys. `max_output` bounds, in tokens, calls under a budget that do not say."""

    name: Name
    max_output: int | None = Field(default=None, ge=1, le=10_000_000)
    keys: list[KeyEntry] = Field(default=[])


class AlertsEntry(Entry):
    """Who is told when a quota or budget passes a threshold, and what signs the message."""

    webhook: str
    secret: SecretEntry

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            address = base_url(value)
        except ValueError as error:
            raise wrong(str(error)) from None
        if address.startswith("http:") and is_public(address):
            raise wrong("must begin with https://", "plain http is for addresses of a private network")
        return address


class Document(Entry):
    """A whole configuration file."""

    settings: dict[str, Any] = Field(default={})
    upstreams: list[UpstreamEntry] = Field(default=[])
    routes: list[RouteEntry] = Field(default=[])
    projects: list[ProjectEntry] = Field(default=[])
    members: list[MemberEntry] = Field(default=[])
    organisation: OrganisationEntry | None = None
    models: Annotated[list[ModelLimitsEntry], BeforeValidator(by_name)] = Field(default=[])
    alerts: AlertsEntry | None = None
    rules: list[RuleEntry] = Field(default=[], max_length=MOST_RULES)
