"""The shape of rules in configuration: when a call looks so, its targets must, should or must not be so."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from intertie.controlplane.consistency import nearest
from intertie.controlplane.shapes import Email, Entry, Model, Money, Name, Seconds, wrong
from intertie.core.policy.content import CLASSES
from intertie.core.routing.rules import DAYS, Hours, Rule, When, Wish, span
from intertie.core.terms import Operation, Trust

MOST_RULES: Final = 200
NEEDS: Final = ("json_schema", "tools", "vision")
_HOURS: Final = re.compile(r"(?:(?P<days>[a-z,-]+) )?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)")
_HEADER: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")
_SECRETS: Final = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
_OWN: Final = {
    "x-intertie-tags": "write tag: NAME",
    "x-intertie-trust": "it is the caller's ceiling already, under any rules",
}


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _tag(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}", value):
        raise wrong("must begin with a letter or digit and have at most 64 letters, digits and . _ : / = @ + -")
    return value.lower()


def _need(value: str) -> str:
    if value not in NEEDS:
        raise wrong(f"must be {_listed(NEEDS)}", nearest(value, list(NEEDS)))
    return value


def _content(value: str) -> str:
    if value not in CLASSES:
        raise wrong(f"must be {_listed(CLASSES)}", nearest(value, list(CLASSES)))
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise wrong("is no time zone", "write a name such as Europe/Berlin or UTC") from None
    return value


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


Tag = Annotated[str, AfterValidator(_tag)]
Names = Annotated[list[Name], BeforeValidator(_several), Field(min_length=1, max_length=100)]
Emails = Annotated[list[Email], BeforeValidator(_several), Field(min_length=1, max_length=100)]
Tags = Annotated[list[Tag], BeforeValidator(_several), Field(min_length=1, max_length=100)]
Models = Annotated[list[Model], BeforeValidator(_several), Field(min_length=1, max_length=100)]
Operations = Annotated[list[Operation], BeforeValidator(_several), Field(min_length=1)]
Needs = Annotated[list[Annotated[str, AfterValidator(_need)]], BeforeValidator(_several), Field(min_length=1)]
Contents = Annotated[list[Annotated[str, AfterValidator(_content)]], BeforeValidator(_several), Field(min_length=1)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000)]


class WhenEntry(Entry):
    """Conditions, all of which must hold; of several values of one, any."""

    key: Names | None = None
    project: Names | None = None
    member: Emails | None = None
    tag: Tags | None = None
    header: dict[str, str] | None = None
    model: Models | None = None
    operation: Operations | None = None
    needs: Needs | None = None
    larger_than: Tokens | None = None
    smaller_than: Tokens | None = None
    content: Contents | None = None
    hours: str | None = None
    zone: Annotated[str, AfterValidator(_zone)] | None = None

    @field_validator("header")
    @classmethod
    def _headers(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, pattern in (value or {}).items():
            lower = name.lower()
            if not _HEADER.fullmatch(lower):
                raise wrong(f"{name!r} is not a header name")
            if lower in _SECRETS:
                raise wrong(f"{name} is a secret, which rules never see", "write key: NAME")
            if lower in _OWN:
                raise wrong(f"{name} is the gateway's own", _OWN[lower])
            if not pattern or len(pattern) > 200:
                raise wrong(f"the pattern for {name} must have 1 to 200 characters")
        return None if value is None else {name.lower(): pattern for name, pattern in value.items()}

    @field_validator("hours")
    @classmethod
    def _hours(cls, value: str | None) -> str | None:
        if value is not None:
            parse_hours(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> WhenEntry:
        if self.zone is not None and self.hours is None:
            raise wrong("has a `zone` and no `hours`", "give both, or neither")
        if self.larger_than is not None and self.smaller_than is not None and self.larger_than >= self.smaller_than:
            raise wrong("`larger_than` is not below `smaller_than`: no call is both", "swap them")
        return self

    def when(self) -> When:
        """As routing knows it."""
        return When(
            key=tuple(self.key or ()),
            project=tuple(self.project or ()),
            member=tuple(self.member or ()),
            tag=tuple(self.tag or ()),
            header=dict(self.header or {}),
            model=tuple(self.model or ()),
            operation=tuple(self.operation or ()),
            needs=tuple(self.needs or ()),
            larger_than=self.larger_than,
            smaller_than=self.smaller_than,
            content=tuple(self.content or ()),
            hours=None if self.hours is None else parse_hours(self.hours, self.zone or "UTC"),
        )


class WishEntry(Entry):
    """What targets are to be; at least one of these."""

    trust: Trust | None = None
    region: Names | None = None
    upstream: Names | None = None
    node_label: Names | None = None
    price: Money | None = None
    latency: Seconds | None = None

    @model_validator(mode="after")
    def _something(self) -> WishEntry:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise wrong("says nothing", f"give at least one of {', '.join(type(self).model_fields)}")
        return self

    def wish(self) -> Wish:
        """As routing knows it."""
        return Wish(
            trust=self.trust,
            region=tuple(self.region or ()),
            upstream=tuple(self.upstream or ()),
            node_label=tuple(self.node_label or ()),
            price=self.price,
            latency=self.latency,
        )


class RuleEntry(Entry):
    """One rule. Without `name`, its place in the file is its name."""

    name: Name | None = None
    when: WhenEntry = WhenEntry()
    require: WishEntry | None = None
    prefer: WishEntry | None = None
    forbid: WishEntry | None = None

    @model_validator(mode="after")
    def _demands(self) -> RuleEntry:
        if self.require is None and self.prefer is None and self.forbid is None:
            raise wrong("demands nothing", "give `require`, `prefer` or `forbid`")
        return self

    def rule(self, place: int) -> Rule:
        """As routing knows it; `place` counts from 1."""
        return Rule(
            name=self.name or f"rule-{place}",
            when=self.when.when(),
            require=self.require.wish() if self.require else None,
            prefer=self.prefer.wish() if self.prefer else None,
            forbid=self.forbid.wish() if self.forbid else None,
        )


def written(rule: Rule) -> dict[str, Any]:
    """The rule as a file says it: the inverse of `RuleEntry.rule`."""
    demands = (("require", rule.require), ("prefer", rule.prefer), ("forbid", rule.forbid))
    entry: dict[str, Any] = {"name": rule.name}
    if when := _brief(rule.when):
        entry["when"] = when
    made: dict[str, Any] = msgspec.to_builtins(
        entry | {verb: _brief(wish) for verb, wish in demands if wish is not None}
    )
    return made


def _brief(part: When | Wish) -> dict[str, Any]:
    """What is said and nothing else, single values without a list."""
    said: dict[str, Any] = {}
    for name, value in msgspec.structs.asdict(part).items():
        if isinstance(value, Hours):
            said["hours"], said["zone"] = span(value), value.zone
        elif name == "price" and value is not None:
            said[name] = value // 1_000_000 if value % 1_000_000 == 0 else value / 1e6
        elif isinstance(value, tuple):
            said |= {name: value[0] if len(value) == 1 else list(value)} if value else {}
        elif value not in (None, {}):
            said[name] = value
    return said


def parse_hours(text: str, zone: str = "UTC") -> Hours:
    """`mon-fri 08:00-18:00`, `sat,sun 00:00-24:00` or `22:00-06:00`. Raises a problem that says how to write it."""
    found = _HOURS.fullmatch(text.strip().lower())
    problem = wrong("is no span of hours", "write 08:00-18:00, or mon-fri 08:00-18:00, or sat,sun 00:00-24:00")
    if found is None:
        raise problem
    start, end = _minutes(found["start"]), _minutes(found["end"])
    days = _days(found["days"]) if found["days"] else frozenset(range(7))
    if start is None or end is None or start == end or start >= 24 * 60 or not days:
        raise problem
    return Hours(start, end, days, zone)


def _minutes(text: str) -> int | None:
    hour, minute = int(text[:2]), int(text[3:])
    total = hour * 60 + minute
    return total if minute < 60 and total <= 24 * 60 else None


def _days(text: str) -> frozenset[int]:
    """Empty if it cannot be read."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            return frozenset()
        at, end = DAYS.index(first), DAYS.index(last if dash else first)
        found.add(at)
        while at != end:
            at = (at + 1) % 7
            found.add(at)
    return frozenset(found)


class DraftEntry(Entry):
    """Rules that are not in force, and the span of recorded traffic to try them on (UTC seconds).

    Either all of them (`rules`), or those in force with one put (where: `before` or `after` another) or removed.
    """

    rules: list[RuleEntry] | None = Field(default=None, max_length=MOST_RULES)
    put: RuleEntry | None = None
    before: Name | None = None
    after: Name | None = None
    remove: Name | None = None
    since: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    until: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_draft(self) -> DraftEntry:
        if sum(value is not None for value in (self.rules, self.put, self.remove)) != 1:
            raise wrong("is no draft", "give one of rules, put and remove")
        if self.before is not None and self.after is not None:
            raise wrong("has both `before` and `after`", "keep one")
        return self


class MoveEntry(Entry):
    """Where a rule is to be: right before or right after another one."""

    before: Name | None = None
    after: Name | None = None

    @model_validator(mode="after")
    def _one_neighbour(self) -> MoveEntry:
        if (self.before is None) == (self.after is None):
            raise wrong("must say where", "give either `before` or `after`, with the name of a rule")
        return self


class QuestionEntry(Entry):
    """A call as far as placing it depends on it."""

    model: Model
    key: str = Field(default="", max_length=200)
    tags: list[Tag] = Field(default=[], max_length=16)
    headers: dict[str, str] = Field(default={}, max_length=50)
    needs: list[Annotated[str, AfterValidator(_need)]] = Field(default=[])
    content: list[Annotated[str, AfterValidator(_content)]] = Field(default=[])
    tokens: Tokens = 0
    output: Tokens | None = None
    operation: Operation = Operation.CHAT
    stream: bool = False
    trust: Trust | None = None
