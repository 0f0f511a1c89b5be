"""Answers that are kept to be given again: what they are, who may share one, and what a caller may ask for."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

import msgspec

from intertie.core.errors import BadCall
from intertie.core.terms import CachePolicy, CacheScope, Call, Caller, Route, Snapshot
from intertie.core.wire.canonical import fingerprint

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
        return (
            kept.organisation == self.organisation
            and kept.space is self.space
            and self.route in (None, kept.route)
            and kept.route.startswith(self.prefix or "")
            and self.key in (None, key)
        )


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


ANY: Final = Control()


def control(value: bytes | None) -> Control:
    """The directives of the header: `no-store`, `no-cache`, `max-age=N`. Raises `BadCall` for anything else."""
    if value is None:
        return ANY
    read = write = True
    max_age: int | None = None
    for word in value.lower().split(b","):
        name, equals, number = word.strip().partition(b"=")
        if name == b"no-store" and not equals:
            read = write = False
        elif name == b"no-cache" and not equals:
            read = False
        elif name == b"max-age" and number.isdigit() and len(number) <= _LONGEST_AGE:
            max_age = int(number) if max_age is None else min(max_age, int(number))
        else:
            raise BadCall(
                "'x-intertie-cache-control' must be 'no-store', 'no-cache' or 'max-age=SECONDS'.",
                param="x-intertie-cache-control",
                code="invalid_value",
            )
    return Control(read, write, max_age)


def may_give(kept: Kept, policy: CachePolicy, asked: Control, now: float) -> bool:
    """True if this answer is young enough for the route and the caller. A clock that was set back makes it young."""
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
    assert route.cache is not None
    project = ("project", caller.project) if route.cache.scope is CacheScope.PROJECT else ("", "")
    shared = (salt, Space.CACHE, caller.organisation, *project, route.model, caller.trust, restriction, placing)
    return fingerprint(call, shared)


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
