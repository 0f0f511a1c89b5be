"""Whole requests on routes that keep answers: who buys, who is given, who waits, and what is kept."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from intertie.core.errors import UpstreamReset
from intertie.core.keeping import CachePolicy, CacheScope
from intertie.core.ledger import State
from intertie.core.terms import Trust
from intertie.dataplane import cache, heartbeat
from tests.support.kept import (
    ASKED,
    BODY,
    COST,
    CUT,
    DONE,
    END,
    USAGE,
    WORD,
    Counter,
    asks,
    failing,
    streamed,
    turns,
    whole,
)
from tests.support.playbook import CALLER, STALL, Script

# -- hits ------------------------------------------------------------------------------------------------------------


async def test_the_second_equal_call_is_given_what_the_first_one_bought() -> None:
    counter = Counter(whole())
    first = await counter.visit()
    counter.now += 30
    second = await counter.visit()

    assert (first.cache, second.cache, counter.bought) == ("miss", "hit", 1)
    assert second.reply.body == first.reply.body == BODY
    assert second.reply.headers["age"] == "30"
    assert second.reply.headers["x-intertie-target"] == "name-up0/inner"
    assert second.reply.headers["x-intertie-cost"] == "0.000000"
    assert second.reply.headers["x-intertie-saved"] == "0.000008"
    assert second.reply.headers["x-intertie-attempts"] == "0"
    assert second.reply.headers["x-request-id"] != first.reply.headers["x-request-id"]
    assert second.reply.headers["x-intertie-cache-key"] == first.reply.headers["x-intertie-cache-key"]


async def test_the_books_know_hits_and_what_they_saved() -> None:
    counter = Counter(whole())
    await counter.visit()
    await counter.visit()
    bought, given = counter.play.ledger.settlements

    assert (bought.cache, bought.saved, len(bought.attempts)) == ("miss", None, 1)
    assert (given.cache, given.saved, given.attempts, given.state) == ("hit", COST, (), State.OK)
    (tally,) = counter.play.dataplane.counters.tallies.values()
    assert (dict(tally.answers), tally.saved, tally.cost) == ({"miss": 1, "hit": 1}, COST, COST)


@pytest.mark.parametrize("bought_streamed", [False, True])
async def test_either_form_is_given_from_either(bought_streamed: bool) -> None:
    counter = Counter(streamed() if bought_streamed else whole())
    await counter.visit(stream=bought_streamed)
    streaming = await counter.visit(stream=True)
    counting = await counter.visit(stream=True, **ASKED)
    plain = await counter.visit()

    assert counter.bought == 1
    assert {one.cache for one in (streaming, counting, plain)} == {"hit"}
    assert plain.reply.json == json.loads(BODY)
    for one in (streaming, counting):
        assert one.reply.body.endswith(DONE)
        assert b"hi there" in one.reply.body
        assert one.reply.headers["content-type"].startswith("text/event-stream")
    assert b'"usage"' not in streaming.reply.body
    assert counting.reply.body.count(b'"usage"') == 1


async def test_a_stream_is_given_event_by_event_as_it_was() -> None:
    counter = Counter(streamed())
    first = await counter.visit(stream=True, **ASKED)
    second = await counter.visit(stream=True, **ASKED)
    third = await counter.visit(stream=True)
    assert first.reply.body == second.reply.body == WORD + END + USAGE + DONE
    assert third.reply.body == WORD + END + DONE
    assert second.reply.settled_at_finish == 2


async def test_age_ttl_and_the_callers_wish() -> None:
    counter = Counter(whole(), whole(), whole(), whole(), cache=CachePolicy(ttl=100))
    await counter.visit()
    counter.now += 50
    assert (await counter.visit(headers=asks("max-age=60"))).cache == "hit"
    assert (await counter.visit(headers=asks("max-age=40"))).cache == "miss"
    counter.now += 99
    assert (await counter.visit()).cache == "hit"
    counter.now += 1
    assert (await counter.visit()).cache == "miss"


async def test_no_cache_buys_and_keeps_and_no_store_does_neither() -> None:
    counter = Counter(whole(), whole(), whole(BODY.replace(b"hi there", b"anew")), whole())
    await counter.visit()
    unkept = await counter.visit(headers=asks("no-store"))
    fresh = await counter.visit(headers=asks("no-cache"))
    after = await counter.visit()
    assert (unkept.cache, fresh.cache, after.cache, counter.bought) == ("bypass", "miss", "hit", 3)
    assert b"anew" in after.reply.body
    assert "x-intertie-cache-key" not in unkept.reply.headers


async def test_a_header_that_means_nothing_is_refused_on_any_route() -> None:
    counter = Counter(whole(), cache=None)
    refused = await counter.visit(headers=asks("sometimes"))
    assert (refused.reply.status, refused.code, counter.bought) == (400, "invalid_value", 0)


async def test_a_route_without_a_cache_keeps_nothing() -> None:
    counter = Counter(whole(), whole(), cache=None)
    await counter.visit()
    second = await counter.visit()
    assert (second.cache, counter.bought, counter.shelf.entries) == ("bypass", 2, {})
    assert counter.play.ledger.settlements[1].cache == ""


@pytest.mark.parametrize("more", [{"store": True}, {"metadata": {"a": 1}, "store": True}])
async def test_calls_that_the_vendor_is_to_file_are_always_sent(more: dict[str, object]) -> None:
    counter = Counter(whole(), whole())
    await counter.visit(**more)
    assert (await counter.visit(**more)).cache == "bypass"
    assert counter.bought == 2


# -- who shares ------------------------------------------------------------------------------------------------------


async def test_t45_keys_of_two_organisations_never_meet() -> None:
    counter = Counter(whole(), whole())
    counter.admit("other", replace(CALLER, organisation="org2", key_id="key_2"))
    await counter.visit()
    assert (await counter.visit(key="other")).cache == "miss"
    assert counter.bought == 2


async def test_projects_share_unless_the_route_says_otherwise() -> None:
    counter = Counter(whole(), whole(), whole())
    counter.admit("other", replace(CALLER, project="second", key_id="key_2"))
    await counter.visit()
    assert (await counter.visit(key="other")).cache == "hit"
    counter.put_route(CachePolicy(scope=CacheScope.PROJECT))
    assert (await counter.visit()).cache == "miss"
    assert (await counter.visit(key="other")).cache == "miss"


async def test_an_answer_bought_under_a_wide_ceiling_is_not_given_under_a_narrow_one() -> None:
    counter = Counter(whole())
    await counter.visit()
    narrow = await counter.visit(headers={"x-intertie-trust": "own"})
    assert (narrow.reply.status, narrow.cache) == (503, "miss")


async def test_a_target_that_became_less_trusted_makes_its_answers_strangers() -> None:
    counter = Counter(whole(), whole())
    await counter.visit()
    current = counter.play.current
    changed = replace(current.upstreams["up0"], trust=Trust.COMMUNITY)
    counter.play.current = replace(current, revision=9, upstreams={"up0": changed})
    assert (await counter.visit()).cache == "miss"


# -- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        streamed(WORD, CUT, USAGE, DONE),
        streamed(WORD, END.replace(b"stop", b"content_filter"), DONE),
        streamed(WORD, DONE),
        streamed(WORD, UpstreamReset("reset")),
        streamed(WORD, END),
        streamed(WORD, b'data: {"error":{"message":"x"}}\n\n', DONE),
        streamed(b"data: {oops\n\n"),
        failing(400),
    ],
)
async def test_t47_what_is_not_complete_is_never_kept(script: Script) -> None:
    counter = Counter(script)
    await counter.visit(stream=True)
    assert counter.shelf.entries == {}


@pytest.mark.parametrize(
    "body",
    [
        BODY.replace(b'"stop"', b'"length"'),
        BODY.replace(b'"stop"', b'"content_filter"'),
        BODY.replace(b'"stop"', b"null"),
        BODY.replace(b"hi there", b"x" * cache.MAX_KEPT),
    ],
)
async def test_nor_is_a_whole_answer_that_was_cut_filtered_or_is_too_large(body: bytes) -> None:
    counter = Counter(whole(body))
    visit = await counter.visit()
    assert (visit.reply.status, counter.shelf.entries) == (200, {})


async def test_an_answer_that_was_cleared_while_it_was_made_is_not_kept() -> None:
    counter = Counter(streamed(WORD, END, USAGE, DONE))
    visit = counter.enter(stream=True)
    await visit.reply.heard.wait()
    counter.shelf.clearings += 1
    assert visit.task is not None
    await visit.task
    await counter.answers.settled()
    assert counter.shelf.entries == {}


# -- coalescing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_fifty_equal_calls_at_once_are_bought_once(stream: bool) -> None:
    counter = Counter(streamed() if stream else whole())
    visits = [counter.enter(stream=stream), *(counter.enter(stream=bool(n % 2)) for n in range(49))]
    await asyncio.gather(*(visit.task for visit in visits if visit.task is not None))

    assert counter.bought == 1
    assert [visit.cache for visit in visits].count("coalesced") == 49
    assert all(b"hi there" in visit.reply.body for visit in visits)
    assert {one.saved for one in counter.play.ledger.settlements if one.cache == "coalesced"} == {COST}


async def test_when_the_leader_leaves_the_next_one_takes_over() -> None:
    counter = Counter(streamed(WORD, STALL), streamed())
    leader = counter.enter(stream=True)
    await leader.reply.heard.wait()
    followers = [counter.enter(stream=True) for _ in range(3)]
    await turns()
    assert counter.bought == 1
    leader.leave()
    await asyncio.gather(*(visit.task for visit in followers if visit.task is not None))

    assert counter.bought == 2
    assert [visit.cache for visit in followers] == ["miss", "coalesced", "coalesced"]
    assert all(visit.reply.body == WORD + END + DONE for visit in followers)
    assert leader.x.state is State.CANCELLED


async def test_a_follower_may_leave_without_harm() -> None:
    counter = Counter(streamed(WORD, END, USAGE, DONE))
    leader = counter.enter(stream=True)
    follower = counter.enter(stream=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    follower.leave()
    await asyncio.gather(*(visit.task for visit in (leader, follower) if visit.task is not None))
    assert leader.reply.body.endswith(DONE)
    assert len(counter.play.ledger.settlements) == 2


async def test_a_followers_deadline_holds() -> None:
    counter = Counter(streamed(WORD, STALL))
    leader = counter.enter(stream=True)
    await leader.reply.heard.wait()
    late = await counter.visit(headers={"x-intertie-deadline-ms": "20"})
    assert (late.reply.status, late.code) == (504, "deadline_exceeded")
    leader.leave()
    assert leader.task is not None
    await leader.task


async def test_when_two_leaders_fail_everyone_asks_for_himself() -> None:
    counter = Counter(*(failing(400) for _ in range(6)))
    visits = [counter.enter() for _ in range(6)]
    await asyncio.gather(*(visit.task for visit in visits if visit.task is not None))
    assert {visit.reply.status for visit in visits} == {400}
    assert counter.bought == 6
    assert len(counter.answers.flights) == 0


async def test_an_answer_that_may_not_be_kept_is_nobody_elses() -> None:
    cut = BODY.replace(b'"stop"', b'"length"')
    counter = Counter(whole(cut), whole(cut), whole(cut))
    visits = [counter.enter() for _ in range(3)]
    await asyncio.gather(*(visit.task for visit in visits if visit.task is not None))
    assert counter.bought == 3


async def test_s1_a_follower_that_waits_for_a_stream_gets_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.005)
    monkeypatch.setattr(heartbeat, "KEEP_ALIVE_SECONDS", 0.01)
    counter = Counter(streamed(WORD, STALL), streamed())
    leader = counter.enter(stream=True)
    await leader.reply.heard.wait()
    follower = counter.enter(stream=True)
    await follower.reply.heard.wait()
    leader.leave()
    assert follower.task is not None
    await follower.task
    await counter.answers.settled()
    assert follower.reply.body.replace(b": keep-alive\n\n", b"") == WORD + END + DONE
    (kept,) = counter.shelf.entries.values()
    assert b"keep-alive" not in kept.body


async def test_a_body_that_is_not_utf8_is_the_callers_mistake_and_not_the_gateways() -> None:
    """Also where it has to be read in full, to find out whether it was asked before."""
    counter = Counter(whole())
    visit = counter.enter()
    visit.x.body = visit.x.body.replace(b"hello", b"hell\xff")
    assert visit.task is not None
    await visit.task
    assert (visit.reply.status, visit.code) == (400, "invalid_json")


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "key-1"}])
async def test_who_waited_for_an_answer_and_left_was_given_none(headers: dict[str, str]) -> None:
    """It counts towards no quota of requests, and usage shows no hit."""
    counter = Counter(streamed(WORD, STALL))
    leading = counter.enter(stream=True, headers=headers)
    await leading.reply.heard.wait()
    waiting = counter.enter(stream=True, headers=headers)
    late = counter.enter(stream=True, headers={**headers, "x-intertie-deadline-ms": "5"})
    await turns()
    waiting.leave()
    for visit in (waiting, late):
        assert visit.task is not None
        await visit.task
    leading.leave()
    assert leading.task is not None
    await leading.task

    ends = [visit.x.account for visit in (waiting, late) if visit.x.account is not None]
    assert [(end.cache, end.status) for end in ends] == [("miss", 499), ("miss", 504)]
