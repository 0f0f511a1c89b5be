"""F52, T62: an idempotency key is answered once, whatever becomes of its requests."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from intertie.core.policy.answers import Form, Space
from intertie.core.terms import Route, Snapshot, Target, Trust, Upstream, Usage
from intertie.dataplane import cache
from tests.support.kept import (
    BODY,
    COST,
    CUT,
    DONE,
    END,
    USAGE,
    WORD,
    Counter,
    failing,
    idem,
    streamed,
    turns,
    whole,
)
from tests.support.playbook import CALLER, STALL


@pytest.mark.parametrize("stream", [False, True])
async def test_a_retry_with_the_same_key_is_given_the_answer_without_any_cache(stream: bool) -> None:
    counter = Counter(streamed() if stream else whole(), cache=None)
    first = await counter.visit(stream=stream, headers=idem())
    second = await counter.visit(stream=stream, headers=idem())
    assert (first.reply.body, counter.bought) == (second.reply.body, 1)
    assert second.reply.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.reply.headers
    assert counter.play.ledger.settlements[1].saved == COST


async def test_the_answer_of_a_key_is_kept_before_its_client_has_the_end() -> None:
    counter = Counter(whole(), cache=None)
    visit = counter.enter(headers=idem())
    while not visit.reply.finished:
        await asyncio.sleep(0)
    (kept,) = counter.shelf.entries.values()
    assert (kept.space, kept.form) == (Space.IDEMPOTENCY, Form.WHOLE)


async def test_another_body_with_the_same_key_is_refused_while_it_runs_and_after() -> None:
    counter = Counter(streamed(WORD, STALL), cache=None)
    running = counter.enter(stream=True, headers=idem())
    await running.reply.heard.wait()
    other = await counter.visit(headers=idem())
    assert (other.reply.status, other.code, other.cache) == (422, "idempotency_key_reused", "")
    running.leave()
    assert running.task is not None
    await running.task

    counter = Counter(whole(), cache=None)
    await counter.visit(headers=idem())
    other = await counter.visit(headers=idem(), temperature=1)
    assert (other.reply.status, other.code, counter.bought) == (422, "idempotency_key_reused", 1)


async def test_f52_a_hundred_at_once_are_one_upstream_call() -> None:
    counter = Counter(whole(), cache=None)
    visits = [counter.enter(headers=idem()) for _ in range(100)]
    await asyncio.gather(*(visit.task for visit in visits if visit.task is not None))
    assert counter.bought == 1
    assert {visit.reply.body for visit in visits} == {BODY}


async def test_a_failed_call_is_not_kept_and_its_key_may_be_used_again() -> None:
    counter = Counter(failing(400), whole(), cache=None)
    assert (await counter.visit(headers=idem())).reply.status == 400
    assert (await counter.visit(headers=idem())).reply.status == 200
    assert counter.bought == 2


async def test_an_answer_that_was_cut_was_paid_for_all_the_same() -> None:
    counter = Counter(streamed(WORD, CUT, USAGE, DONE), cache=None)
    first = await counter.visit(stream=True, headers=idem())
    second = await counter.visit(stream=True, headers=idem())
    assert (first.reply.body, counter.bought) == (second.reply.body, 1)


async def test_a_key_is_good_for_a_day() -> None:
    counter = Counter(whole(), whole(), cache=None)
    await counter.visit(headers=idem())
    counter.now += cache.DAY - 1
    assert (await counter.visit(headers=idem())).reply.headers["idempotent-replayed"] == "true"
    counter.now += 1
    assert "idempotent-replayed" not in (await counter.visit(headers=idem())).reply.headers


async def test_t62_a_key_is_nothing_to_another_caller() -> None:
    counter = Counter(whole(), whole(), cache=None)
    counter.admit("other", replace(CALLER, key_id="key_2"))
    await counter.visit(headers=idem())
    assert "idempotent-replayed" not in (await counter.visit(headers=idem(), key="other")).reply.headers


async def test_an_answer_too_large_to_keep_is_not_bought_twice() -> None:
    counter = Counter(whole(BODY.replace(b"hi there", b"x" * cache.MAX_REPLAYED)), cache=None)
    assert (await counter.visit(headers=idem())).reply.status == 200
    again = await counter.visit(headers=idem())
    assert (again.reply.status, again.code, counter.bought) == (409, "idempotency_answer_lost", 1)
    assert again.reply.headers["x-should-retry"] == "false"


async def test_with_both_the_key_keeps_what_the_cache_gave() -> None:
    counter = Counter(whole())
    await counter.visit()
    assert (await counter.visit(headers=idem())).cache == "hit"
    counter.now += 7200
    again = await counter.visit(headers=idem())
    assert (again.reply.headers["idempotent-replayed"], counter.bought) == ("true", 1)


async def test_with_both_a_bought_answer_is_kept_for_both() -> None:
    counter = Counter(streamed())
    await counter.visit(stream=True, headers=idem())
    assert {kept.space for kept in counter.shelf.entries.values()} == {Space.CACHE, Space.IDEMPOTENCY}
    assert (await counter.visit()).cache == "hit"


async def test_when_the_first_of_a_key_leaves_the_second_buys_and_the_rest_wait() -> None:
    counter = Counter(streamed(WORD, STALL), streamed(), cache=None)
    first = counter.enter(stream=True, headers=idem())
    await first.reply.heard.wait()
    rest = [counter.enter(stream=True, headers=idem()) for _ in range(3)]
    await turns()
    first.leave()
    await asyncio.gather(*(visit.task for visit in rest if visit.task is not None))
    assert counter.bought == 2
    assert {visit.reply.body for visit in rest} == {WORD + END + DONE}


async def test_usage_of_what_was_given_again_is_nobodys() -> None:
    counter = Counter(whole(), cache=None)
    await counter.visit(headers=idem())
    await counter.visit(headers=idem())
    used = [attempt.usage for one in counter.play.ledger.settlements for attempt in one.attempts]
    assert used == [Usage(input=4, output=2)]


def test_a_change_behind_the_route_for_any_model_counts_for_each_of_its_models() -> None:
    """Its targets differ from model to model, and so does who may answer."""
    found: set[str] = set()
    for trust in (Trust.OWN, Trust.VENDOR):
        ups = {name: Upstream(name, "org", name, "openai", "https://x.test") for name in "ab"}
        snapshot = Snapshot(revision=len(found), upstreams={**ups, "b": replace(ups["b"], trust=trust)})
        answers = Counter(whole()).answers
        answers.placing(Route("org", "*", (Target("a", "first"),)), snapshot)
        found.add(answers.placing(Route("org", "*", (Target("b", "second"),)), snapshot))
    assert len(found) == 2


@pytest.mark.parametrize("before", [None, 50, 60])
async def test_a_key_is_for_the_body_as_it_came_whatever_budgets_make_of_it(before: int | None) -> None:
    """A bound that the gateway itself put into the call, and the operator changed since, is no other body."""
    counter = Counter(whole(), cache=None)
    counter.bound_output(before)
    await counter.visit(headers=idem())
    counter.bound_output(60 if before is None else before - 10)
    again = await counter.visit(headers=idem())

    assert (again.reply.status, counter.bought) == (200, 1)
    assert again.reply.headers["idempotent-replayed"] == "true"
