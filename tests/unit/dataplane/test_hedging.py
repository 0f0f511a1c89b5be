"""Two targets of one call: who answers, who is cancelled, and who pays (S8)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from intertie.core.errors import LedgerUnavailable, UpstreamReset
from intertie.core.keeping import CachePolicy
from intertie.core.ledger import State
from intertie.core.policy.limits import Level, Measure
from intertie.core.routing.room import Room
from intertie.core.terms import Hedge, Usage
from intertie.dataplane.choosing import Chooser
from tests.support.playbook import LATER, STALL, Playbook, Script, total

BODY = b'{"model":"inner","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":4,"completion_tokens":2}}'
WORD = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
AT_ONCE = Hedge(after=0.0, share=1.0)
ROOM = Room(open=True, free=2, slots=2)


def whole(*before: str | Exception) -> Script:
    return Script(*before, BODY, headers={"content-type": "application/json"})


def streamed(*before: str | bytes) -> Script:
    return Script(*before, WORD, USAGE, DONE, headers={"content-type": "text/event-stream"})


def failing(status: int, *before: str) -> Script:
    return Script(*before, b'{"error":{"message":"no"}}', status=status, headers={"content-type": "application/json"})


def hedged(*upstreams: Sequence[Script | Exception], hedge: Hedge = AT_ONCE, **more: object) -> Playbook:
    play = Playbook(*upstreams, **more)  # type: ignore[arg-type]
    play.amend(hedge=hedge)
    return play


def ended(play: Playbook) -> list[tuple[int, State]]:
    """Number and state of each attempt."""
    return [(one.n, one.state) for one in play.settled.attempts]


@pytest.mark.parametrize("stream", [False, True])
async def test_s8_the_second_answers_and_the_first_is_cancelled_and_not_the_callers(stream: bool) -> None:
    """Both are in the books; the request costs what the winner cost."""
    play = hedged([streamed(STALL) if stream else whole(STALL)], [streamed() if stream else whole()])
    reply = await play.run(stream=stream)

    assert (reply.status, reply.body) == (200, WORD + DONE if stream else BODY)
    assert reply.headers["x-intertie-target"] == "name-up1/inner"
    assert reply.headers["x-intertie-attempts"] == "2"
    assert ended(play) == [(1, State.BEATEN), (2, State.OK)]
    beaten, won = play.settled.attempts
    assert beaten.usage == Usage(input=9, estimated=True)  # what a vendor bills of a cancelled call
    assert (beaten.cost, won.cost, play.exchange.cost) == (9, 8, 8)
    assert [one.hedge for one in play.ledger.openings] == [False, True]
    assert play.transports["up0"].open_now == 0
    assert play.dataplane.counters.hedges == {("m", "won"): 1}
    assert stream or reply.headers["x-intertie-cost"] == "0.000008"


@pytest.mark.parametrize("stream", [False, True])
async def test_s8_the_first_may_still_win(stream: bool) -> None:
    """Then the second is cancelled."""
    play = hedged([streamed(LATER) if stream else whole(LATER)], [streamed(STALL) if stream else whole(STALL)])
    reply = await play.run(stream=stream)

    assert reply.headers["x-intertie-target"] == "name-up0/inner"
    assert ended(play) == [(1, State.OK), (2, State.BEATEN)]
    assert play.transports["up1"].open_now == 0
    assert play.dataplane.counters.hedges == {("m", "lost"): 1}


async def test_s8_what_shows_something_in_time_is_not_hedged() -> None:
    """Nor does it leave anything behind."""
    play = hedged([streamed()], [streamed()], hedge=Hedge(after=5.0, share=1.0))
    await play.run(stream=True)

    assert ended(play) == [(1, State.OK)]
    assert not play.transports["up1"].requests
    assert play.exchange.race is None
    assert play.dataplane.counters.hedges == {}


async def test_s8_a_route_that_does_not_ask_for_it_has_none() -> None:
    """Off by default."""
    play = Playbook([whole(LATER)], [whole()])
    await play.run()
    assert len(play.settled.attempts) == 1


async def test_s8_nothing_is_hedged_beyond_the_share_or_the_retry_budget() -> None:
    """The request just waits."""
    for spend in (False, True):
        play = hedged([whole(LATER)], [whole()], hedge=Hedge(after=0.0, share=1.0 if spend else 0.5))
        budgets, group = play.dataplane.budgets, ("org", "m")
        if spend:
            budgets.begin(group, play.dataplane.monotonic())
            while budgets.extra(group, play.dataplane.monotonic(), cheap=False):
                budgets.extra_done(group)
        await play.run()
        assert (ended(play), len(play.transports["up1"].requests)) == ([(1, State.OK)], 0)


async def test_s8_before_the_request_is_sent_and_of_calls_that_leave_something_there_is_none() -> None:
    """Connecting has limits of its own, and what is to be stored must not be stored twice."""
    play = hedged([whole(LATER)], [whole()])
    await play.run(store=True)
    assert not play.transports["up1"].requests

    play = hedged([UpstreamReset("reset")], [whole()])
    play.ledger.durable = _later  # type: ignore[method-assign]
    await play.run()
    assert ended(play) == [(1, State.FAILED), (2, State.OK)]
    assert play.dataplane.counters.hedges == {}


async def _later() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_s8_the_second_is_at_another_address_in_health_and_with_room() -> None:
    """A full node, a target in trouble and another model of the same server are passed by."""
    play = hedged([whole(STALL)], [], [], [whole()], rooms={"up2": replace(ROOM, free=0)})
    same = replace(play.current.upstreams["up1"], base_url=play.current.upstreams["up0"].base_url)
    play.current = replace(play.current, upstreams={**play.current.upstreams, "up1": same})
    reply = await play.run()

    assert reply.headers["x-intertie-target"] == "name-up3/inner"
    assert [one.upstream for one in play.ledger.openings] == ["name-up0", "name-up3"]


async def test_s8_nodes_are_hedged_and_cancelled_like_others() -> None:
    """Closing the lane is what stops the machine."""
    play = hedged([streamed(STALL)], [streamed()], rooms={"up0": ROOM, "up1": ROOM})
    reply = await play.run(stream=True)
    assert reply.headers["x-intertie-node"] == "name-up1"
    assert [one.node for one in play.settled.attempts] == ["name-up0", "name-up1"]
    assert [transport.open_now for transport in play.transports.values()] == [0, 0]


@pytest.mark.parametrize("first", [True, False])
async def test_s8_if_one_of_the_two_fails_the_other_answers(first: bool) -> None:
    """Without another attempt."""
    broken, good = Script(LATER, UpstreamReset("reset")), whole(LATER, LATER, LATER)
    play = hedged(*(([broken], [good]) if first else ([good], [broken])))
    reply = await play.run()

    assert reply.status == 200
    assert {state for _, state in ended(play)} == {State.FAILED, State.OK}
    assert play.dataplane.counters.attempts == {
        (f"name-up{int(not first)}", "upstream_reset"): 1,
        (f"name-up{int(first)}", "ok"): 1,
    }


async def test_s8_a_second_that_comes_too_late_to_begin_sends_nothing_and_holds_nothing() -> None:
    """The first has output in the very turn of the event loop in which the second was chosen."""
    play = hedged([whole(LATER)], [whole()])
    play.limit(limit := total(Level.UPSTREAM, "name-up1"))
    chosen = Chooser.beside

    def beside(chooser: Chooser, *how: object) -> object:
        found = chosen(chooser, *how)  # type: ignore[arg-type]
        assert play.exchange.race is not None
        play.exchange.race.win(play.exchange.live[0])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chooser, "beside", beside)
        reply = await play.run()
    assert reply.headers["x-intertie-target"] == "name-up0/inner"
    assert (play.transports["up1"].requests, ended(play)) == ([], [(1, State.OK)])
    assert play.standing(limit) == (0, 0)
    assert len(play.ledger.openings) == 1


async def test_s8_if_both_fail_the_third_is_asked_and_none_is_hedged_again() -> None:
    """Three attempts in all."""
    play = hedged([failing(500, LATER)], [failing(500, LATER)], [whole(LATER)], [whole()])
    reply = await play.run()

    assert reply.status == 200
    assert ended(play) == [(1, State.FAILED), (2, State.FAILED), (3, State.OK)]
    assert not play.transports["up3"].requests
    assert play.dataplane.counters.hedges == {("m", "failed"): 1}


async def test_s8_a_rejection_of_the_call_is_the_answer_whoever_gives_it() -> None:
    """It would be the same from the other."""
    play = hedged([whole(STALL)], [failing(400)])
    reply = await play.run()

    assert reply.status == 400
    assert ended(play) == [(1, State.BEATEN), (2, State.FAILED)]


async def test_s8_books_that_fail_under_the_second_do_not_end_the_first() -> None:
    """The hedge is given up."""
    play = hedged([whole(LATER)], [whole()])
    note = play.ledger.open

    def full(record: object) -> None:
        if play.ledger.openings:
            raise LedgerUnavailable("the books cannot be written", retry_after=1)
        note(record)  # type: ignore[arg-type]

    play.ledger.open = full  # type: ignore[method-assign]
    reply = await play.run()
    assert reply.status == 200
    assert not play.transports["up1"].requests


@pytest.mark.parametrize("decided", [False, True])
async def test_s10_a_client_that_leaves_cancels_both_and_pays_for_one(decided: bool) -> None:
    """Before output for the first, after it for the one that answered."""
    play = hedged([streamed(STALL)], [streamed(STALL)])
    play.transports["up1"].scripts = [
        Script(*((WORD,) if decided else ()), STALL, headers={"content-type": "text/event-stream"})
    ]
    task = asyncio.create_task(play.run(stream=True))
    while len(play.ledger.openings) < 2 or (decided and not play.reply.body):
        await asyncio.sleep(0)
    await _later()
    play.exchange.gone = True
    task.cancel()
    await task

    assert play.settled.state is State.CANCELLED
    assert ended(play) == (
        [(1, State.BEATEN), (2, State.CANCELLED)] if decided else [(1, State.CANCELLED), (2, State.BEATEN)]
    )
    assert [transport.open_now for transport in play.transports.values()] == [0, 0]


async def test_s8_a_stream_that_breaks_after_it_won_is_broken() -> None:
    """The commit point is the winner's."""
    play = hedged(
        [streamed(STALL)], [Script(WORD, LATER, UpstreamReset("reset"), headers={"content-type": "text/event-stream"})]
    )
    reply = await play.run(stream=True)

    assert reply.body.startswith(WORD + b'data: {"error":{')
    assert ended(play) == [(1, State.BEATEN), (2, State.INTERRUPTED)]


async def test_s8_an_answer_is_kept_at_the_winners_cost() -> None:
    """Which is not the last that ended."""
    play = hedged([whole(LATER)], [whole(STALL)])
    play.amend(hedge=AT_ONCE, cache=CachePolicy())
    await play.run()
    assert play.exchange.cost == 8


async def test_s8_the_gateways_own_time_is_not_the_time_in_which_the_first_showed_nothing() -> None:
    """It is the first one's."""
    play = hedged([whole(STALL)], [whole()], hedge=Hedge(after=0.02, share=1.0))
    reply = await play.run()
    assert float(reply.headers["x-intertie-overhead-ms"]) < 15
    assert play.settled.overhead_ms < 15


async def test_s8_the_caller_pays_for_the_winner_and_the_operator_for_both() -> None:
    """Budgets of project, key and route count 8 micro-units; organisation, upstream and model what was really spent."""
    mine = [total(Level.PROJECT, "project"), total(Level.KEY, "key_1"), total(Level.ROUTE, "m")]
    tokens = total(Level.PROJECT, "project", measure=Measure.TOKENS)
    ours = [total(Level.ORGANISATION, "org"), total(Level.MODEL, "inner")]
    theirs = [total(Level.UPSTREAM, "name-up0"), total(Level.UPSTREAM, "name-up1")]
    play = hedged([whole(STALL)], [whole()])
    play.limit(*mine, tokens, *ours, *theirs)
    await play.run()

    assert [play.standing(limit) for limit in (*mine, tokens)] == [(8, 0)] * 3 + [(6, 0)]
    assert [play.standing(limit) for limit in ours] == [(17, 0)] * 2
    assert [play.standing(limit) for limit in theirs] == [(9, 0), (8, 0)]
    assert play.exchange.cost == 8
    assert sum(one.cost or 0 for one in play.settled.attempts) == 17


@pytest.mark.parametrize("level", [Level.PROJECT, Level.UPSTREAM])
async def test_s8_without_room_for_two_reservations_there_is_no_hedge(level: Level) -> None:
    """Both must fit at the most they can cost, though only one will be paid."""
    holder = {Level.PROJECT: "project", Level.UPSTREAM: "name-up1"}[level]
    most = 100 + 5 * 2  # a token per byte of the body at most, and what the call allows
    for amount, sent in ((2 * most - 1 if level is Level.PROJECT else most - 1, 0), (2 * most, 1)):
        play = hedged([whole(LATER)], [whole(STALL)])
        play.limit(limit := total(level, holder, amount))
        await play.run(max_tokens=5)
        assert len(play.transports["up1"].requests) == sent
        assert play.standing(limit)[1] == 0


async def test_s8_spent_plus_reserved_never_passes_the_cap_while_two_run() -> None:
    """Looked at while both are under way."""
    play = hedged([whole(STALL)], [whole(LATER)])
    play.limit(limit := total(Level.PROJECT, "project", 1000))
    task = asyncio.create_task(play.run(max_tokens=5))
    while len(play.ledger.openings) < 2:
        await asyncio.sleep(0)
    assert play.standing(limit) == (0, 220)
    await task
    assert play.standing(limit) == (8, 0)
