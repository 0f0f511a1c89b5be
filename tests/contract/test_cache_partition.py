"""T45: a million pairs of nearly equal calls. Two meet only if no model could tell them apart and both may share.

A family is one call and what becomes of it by a single change: to what a model sees, to how it is written, to what no
model sees, or to who asks and under which rules. Members of a family differ as little as two calls can.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from intertie.core.keeping import CachePolicy, CacheScope
from intertie.core.policy.answers import cache_key, placing
from intertie.core.terms import Caller, Operation, Route, Snapshot, Target, Trust, Upstream
from intertie.core.wire.envelope import peek

FAMILIES = 700
UPSTREAM = Upstream("up", "org", "acme", "openai_compatible", "https://a.test/v1")
WORDS = (
    *("hi", "Hi", "hi ", "h\u0131", "h", "i", "\u00e9", "e\u0301"),
    *("", "\U0001f30d", '"', "\\", "null", "1", "\u2028", "\x00"),
)


class Asked(NamedTuple):
    """A call, who asks, and all that decides where it may go."""

    body: dict[str, Any]
    caller: Caller
    route: Route
    restriction: str
    upstream: Upstream
    operation: Operation


def written(value: Any, rng: random.Random) -> str:
    """The value as JSON in one of its many spellings."""
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        members = (f"{written(name, rng)}{_space(rng)}:{_space(rng)}{written(value[name], rng)}" for name in names)
        return "{" + f",{_space(rng)}".join(members) + "}"
    if isinstance(value, list):
        return "[" + f"{_space(rng)},".join(written(one, rng) for one in value) + "]"
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def _space(rng: random.Random) -> str:
    return rng.choice(("", "", " ", "\n\t"))


def meaning(asked: Asked) -> str:
    """What a model sees and who may share it, worked out in another way than the code under test does."""
    unseen = {"stream", "stream_options", "user", "metadata", "store", "safety_identifier", "prompt_cache_key"}
    seen = {name: value for name, value in asked.body.items() if name not in unseen}
    policy = asked.route.cache
    assert policy is not None
    project = asked.caller.project if policy.scope is CacheScope.PROJECT else None
    up = asked.upstream
    return repr(
        (
            asked.operation.value, _typed(seen), asked.caller.organisation, project, asked.route.model,
            asked.caller.trust.value, asked.restriction, up.id, up.trust.value, up.region, up.base_url,
            [(target.upstream, target.model) for target in asked.route.targets],
        )
    )  # fmt: skip


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return "object", sorted((name, _typed(one)) for name, one in value.items())
    if isinstance(value, list):
        return "list", [_typed(one) for one in value]
    return type(value).__name__, repr(value)


def key(asked: Asked, rng: random.Random) -> bytes:
    """The key under test."""
    call = peek(written(asked.body, rng).encode(), asked.operation, "r")
    where = placing(asked.route, Snapshot(upstreams={"up": asked.upstream}))
    return cache_key(call, asked.caller, asked.route, salt="s", restriction=asked.restriction, placing=where)


def first(rng: random.Random) -> Asked:
    """The head of a family."""
    body: dict[str, Any] = {"model": rng.choice(("m", "gpt")), "messages": [_message(rng) for _ in range(1, 4)]}
    for name, make in _MEMBERS.items():
        if rng.random() < 0.3:
            body[name] = make(rng)
    scope = rng.choice(tuple(CacheScope))
    return Asked(
        body,
        Caller(rng.choice(("org", "org2")), rng.choice(("web", "app")), "key_1", "dev"),
        Route("org", body["model"], (Target("up", "inner"),), cache=CachePolicy(scope=scope)),
        rng.choice(("", "own")),
        UPSTREAM,
        Operation.CHAT,
    )


def family(asked: Asked, rng: random.Random) -> Iterator[Asked]:
    """The head and its relatives, each one change away."""
    yield from (asked, asked, asked)
    for name, make in _MEMBERS.items():
        yield asked._replace(body={**asked.body, name: make(rng)})
        yield asked._replace(body={member: one for member, one in asked.body.items() if member != name})
    for name, value in _UNSEEN.items():
        yield asked._replace(body={**asked.body, name: value})
    messages = asked.body["messages"]
    yield asked._replace(body={**asked.body, "messages": messages[::-1]})
    yield asked._replace(body={**asked.body, "messages": messages[:-1]})
    yield asked._replace(body={**asked.body, "messages": [*messages, messages[-1]]})
    for at, message in enumerate(messages):
        for change in ({"content": rng.choice(WORDS)}, {"role": "system"}, {"name": "x"}, {"content": [message]}):
            changed = [*messages[:at], {**message, **change}, *messages[at + 1 :]]
            yield asked._replace(body={**asked.body, "messages": changed})
    yield asked._replace(body={**asked.body, "model": "other"})
    caller, route, upstream = asked.caller, asked.route, asked.upstream
    for who in ({"organisation": "org3"}, {"organisation": "orgw", "project": "eb"}, {"project": "third"},
                {"key_id": "key_2", "key_name": "ops"}, {"trust": Trust.OWN}):  # fmt: skip
        yield asked._replace(caller=replace(caller, **who))
    yield asked._replace(route=replace(route, cache=CachePolicy(scope=rng.choice(tuple(CacheScope)))))
    yield asked._replace(route=replace(route, model="other"))
    yield asked._replace(route=replace(route, targets=(Target("up", "larger"),)))
    yield asked._replace(restriction=asked.restriction + "x")
    for where in ({"trust": Trust.OWN}, {"region": "eu"}, {"base_url": "https://b.test/v1"}):
        yield asked._replace(upstream=replace(upstream, **where))
    yield asked._replace(operation=Operation.COMPLETION)


def _message(rng: random.Random) -> dict[str, Any]:
    return {"role": rng.choice(("user", "assistant")), "content": rng.choice(WORDS) + rng.choice(WORDS)}


def _number(rng: random.Random) -> Any:
    return rng.choice((0, 1, 0.0, 1.0, True, False, None, 1e20, 10**20, 0.1, "1"))


_MEMBERS: dict[str, Callable[[random.Random], Any]] = {
    **dict.fromkeys(("temperature", "top_p", "seed", "max_tokens", "n", "logprobs", "presence_penalty"), _number),
    "stop": lambda rng: rng.choice(("x", ["x"], [], None, ["x", "y"], ["y", "x"])),
    "tools": lambda rng: rng.choice(([], [{"type": "function", "function": {"name": rng.choice(WORDS)}}])),
    "response_format": lambda rng: {"type": rng.choice(("text", "json_object"))},
    "x_vendor": lambda rng: rng.choice(({}, {"a": {"b": 1}}, {"a": {"b": 1.0}}, {"a": {"c": 1}}, [[]], [])),
    "reasoning_effort": lambda rng: rng.choice(("low", "high")),
}
_UNSEEN = {
    "stream": True, "stream_options": {"include_usage": True}, "user": "u", "metadata": {"a": "b"},
    "prompt_cache_key": "k", "safety_identifier": "s",
}  # fmt: skip


def test_t45_a_million_pairs_meet_exactly_where_they_may() -> None:
    rng = random.Random(45)
    pairs = hits = 0
    everywhere: dict[bytes, str] = {}
    for _ in range(FAMILIES):
        members = [(meaning(asked), key(asked, rng)) for asked in family(first(rng), rng)]
        pairs += len(members) * (len(members) - 1) // 2
        by_meaning: dict[str, set[bytes]] = defaultdict(set)
        for meant, found in members:
            by_meaning[meant].add(found)
            # One key, one meaning: over all families at once, so this is every pair there is.
            assert everywhere.setdefault(found, meant) == meant
        assert all(len(found) == 1 for found in by_meaning.values())
        hits += len(members) - len(by_meaning)
    assert pairs > 1_000_000
    assert hits > FAMILIES
