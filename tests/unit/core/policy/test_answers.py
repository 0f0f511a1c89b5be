"""T45, T62: who may be given a kept answer, and what a caller may say about it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.errors import BadCall
from intertie.core.policy.answers import (
    ANY,
    Control,
    Form,
    Kept,
    Selection,
    Space,
    body_digest,
    cache_key,
    control,
    idempotency_key,
    may_give,
    placing,
)
from intertie.core.terms import (
    CachePolicy,
    CacheScope,
    Caller,
    Node,
    Operation,
    Route,
    Snapshot,
    Target,
    Trust,
    Upstream,
)
from intertie.core.wire.envelope import peek

CALLER = Caller("org", "web", "key_1", "dev")
ROUTE = Route("org", "m", (Target("up", "inner"),), cache=CachePolicy())
UPSTREAM = Upstream("up", "org", "acme", "openai_compatible", "https://a.test/v1")
KEPT = Kept(Space.CACHE, Form.WHOLE, b"{}", b"", "org", "m", "acme", "inner", False, 7, 1000.0, 2000.0)


def key(caller: Caller = CALLER, route: Route = ROUTE, restriction: str = "", where: str = "p", **fields: Any) -> bytes:
    body = json.dumps({"model": "m", "messages": [], **fields}).encode()
    call = peek(body, Operation.CHAT, "r")
    return cache_key(call, caller, route, salt="s", restriction=restriction, placing=where)


def test_t45_an_organisation_never_meets_another() -> None:
    assert key() != key(replace(CALLER, organisation="other"))


def test_keys_of_an_organisation_share_unless_the_route_says_project() -> None:
    other = replace(CALLER, project="mobile", key_id="key_2", key_name="ops")
    own = replace(ROUTE, cache=CachePolicy(scope=CacheScope.PROJECT))
    assert key() == key(other)
    assert key(route=own) != key(other, own)
    assert key(route=own) == key(replace(CALLER, key_id="key_3"), own)


def test_a_project_never_passes_for_the_organisation() -> None:
    own = replace(ROUTE, cache=CachePolicy(scope=CacheScope.PROJECT))
    assert len({key(replace(CALLER, project=name), own) for name in ("", "web", "project")} | {key()}) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key(), key(replace(CALLER, trust=Trust.OWN))),
        (key(), key(restriction="own")),
        (key(), key(where="q")),
        (key(), key(route=replace(ROUTE, model="m2"))),
        (key(restriction="a", where="b"), key(restriction="ab", where="")),
    ],
)
def test_whatever_restricts_the_placing_keeps_answers_apart(one: bytes, other: bytes) -> None:
    assert one != other


@pytest.mark.parametrize(
    "change", [{"trust": Trust.OWN}, {"region": "eu"}, {"base_url": "https://b.test"}, {"enabled": False}, {"id": "u2"}]
)
def test_another_target_behind_a_route_is_another_answer(change: dict[str, Any]) -> None:
    before = placing(ROUTE, Snapshot(upstreams={"up": UPSTREAM}))
    assert placing(ROUTE, Snapshot(upstreams={"up": replace(UPSTREAM, **change)})) != before
    assert placing(replace(ROUTE, targets=(Target("up", "other"),)), Snapshot(upstreams={"up": UPSTREAM})) != before


def test_a_nodes_labels_are_part_of_the_placing() -> None:
    """Rules ask for them: what a node said before it lost a label is no answer for calls that need it."""
    found = {
        placing(ROUTE, Snapshot(upstreams={"up": UPSTREAM}, nodes={("org", UPSTREAM.name): node}))
        for node in (
            Node("up", "org", UPSTREAM.name),
            Node("up", "org", UPSTREAM.name, frozenset({"gdpr"})),
            Node("up", "org", UPSTREAM.name, frozenset({"gdpr", "eu"})),
        )
    }
    assert len(found) == 3


def test_names_and_secrets_do_not_matter_to_the_placing() -> None:
    before = placing(ROUTE, Snapshot(upstreams={"up": UPSTREAM}))
    assert placing(ROUTE, Snapshot(upstreams={"up": replace(UPSTREAM, name="new", headers={"x": "y"})})) == before


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, ANY),
        (b"no-store", Control(read=False, write=False)),
        (b"No-Cache", Control(read=False)),
        (b"max-age=60", Control(max_age=60)),
        (b"max-age=60, max-age=30", Control(max_age=30)),
        (b"no-cache, no-store", Control(read=False, write=False)),
    ],
)
def test_what_a_caller_may_say(value: bytes | None, found: Control) -> None:
    assert control(value) == found


@pytest.mark.parametrize(
    "value",
    [b"", b"nocache", b"max-age", b"max-age=", b"max-age=-1", b"max-age=1.5", b"no-store=1", b"max-age=9999999999"],
)
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(BadCall, match="cache-control"):
        control(value)


@pytest.mark.parametrize(
    ("ttl", "asked", "now", "given"),
    [
        (500, ANY, 1000, True), (500, ANY, 1499, True), (500, ANY, 1500, False), (5000, ANY, 1999, True),
        (5000, ANY, 2000, False), (500, Control(max_age=10), 1010, True), (500, Control(max_age=10), 1011, False),
        (500, Control(max_age=0), 1000, True), (500, ANY, 900, True),
    ],
)  # fmt: skip
def test_how_long_an_answer_is_given(ttl: float, asked: Control, now: float, given: bool) -> None:
    assert may_give(KEPT, CachePolicy(ttl), asked, now) is given


def test_t62_an_idempotency_key_is_its_callers_own_and_of_one_path() -> None:
    base = idempotency_key(b"k", CALLER, ("chat", ""), "s")
    others = [
        idempotency_key(b"l", CALLER, ("chat", ""), "s"),
        idempotency_key(b"k", replace(CALLER, key_id="key_2"), ("chat", ""), "s"),
        idempotency_key(b"k", replace(CALLER, organisation="other"), ("chat", ""), "s"),
        idempotency_key(b"k", CALLER, ("embedding", ""), "s"),
        idempotency_key(b"k", CALLER, ("chat", "lab"), "s"),
        idempotency_key(b"k", CALLER, ("chat", ""), "t"),
    ]
    assert len({base, *others}) == 7


@pytest.mark.parametrize("value", [b"", b"x" * 256, b"a b", b"\xff", b"a\x00"])
def test_what_is_no_idempotency_key(value: bytes) -> None:
    with pytest.raises(BadCall, match="Idempotency-Key"):
        idempotency_key(value, CALLER, ("chat", ""), "s")


def test_bodies_are_the_same_if_every_member_is() -> None:
    def digest(text: bytes) -> bytes:
        return body_digest(peek(text, Operation.CHAT, "r"))

    assert digest(b'{"model":"m","n":1}') == digest(b'{ "n":1, "model":"m" }')
    assert digest(b'{"model":"m","n":1}') != digest(b'{"model":"m","n":1,"stream":true}')
    assert digest(b'{"model":"m","n":1}') != digest(b'{"model":"m","n":2}')


@pytest.mark.parametrize(
    ("which", "meant"),
    [
        (Selection("org"), True), (Selection("other"), False), (Selection("org", Space.IDEMPOTENCY), False),
        (Selection("org", route="m"), True), (Selection("org", route="mm"), False),
        (Selection("org", prefix="m"), True),
        (Selection("org", prefix="x"), False), (Selection("org", key=b"k"), True), (Selection("org", key=b"q"), False),
    ],
)  # fmt: skip
def test_which_answers_are_meant(which: Selection, meant: bool) -> None:
    assert which.has(b"k", KEPT) is meant


def test_an_entry_counts_for_more_than_its_text() -> None:
    assert KEPT.size > len(KEPT.body)
