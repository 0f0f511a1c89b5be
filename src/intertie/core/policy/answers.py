"""Answers that are kept to be given again: what they are, who may share one, and what a caller may ask for."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

import msgspec

from intertie.core.errors import BadCall
from intertie.core.keeping import CachePolicy, CacheScope
from intertie.core.terms import Call, Caller, Route, Snapshot
from intertie.core.wire.canonical import fingerprint
from intertie.core.wire.question import Question

CONTROL: Final = b"x-intertie-cache-control"
"""The request header by which a caller says what may be kept or given again."""

IDEMPOTENCY_KEY: Final = b"idempotency-key"

MAX_KEY: Final = 255
"""Visible characters of an idempotency key."""

_LONGEST_AGE: Final = 9
"""Digits of a `max-age`."""


class Form(StrEnum):
    """What the bytes of a kept answer are."""

    EVENTS = "events"
    """A stream's events, without its usage event and terminal marker."""
    WHOLE = "whole"
    LOST = "lost"
    """It was given, and too large to keep."""


class Space(StrEnum):
    """Kept answers that never meet."""

    CACHE = "cache"
    IDEMPOTENCY = "idempotency"


GIVEN: Final = ("hit", "coalesced", "similar")
"""What the cache says of requests that were answered without an attempt."""


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer as it was given, and what is told about it when it is given again. Times are UTC seconds."""

    space: Space
    form: Form
    body: bytes
    usage: bytes
    """Data of the usage event of a stream; empty if the upstream did not count."""
    organisation: str
    route: str
    upstream: str
    model: str
    node: bool
    cost: int | None
    """Micro-units that it cost; `None` is unknown."""
    made_at: float
    expires_at: float
    digest: bytes = b""
    """Of the body that an idempotency key came with."""
    request: str = ""
    """Id of the request that bought it."""
    similarity: float = 0.0
    """Of the question it answered to the one it is given to; 0: the same call. Nothing is kept for others with it."""

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.body) + len(self.usage) + _OVERHEAD


class Selection(msgspec.Struct, frozen=True):
    """Which kept answers are meant: all of an organisation in one space, or those that fit everything given."""

    organisation: str
    space: Space = Space.CACHE
    route: str | None = None
    prefix: str | None = None
    """How the route's name begins."""
    key: bytes | None = None

    def has(self, key: bytes, kept: Kept) -> bool:
        """True if this answer is meant."""
        return kept.space is self.space and self.fits(kept.organisation, kept.route) and self.key in (None, key)

    def fits(self, organisation: str, route: str) -> bool:
        """True if answers of this route are meant."""
        return organisation == self.organisation and self.route in (None, route) and route.startswith(self.prefix or "")


class CacheStatistics(msgspec.Struct, frozen=True):
    """What is kept. Sizes in bytes."""

    memory_entries: int = 0
    memory_bytes: int = 0
    memory_limit: int = 0
    disk_entries: int = 0
    disk_bytes: int = 0
    disk_limit: int = 0
    dropped: int = 0
    """Reads and writes that the disk was too busy for."""
    resets: int = 0
    """How often the file was damaged and begun again."""
    failure: str = ""
    """Why the disk could not be used last; empty if it could."""
    similar_entries: int = 0
    """Questions that similar ones are compared with."""
    similar_bytes: int = 0
    similar_failure: str = ""
    """Why the last question could not be compared; empty if it could."""


_OVERHEAD: Final = 512
"""Bytes that an entry takes besides its body, about."""


class Control(msgspec.Struct, frozen=True):
    """What a caller allows for one call."""

    read: bool = True
    """It may be answered by what was kept."""
    write: bool = True
    """Its answer may be kept."""
    max_age: int | None = None
    """Seconds; no older answer may be given."""
    similar: bool = True
    """The answer to a similar question will do, where the route allows it."""


ANY: Final = Control()


def control(value: bytes | None) -> Control:
    """The directives of the header: `no-store`, `no-cache`, `max-age=N`, `exact`. Raises `BadCall` for other words."""
    if value is None:
        return ANY
    read = write = similar = True
    max_age: int | None = None
    for word in value.lower().split(b","):
        name, equals, number = word.strip().partition(b"=")
        if name == b"no-store" and not equals:
            read = write = False
        elif name == b"no-cache" and not equals:
            read = False
        elif name == b"exact" and not equals:
            similar = False
        elif name == b"max-age" and number.isdigit() and len(number) <= _LONGEST_AGE:
            max_age = int(number) if max_age is None else min(max_age, int(number))
        else:
            raise BadCall(
                "'x-intertie-cache-control' must be 'no-store', 'no-cache', 'exact' or 'max-age=SECONDS'.",
                param="x-intertie-cache-control",
                code="invalid_value",
            )
    return Control(read, write, max_age, similar)


def may_give(kept: Kept, policy: CachePolicy, asked: Control, now: float) -> bool:
    """True if this answer is young enough for the route and the caller, and what it answered near enough to the call.

    A clock that was set back makes it young.
    """
    if kept.similarity and not (asked.similar and policy.similar and kept.similarity >= policy.similar.threshold):
        return False
    age = max(0.0, now - kept.made_at)
    return now < kept.expires_at and age < policy.ttl and (asked.max_age is None or age <= asked.max_age)


def placing(route: Route, snapshot: Snapshot) -> str:
    """Digest of who may answer this route and as what. An answer is not given again once any of it has changed."""
    digest = hashlib.sha256()
    for target in route.targets:
        upstream = snapshot.upstreams.get(target.upstream)
        if upstream is not None and upstream.enabled:
            node = snapshot.nodes.get((upstream.organisation, upstream.name))
            labels = sorted(node.labels) if node is not None and node.id == upstream.id else ()
            facts = (upstream.id, target.model, upstream.provider, upstream.base_url, upstream.trust, upstream.region)
            facts += (*labels, "")
            digest.update(b"".join(len(raw).to_bytes(4) + raw for raw in (fact.encode() for fact in facts)))
    return digest.hexdigest()


def cache_key(call: Call, caller: Caller, route: Route, *, salt: str, restriction: str, placing: str) -> bytes:
    """What equal calls of those who may share an answer have in common. Raises `Ambiguous`.

    The trust ceiling and all that rules restrict are part of it: an answer that was made under looser rules is never
    given to a caller under stricter ones.
    """
    return fingerprint(call, (salt, Space.CACHE, *_sharing(caller, route), restriction, placing))


def similar_key(
    question: Question, caller: Caller, route: Route, *, salt: str, restriction: str, placing: tuple[str, str]
) -> bytes:
    """What questions have in common that may have one answer, if they are alike. Raises `Ambiguous`.

    All that equal calls have in common, but for the question's own text; and whom the call is for, should it say so.
    `placing` is of the route, and of whoever makes vectors: those of different models cannot be compared.
    """
    fields = question.frame.fields
    person = (bytes(fields.get(name, b"")).hex() for name in ("user", "safety_identifier"))
    return fingerprint(question.frame, (salt, "similar", *_sharing(caller, route), restriction, *placing, *person))


def _sharing(caller: Caller, route: Route) -> tuple[str, ...]:
    """Who may share an answer, whatever was asked."""
    assert route.cache is not None
    project = ("project", caller.project) if route.cache.scope is CacheScope.PROJECT else ("", "")
    return (caller.organisation, *project, route.model, caller.trust)


def idempotency_key(value: bytes, caller: Caller, path: tuple[str, str], salt: str) -> bytes:
    """Whose key this is, and on which path (operation, node). Raises `BadCall` if it is no key."""
    if not 0 < len(value) <= MAX_KEY or not all(0x21 <= byte <= 0x7E for byte in value):
        raise BadCall(
            f"'Idempotency-Key' must be 1 to {MAX_KEY} visible characters.",
            param="idempotency-key",
            code="invalid_value",
        )
    return _digest(salt, Space.IDEMPOTENCY, caller.organisation, caller.key_id, *path, value.decode("ascii"))


def body_digest(call: Call) -> bytes:
    """Equal for bodies with the same members, written the same."""
    digest = hashlib.sha256()
    for name in sorted(call.fields):
        for part in (name.encode(), bytes(call.fields[name])):
            digest.update(len(part).to_bytes(4) + part)
    return digest.digest()


def _digest(*parts: str) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4) + raw)
    return digest.digest()
