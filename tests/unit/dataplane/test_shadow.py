"""Copies of answered calls: what they never touch, what they cost, and when there are none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.errors import UpstreamReset, UpstreamUnreachable
from intertie.core.keeping import CachePolicy
from intertie.core.ledger import State
from intertie.core.policy.limits import Level
from intertie.core.routing.room import Room
from intertie.core.routing.rules import Rule, When, Wish
from intertie.core.terms import Route, Shadow, Target, Trust, Usage
from intertie.dataplane import shadow
from tests.support.copies import WORD, asked, mirrored, outcomes, streamed, whole
from tests.support.playbook import STALL, Script, total

ROOM = Room(open=True, free=2, slots=2)
PRIVATE = Rule("private-stays", When(tag=("private",)), require=Wish(trust=Trust.OWN))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_copy_is_sent_as_the_call_was_once_that_is_answered_and_booked_apart(stream: bool) -> None:
    """With its own id, state, tokens, cost and times; the client's request knows nothing of it."""
    play = mirrored([streamed() if stream else whole()], [streamed() if stream else whole("other")])
    reply = await play.run(stream=stream, temperature=0.5)

    assert reply.finished
    assert reply.settled_at_finish == 1
    assert not asked(play)
    await play.copied()
    assert b"other" not in reply.body
    assert asked(play) == asked(play, "up0")
    request, copy = play.ledger.settlements
    assert (request.request_id, request.shadow_of, len(request.attempts)) == ("req_1", "", 1)
    assert (copy.request_id, copy.shadow_of, copy.state, copy.status) == ("req_1.s1", "req_1", State.OK, 200)
    assert (copy.route, copy.project, copy.key_name, copy.stream) == ("m", "project", "dev", stream)
    (attempt,) = copy.attempts
    assert (attempt.upstream, attempt.usage, attempt.cost) == ("name-up1", Usage(4, 2), 8)
    assert (copy.ttft_ms is not None, attempt.ttft_ms is not None) == (stream, stream)
    assert [opening.shadow_of for opening in play.ledger.openings] == ["", "req_1"]
    assert reply.headers["x-intertie-attempts"] == "1"
    (tally,) = play.dataplane.counters.tallies.values()
    assert (tally.ok, tally.cost, tally.input) == (1, 8, 4)
    assert outcomes(play) == {"ok": 1}
    play.dataplane.log.flush()
    assert [json.loads(line)["event"] for line in play.log[0].splitlines()] == ["request", "shadow"]


async def test_each_shadow_target_gets_its_copy() -> None:
    """So that several can be compared on the same calls."""
    play = mirrored([whole()], [whole()], [whole()])
    await play.run()
    await play.copied()
    assert sorted(one.request_id for one in play.ledger.settlements) == ["req_1", "req_1.s1", "req_1.s2"]


async def test_the_share_is_a_part_of_the_answered_calls() -> None:
    """By chance, anew for each call."""
    play = mirrored([whole()] * 400, [whole()] * 400, share=0.25)
    for _ in range(400):
        await play.another()
        await play.copied()
    assert 60 < len(asked(play)) < 140


@pytest.mark.parametrize(
    ("answers", "fields"),
    [
        ([Script(b"{}", status=400, headers={"content-type": "application/json"})], {}),
        ([UpstreamUnreachable("refused"), UpstreamUnreachable("refused")], {}),
        ([whole()], {"store": True}),
        ([], {"model": "nobody"}),
    ],
    ids=["rejected", "failed", "to be stored", "unknown"],
)
async def test_what_was_not_answered_or_leaves_something_behind_is_not_copied(
    answers: list[Any], fields: dict[str, Any]
) -> None:
    """There is nothing to compare with, or doing it twice would show."""
    play = mirrored(answers, [whole()])
    await play.run(**fields)
    await play.copied()
    assert not asked(play)
    assert outcomes(play) == {}


async def test_a_client_that_left_is_not_copied() -> None:
    """It was not answered."""
    play = mirrored([streamed(WORD, STALL)], [streamed()])
    task = asyncio.create_task(play.run(stream=True))
    await play.reply.heard.wait()
    play.exchange.gone = True
    task.cancel()
    await task
    assert not play.shadows.running()


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamUnreachable("refused"),
        UpstreamReset("reset"),
        Script(b"{}", status=500, headers={"content-type": "application/json"}),
        Script(b"{}", status=401, headers={"content-type": "application/json"}),
        Script(b"<html>", headers={"content-type": "text/html"}),
    ],
    ids=["refused", "reset", "500", "401", "html"],
)
async def test_a_copy_that_fails_is_its_targets_affair_alone(fault: Any) -> None:
    """Asked once, nobody else after it, health knows, no retry budget is touched; the client had its answer."""
    play = mirrored([whole()], [fault, whole()])
    reply = await play.run()
    before = play.dataplane.budgets.tokens(("org", "m"), play.dataplane.monotonic())
    await play.copied()

    assert reply.status == 200
    assert len(asked(play)) == 1
    request, copy = play.ledger.settlements
    assert (request.state, copy.state, len(copy.attempts)) == (State.OK, State.FAILED, 1)
    assert copy.error == copy.attempts[0].error != ""
    assert play.dataplane.budgets.tokens(("org", "m"), play.dataplane.monotonic()) == pytest.approx(before, abs=0.1)
    assert play.dataplane.counters.attempts["name-up1", copy.error] == 1


async def test_a_copy_that_breaks_midway_is_interrupted() -> None:
    """And charged what came."""
    play = mirrored([streamed()], [streamed(WORD, UpstreamReset("reset"))])
    await play.run(stream=True)
    await play.copied()
    copy = play.ledger.settlements[1]
    assert (copy.state, copy.attempts[0].usage.output) == (State.INTERRUPTED, 1)


async def test_a_shadow_target_in_trouble_is_left_alone_like_any_other() -> None:
    """After three refusals in a row one copy a second is sent at most."""
    play = mirrored([whole()] * 20, [UpstreamUnreachable("refused")] * 20)
    for _ in range(20):
        await play.another()
        await play.copied()
    assert len(asked(play)) == 3
    assert outcomes(play) == {"upstream_unreachable": 3, "no_healthy_target": 17}


@pytest.mark.parametrize("how", ["rule", "key", "header", "newest rule"])
async def test_privacy_holds_for_copies(how: str) -> None:
    """A vendor is not sent a copy of a call that own machines must answer; also if the rule came while it ran."""
    play = mirrored([whole()], [whole()], rooms={"up0": ROOM})
    headers = {b"x-intertie-tags": b"private"} if "rule" in how else {}
    if how == "header":
        headers[b"x-intertie-trust"] = b"own"
    play.exchange.headers = {**play.exchange.headers, **headers}
    if how == "key":
        callers = {key: replace(one, trust=Trust.OWN) for key, one in play.current.callers.items()}
        play.current = replace(play.current, callers=callers)
    if how == "rule":
        play.current = replace(play.current, rules={"org": (PRIVATE,)})
    reply = await play.run()
    if how == "newest rule":
        play.current = replace(play.current, rules={"org": (PRIVATE,)})
    await play.copied()

    assert reply.status == 200
    assert not asked(play)
    assert outcomes(play) == {"no_eligible_target": 1}
    assert len(play.ledger.settlements) == 1


async def test_a_copy_obeys_the_newest_configuration() -> None:
    """A key that was revoked meanwhile is copied no more, nor is what the route no longer copies."""
    for change, outcome in (("key", "invalid_api_key"), ("shadow", "withdrawn")):
        play = mirrored([whole()], [whole()])
        await play.run()
        if change == "key":
            play.current = replace(play.current, callers={})
        else:
            play.amend(shadow=None)
        await play.copied()
        assert (asked(play), outcomes(play)) == ([], {outcome: 1})


async def test_a_copy_takes_no_slot_that_a_caller_could_have() -> None:
    """A node that is away or full is not asked, nor one with its last of several slots; it waits for no turn."""
    away, only = replace(ROOM, open=False), replace(ROOM, free=1, slots=1)
    cases = ((away, "no_healthy_target"), (replace(ROOM, free=0), "node_busy"), (replace(ROOM, free=1), "node_busy"))
    for room, outcome in (*cases, (only, "ok")):
        play = mirrored([whole()], [whole()], rooms={"up1": room})
        await play.run()
        await play.copied()
        assert (len(asked(play)), outcomes(play)) == (int(room is only), {outcome: 1})


# -- bounds ----------------------------------------------------------------------------------------------------------


async def test_copies_are_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond is counted and forgotten; none waits for its turn."""
    for name in ("MOST", "MOST_EACH"):
        play = mirrored([whole()] * 3, [whole("hi", STALL)] * 3)
        with monkeypatch.context() as patch:
            patch.setattr(shadow, name, 2)
            for _ in range(3):
                await play.another()
        assert len(play.shadows.running()) == 2
        assert outcomes(play) == {"dropped": 1}
        await play.shadows.close()

    play = mirrored([whole()] * 2, [whole("hi", STALL)])
    monkeypatch.setattr(shadow, "MOST_BYTES", 100)
    await play.run()
    await play.another()
    assert outcomes(play) == {"dropped": 1}
    await play.shadows.close()


async def test_one_target_that_hangs_does_not_keep_others_from_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own bound."""
    play = mirrored([whole()] * 3, [whole("hi", STALL)], [whole()] * 3)
    monkeypatch.setattr(shadow, "MOST_EACH", 1)
    for _ in range(3):
        await play.another()
        while len(play.shadows.running()) > 1:
            await asyncio.sleep(0)
    assert (len(asked(play)), len(asked(play, "up2"))) == (1, 3)
    await play.shadows.close()


@pytest.mark.parametrize(("draining", "outcome"), [(False, "overloaded"), (True, "server_shutdown")])
async def test_under_load_and_while_draining_nothing_is_copied(draining: bool, outcome: str) -> None:
    """Callers come first."""
    play = mirrored([whole()], [whole()])
    await play.run()
    play.dataplane.shedder.draining = draining
    play.dataplane.shedder._reason = "loop lags"
    await play.copied()
    assert (asked(play), outcomes(play)) == ([], {outcome: 1})


async def test_a_copy_that_runs_at_the_end_is_cancelled_and_booked() -> None:
    """What it had so far is charged; nothing is left open."""
    play = mirrored([streamed()], [streamed(WORD, STALL)])
    play.limit(limit := total(Level.ORGANISATION, "org"))
    await play.run(stream=True)
    while not play.transports["up1"].open_now:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await play.shadows.close()

    _, copy = play.ledger.settlements
    assert (copy.state, copy.error, copy.attempts[0].usage.output) == (State.INTERRUPTED, "server_shutdown", 1)
    assert play.transports["up1"].open_now == 0
    assert play.standing(limit)[1] == 0
    await play.shadows.close()
    play.dataplane.mirror(play.exchange)
    assert not play.shadows.running()


async def test_nothing_else_learns_from_a_copy() -> None:
    """No conversation moves to the shadow target, no answer of it is kept or given, no usual length changes."""
    play = mirrored([whole(), whole()], [whole("other"), whole("other")])
    play.amend(sticky=True, cache=CachePolicy())
    await play.run()
    await play.copied()
    traffic = play.dataplane.traffic
    assert play.exchange.docket is not None
    assert play.exchange.docket.conversation is not None
    held = traffic.holder(play.exchange.docket.conversation, play.dataplane.monotonic())
    assert held is not None
    assert held.key == ("up0", "inner")
    assert len(traffic._outputs["org", "m"]) == 1


async def test_a_fault_of_our_own_is_logged_and_booked() -> None:
    """Nobody awaits a copy, so the log must have it."""
    play = mirrored([whole()], [ZeroDivisionError("x")])
    await play.run()
    await play.copied()
    await asyncio.sleep(0)
    play.dataplane.log.flush()
    assert play.ledger.settlements[1].error == "internal_error"
    assert b'"event":"bug"' in b"".join(play.log)


async def test_a_route_that_passes_any_model_copies_any_or_one() -> None:
    """`*` as a shadow target's model is the one that was asked for."""
    for model, sent in (("*", "inner"), ("inner", "inner")):
        play = mirrored([whole()], [whole()])
        targets = (Target("up0", "*"),)
        route = Route("org", "*", targets, shadow=Shadow((Target("up1", model),), 1.0))
        play.current = replace(play.current, routes={("org", "*"): route})
        await play.run(model="inner")
        await play.copied()
        assert [body["model"] for body in asked(play)] == [sent]
        assert play.ledger.settlements[1].route == "*"
