"""Rules: when a call looks so, its targets must, should or must not be so. Ordered, typed, and each says why.

Requirements and prohibitions are filters that nothing downstream can undo: failover, hedging, shadow copies and the
cache all work from what they leave. Preferences only order.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from intertie.core.ledger import CallFacts
from intertie.core.terms import Operation, Price, Trust

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Hours(msgspec.Struct, frozen=True):
    """A daily span of local time, minutes since midnight. One that ends before it begins runs over midnight."""

    start: int
    end: int
    days: frozenset[int] = frozenset(range(7))
    """Days on which it begins; 0 is Monday."""
    zone: str = "UTC"

    def holds(self, at: float) -> bool:
        """Whether the moment `at` (UTC seconds) is within."""
        local = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(self.zone))
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


class When(msgspec.Struct, frozen=True):
    """Conditions, all of which must hold; of several values of one, any. What is not given always holds."""

    key: tuple[str, ...] = ()
    project: tuple[str, ...] = ()
    member: tuple[str, ...] = ()
    """Addresses."""
    tag: tuple[str, ...] = ()
    header: Mapping[str, str] = {}
    """Lower-case name -> pattern with `*` and `?`."""
    model: tuple[str, ...] = ()
    """Patterns with `*` and `?`. Case does not count: to some upstreams it does not, either."""
    operation: tuple[Operation, ...] = ()
    needs: tuple[str, ...] = ()
    """Capabilities the call needs: `tools`, `vision`, `json_schema`."""
    larger_than: int | None = None
    """Estimated input tokens."""
    smaller_than: int | None = None
    content: tuple[str, ...] = ()
    """Classes of content found in the call: see `core.policy.content`."""
    hours: Hours | None = None


class Wish(msgspec.Struct, frozen=True):
    """What targets are to be. Several values of one field: any of them."""

    trust: Trust | None = None
    """At most this exposed."""
    region: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    """Names; a node's name is its upstream's."""
    node_label: tuple[str, ...] = ()
    price: int | None = None
    """Micro-units per million output tokens, at most. An unknown price is over any ceiling."""
    latency: float | None = None
    """Seconds to the first output, measured; an unmeasured target is not over it."""


class Rule(msgspec.Struct, frozen=True):
    """One rule; `name` is what explanations call it."""

    name: str
    when: When = When()
    require: Wish | None = None
    prefer: Wish | None = None
    forbid: Wish | None = None

    @property
    def asks_latency(self) -> bool:
        """Whether it asks how fast targets are."""
        return any(wish is not None and wish.latency is not None for wish in (self.require, self.prefer, self.forbid))


class TargetFacts(msgspec.Struct, frozen=True):
    """What rules may ask about a target."""

    upstream: str
    trust: Trust
    region: str = ""
    labels: frozenset[str] = frozenset()
    price: Price | None = None
    latency: float | None = None
    """Measured seconds to the first output; `None` if nothing is known."""


class Verdict(NamedTuple):
    """What the rules say about one target."""

    allowed: bool
    preferred: int
    """How many preferences it meets; earlier rules weigh more."""
    why: str
    """The rule that excludes it, or the first preference it meets; empty if none says anything."""


def applying(rules: Sequence[Rule], call: CallFacts) -> tuple[Rule, ...]:
    """The rules whose conditions this call meets, in order."""
    return tuple(rule for rule in rules if holds(rule.when, call))


def applying_to_either(rules: Sequence[Rule], call: CallFacts, model: str) -> tuple[Rule, ...]:
    """The rules for this call, and those for the same one asking for `model`, in order: what holds for a fallback."""
    other = replace(call, model=model)
    return tuple(rule for rule in rules if holds(rule.when, call) or holds(rule.when, other))


def judge(rules: Sequence[Rule], target: TargetFacts) -> Verdict:
    """What rules that apply to a call say about one target."""
    preferred, why = 0, ""
    for place, rule in enumerate(rules):
        if rule.forbid is not None and _any(rule.forbid, target):
            return Verdict(False, 0, f"rule {rule.name} forbids {_words(rule.forbid)}")
        if rule.require is not None and (missed := unmet(rule.require, target)):
            return Verdict(False, 0, f"rule {rule.name} requires {missed}")
        if rule.prefer is not None and not unmet(rule.prefer, target):
            preferred += 1 << (len(rules) - place)
            why = why or f"rule {rule.name} prefers {_words(rule.prefer)}"
    return Verdict(True, preferred, why)


def told(rule: Rule) -> str:
    """A rule in words: `when tag private: require trust own`."""
    demands = (("require", rule.require), ("prefer", rule.prefer), ("forbid", rule.forbid))
    wanted = "; ".join(f"{verb} {_words(wish)}" for verb, wish in demands if wish is not None)
    conditions = _conditions(rule.when)
    return f"when {conditions}: {wanted}" if conditions else f"always: {wanted}"


def span(hours: Hours) -> str:
    """Days and hours as people write them, without the zone: `sat,sun 00:00-24:00`."""
    days = "" if len(hours.days) == len(DAYS) else ",".join(DAYS[day] for day in sorted(hours.days)) + " "
    return days + "-".join(f"{minutes // 60:02d}:{minutes % 60:02d}" for minutes in (hours.start, hours.end))


def _conditions(when: When) -> str:
    lists = (
        *(("key", when.key), ("project", when.project), ("member", when.member), ("tag", when.tag)),
        *(("model", when.model), ("operation", when.operation), ("needs", when.needs), ("content", when.content)),
    )
    parts = [f"{name} {' or '.join(values)}" for name, values in lists if values]
    parts += [f"header {name} {pattern}" for name, pattern in when.header.items()]
    parts += [f"more than {when.larger_than} tokens"] if when.larger_than is not None else []
    parts += [f"fewer than {when.smaller_than} tokens"] if when.smaller_than is not None else []
    if (hours := when.hours) is not None:
        parts.append(f"hours {span(hours)} {hours.zone}")
    return " and ".join(parts)


def restriction(rules: Sequence[Rule]) -> str:
    """All that these rules require and forbid, as one text: what was answered under another is no answer here."""
    wishes = [(rule.require, rule.forbid) for rule in rules if rule.require is not None or rule.forbid is not None]
    return msgspec.json.encode(wishes, order="deterministic").decode() if wishes else ""


def holds(when: When, call: CallFacts) -> bool:
    """Whether every condition holds."""
    return stands(when, call) and passes(when, call)


def stands(when: When, call: CallFacts) -> bool:
    """Whether the conditions hold that all calls of one key for one model have in common."""
    return (
        (not when.key or call.key in when.key)
        and (not when.project or call.project in when.project)
        and (not when.member or call.member in when.member)
        and (not when.operation or call.operation in when.operation)
        and (not when.model or any(_fits(call.model.lower(), one.lower()) for one in when.model))
    )


def passes(when: When, call: CallFacts) -> bool:
    """Whether the other conditions hold."""
    return (
        (not when.tag or not call.tags.isdisjoint(when.tag))
        and (not when.header or all(_any_fits(call.headers.get(name, ""), one) for name, one in when.header.items()))
        and (not when.needs or not call.needs.isdisjoint(when.needs))
        and (when.larger_than is None or call.tokens > when.larger_than)
        and (when.smaller_than is None or call.tokens < when.smaller_than)
        and (not when.content or not call.content.isdisjoint(when.content))
        and (when.hours is None or when.hours.holds(call.at))
    )


def asks_nothing(when: When) -> bool:
    """Whether `passes` holds for every call."""
    asked = when.tag or when.header or when.needs or when.content or when.hours
    return not asked and when.larger_than is None and when.smaller_than is None


def _any_fits(value: str, pattern: str) -> bool:
    """A header that was sent twice has its values with commas between them: any of them counts, and the whole."""
    if _fits(value, pattern):
        return True
    return "," in value and any(_fits(one.strip(), pattern) for one in value.split(","))


def _fits(text: str, pattern: str) -> bool:
    """`*` and `?` stand for anything; brackets for themselves."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def unmet(wish: Wish, target: TargetFacts) -> str:
    """The first part of a wish that a target does not meet, in words; empty if it meets all."""
    if wish.trust is not None and not target.trust.within(wish.trust):
        return f"trust {wish.trust}, and this is {target.trust}"
    if wish.region and not _within(target.region, wish.region):
        return f"region {' or '.join(wish.region)}, and this is {target.region or 'unknown'}"
    if wish.upstream and target.upstream not in wish.upstream:
        return f"upstream {' or '.join(wish.upstream)}"
    if wish.node_label and target.labels.isdisjoint(wish.node_label):
        return f"label {' or '.join(wish.node_label)}"
    if wish.price is not None and (target.price is None or target.price.output > wish.price):
        return "a lower price" if target.price is not None else "a known price"
    if wish.latency is not None and target.latency is not None and target.latency > wish.latency:
        return f"first output within {wish.latency:g} s, and this took {target.latency:.2f} s"
    return ""


def _within(region: str, regions: tuple[str, ...]) -> bool:
    """Whatever the case: nobody checks that a rule and an upstream spell it alike."""
    return region in regions or region.lower() in (one.lower() for one in regions)


def _any(wish: Wish, target: TargetFacts) -> bool:
    """A prohibition is met by any of its parts: to forbid a region and an upstream forbids both."""
    return (
        (wish.trust is not None and target.trust is wish.trust)
        or _within(target.region, wish.region)
        or target.upstream in wish.upstream
        or not target.labels.isdisjoint(wish.node_label)
        or (wish.price is not None and (target.price is None or target.price.output > wish.price))
        or (wish.latency is not None and target.latency is not None and target.latency > wish.latency)
    )


def _words(wish: Wish) -> str:
    parts = [f"trust {wish.trust}"] if wish.trust is not None else []
    for name, values in (("region", wish.region), ("upstream", wish.upstream), ("label", wish.node_label)):
        if values:
            parts.append(f"{name} {' or '.join(values)}")
    if wish.price is not None:
        parts.append(f"a price of {wish.price / 1e6:g} per million output tokens")
    if wish.latency is not None:
        parts.append(f"first output within {wish.latency:g} s")
    return " and ".join(parts)
