"""Limits on the path of whole requests, over scripted upstreams."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from intertie.core.errors import UpstreamFailed
from intertie.core.policy.limits import AtCap, Level, Limit, Measure
from intertie.core.policy.windows import Per
from intertie.core.routing.room import Room
from tests.support.limited import ANSWER, COST, JSON, Bed, whole
from tests.support.limited import limited as _limit
from tests.support.limited import money as _budget
from tests.support.playbook import STALL, Script

# -- rates -----------------------------------------------------------------------------------------------------------


async def test_rates_are_told_to_the_unit_and_refuse_with_the_time_that_helps() -> None:
    """The third call of two per minute waits half a minute."""
    limit = _limit(Level.PROJECT, "project", Measure.REQUESTS, 2)
    bed = Bed([limit, _limit(Level.PROJECT, "project", Measure.TOKENS, 6000)], [whole()] * 2)
    bed.dataplane.monotonic = lambda: bed.now
    first, second, third = [await bed.ask() for _ in range(3)]

    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in (first, second, third)] == ["1", "0", "0"]
    assert first.headers["x-ratelimit-reset-requests"] == "30s"
    assert second.headers["x-ratelimit-reset-requests"] == "1m0s"
    assert first.headers["x-ratelimit-limit-tokens"] == "6000"
    assert (third.status, third.headers["retry-after"], third.headers["x-should-retry"]) == (429, "30", "true")
    assert third.json["error"]["code"] == "rate_limit_exceeded"
    assert bed.ledger.settlements[-1].attempts == ()


async def test_estimated_tokens_are_corrected_at_the_end() -> None:
    """What was taken by estimate is what the upstream counted in the end."""
    limit = _limit(Level.PROJECT, "project", Measure.TOKENS, 6000)
    bed = Bed([limit], [whole()])
    bed.dataplane.monotonic = lambda: bed.now
    await bed.ask(max_tokens=500)

    assert bed.state(limit) == (15, 0)


async def test_a_call_larger_than_its_rate_is_told_not_to_come_back() -> None:
    """No time will help it, so no time is named."""
    bed = Bed([_limit(Level.PROJECT, "project", Measure.TOKENS, 100)], [])
    reply = await bed.ask(max_tokens=500)

    assert (reply.status, reply.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in reply.headers


async def test_a_rate_that_is_overdrawn_for_minutes_is_not_to_be_retried() -> None:
    """Official clients wait no longer than a minute: told of more, they would come back after half a second."""
    usage = {"prompt_tokens": 10, "completion_tokens": 99_990, "total_tokens": 100_000}
    bed = Bed([_limit(Level.PROJECT, "project", Measure.TOKENS, 10_000)], [whole({**ANSWER, "usage": usage})])
    bed.dataplane.monotonic = lambda: bed.now
    await bed.ask()
    waits = []
    for seconds in (0.0, 480.0, 12.0):
        bed.now += seconds
        reply = await bed.ask()
        waits.append((int(reply.headers["retry-after"]), reply.headers["x-should-retry"]))

    assert waits == [(541, "false"), (61, "false"), (49, "true")]


async def test_a_failed_call_takes_its_tokens_but_not_its_request_back() -> None:
    """What never reached an upstream counts nowhere; what did counts as a request."""
    quota = _limit(Level.KEY, "key_1", Measure.REQUESTS, 10, Per.DAY)
    bed = Bed([quota], [UpstreamFailed("no")])
    await bed.ask()
    assert bed.state(quota) == (1, 0)

    await bed.ask(model="unknown")
    assert bed.state(quota) == (1, 0)


# -- quotas and budgets ----------------------------------------------------------------------------------------------


async def test_a_budget_is_charged_what_the_books_have() -> None:
    """Reserved at most, settled exactly, and the sum over entries agrees."""
    budget = _budget(1_000)
    bed = Bed([budget], [whole()] * 3)
    for _ in range(3):
        assert (await bed.ask()).status == 200

    assert bed.state(budget) == (3 * COST, 0)
    assert sum(one.cost or 0 for settled in bed.ledger.settlements for one in settled.attempts) == 3 * COST


async def test_a_spent_budget_refuses_before_anything_is_sent() -> None:
    """Not retried by clients, and nobody was asked."""
    budget = _budget(30)
    bed = Bed([budget], [whole()])
    reply = await bed.ask()

    assert (reply.status, reply.headers["x-should-retry"]) == (429, "false")
    assert reply.json["error"]["code"] == reply.json["error"]["type"] == "insufficient_quota"
    assert bed.asked == []
    assert bed.ledger.openings == []
    assert bed.state(budget) == (0, 0)


async def test_output_without_a_bound_gets_the_projects() -> None:
    """It is in the request that goes upstream."""
    bed = Bed([_budget(10_000)], [whole()], output=77)
    await bed.ask(max_tokens=None)

    assert bed.sent()[0]["max_tokens"] == 77


async def test_a_targets_quota_bounds_calls_as_long_as_it_is_there() -> None:
    """Known before a target is chosen, and by the newest configuration alone."""
    other = _limit(Level.UPSTREAM, "elsewhere", Measure.REQUESTS, 100)
    quota = _limit(Level.UPSTREAM, "name-up0", Measure.TOKENS, 100_000, Per.DAY)
    bed = Bed([other], [whole()] * 4, output=77)
    for limits in ([other], [other, quota], [other], [other, quota]):
        bed.put(*limits)
        await bed.ask(max_tokens=None)
    assert [sent.get("max_tokens") for sent in bed.sent()] == [None, 77, None, 77]


async def test_a_targets_quota_that_was_removed_bounds_nothing() -> None:
    """What was found out under another configuration is forgotten with it."""
    other = _limit(Level.UPSTREAM, "elsewhere", Measure.REQUESTS, 100)
    quota = _limit(Level.UPSTREAM, "name-up0", Measure.TOKENS, 100_000, Per.DAY)
    bed = Bed([other, quota], [whole()] * 2, output=77)
    await bed.ask(max_tokens=None)
    bed.put(other)
    await bed.ask(max_tokens=None)
    assert [sent.get("max_tokens") for sent in bed.sent()] == [77, None]


async def test_nothing_is_bound_without_a_budget() -> None:
    """A rate alone changes no call."""
    bed = Bed([_limit(Level.PROJECT, "project", Measure.TOKENS, 10_000)], [whole()], output=77)
    await bed.ask(max_tokens=None)

    assert "max_tokens" not in bed.sent()[0]


async def test_failed_attempts_give_their_reservation_back() -> None:
    """A failover pays only for the target that answered."""
    budget = _budget(1_000)
    bed = Bed([budget], [UpstreamFailed("no")], [whole()])
    assert (await bed.ask()).status == 200

    assert bed.state(budget) == (COST, 0)


async def test_a_client_that_leaves_leaves_nothing_reserved() -> None:
    """While its call runs the most is held; afterwards only what it is charged."""
    budget = _budget(1_000)
    bed = Bed([budget], [Script(STALL, headers=JSON)])
    task = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    spent, reserved = bed.state(budget)
    assert (spent, reserved > COST) == (0, True)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    charged = bed.settled.attempts[0].cost
    assert bed.state(budget) == (charged, 0)


async def test_what_is_held_for_others_may_come_back() -> None:
    """A budget that is full only of reservations says so, and that a retry may help."""
    bed = Bed([_budget(150)], [Script(STALL, headers=JSON)] * 2)
    running = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    reply = await bed.ask()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert reply.json["error"]["code"] == "quota_reserved"
    assert (reply.headers["x-should-retry"], reply.headers["retry-after"]) == ("true", "1")


async def test_at_the_cap_a_cheaper_target_answers_if_the_operator_wants_it() -> None:
    """The node costs nothing, so it always fits; a refusing budget refuses all the same."""
    rooms = {"up1": Room(open=True, slots=1)}
    lenient = Bed([_budget(30, at_cap=AtCap.CHEAPER)], [], [whole()], rooms=rooms)
    reply = await lenient.ask()
    assert (reply.status, reply.headers["x-intertie-node"]) == (200, "name-up1")

    strict = Bed([_budget(30)], [], [whole()], rooms=rooms)
    assert (await strict.ask()).json["error"]["code"] == "insufficient_quota"


async def test_a_target_at_its_limit_is_skipped_not_failed() -> None:
    """The next one answers; if there is none, the client is told that it is not its own limit."""
    limit = _budget(30, Level.UPSTREAM, "name-up0")
    bed = Bed([limit], [], [whole()])
    assert (await bed.ask()).headers["x-intertie-target"] == "name-up1/inner"

    alone = Bed([limit], [])
    reply = await alone.ask()
    assert (reply.status, reply.json["error"]["code"]) == (503, "targets_at_limit")


async def test_a_model_is_limited_wherever_it_is_served() -> None:
    """One slot for the model means one attempt at a time over all upstreams."""
    limit = _limit(Level.MODEL, "inner", Measure.CONCURRENCY, 1)
    bed = Bed([limit], [Script(STALL, headers=JSON)], [whole()])
    running = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    reply = await bed.ask()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert reply.json["error"]["code"] == "targets_at_limit"
    assert bed.state(limit) == (0, 0)


async def test_an_unknown_price_under_a_budget_is_not_taken_for_nothing() -> None:
    """The target is skipped, and the error names what the operator can do."""
    bed = Bed([_budget(1_000)], [], [whole()])
    rows = dict(bed.current.upstreams)
    rows["up0"] = msgspec.structs.replace(rows["up0"], models={})
    bed.current = msgspec.structs.replace(bed.current, upstreams=rows)
    assert (await bed.ask()).headers["x-intertie-target"] == "name-up1/inner"

    rows["up1"] = msgspec.structs.replace(rows["up1"], models={})
    bed.current = msgspec.structs.replace(bed.current, upstreams=rows)
    reply = await bed.ask()
    assert reply.json["error"]["code"] == "price_unknown"
    assert "`price`" in reply.json["error"]["message"]


async def test_an_endless_stream_is_cut_where_its_budget_is() -> None:
    """The client gets a whole answer with `length` and `[DONE]`; the books get what was let through."""
    piece = {"id": "c", "model": "inner", "choices": [{"index": 0, "delta": {"content": "w "}, "finish_reason": None}]}
    event = b"data: " + json.dumps(piece).encode() + b"\n\n"
    endless = Script(*[event] * 50, STALL, headers={"content-type": "text/event-stream"})
    budget = _budget(1_000)
    bed = Bed([budget], [endless])
    reply = await bed.ask(stream=True)

    assert reply.body.count(b'"content": "w "') == 5
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason":"length"' in reply.body
    attempt = bed.settled.attempts[0]
    assert (attempt.usage.output, attempt.usage.estimated) == (5, True)
    assert bed.state(budget) == (attempt.cost, 0)


async def test_a_whole_answer_past_its_bound_is_charged_in_full() -> None:
    """The upstream misbehaved, and the money is gone: hiding that would help nobody."""
    usage = {"prompt_tokens": 10, "completion_tokens": 900, "total_tokens": 910}
    budget = _budget(1_000)
    bed = Bed([budget], [whole({**ANSWER, "usage": usage})])
    await bed.ask(max_tokens=1)

    assert bed.state(budget) == (10 + 2 * 900, 0)


# -- waiting ---------------------------------------------------------------------------------------------------------


def _places(amount: int, wait: float) -> Limit:
    return _limit(Level.PROJECT, "project", Measure.CONCURRENCY, amount, wait=wait)


async def test_without_waiting_a_full_place_refuses_at_once() -> None:
    """With a second to come back."""
    bed = Bed([_places(1, 0.0)], [Script(STALL, headers=JSON)])
    running = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    reply = await bed.ask()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert (reply.status, reply.json["error"]["code"]) == (429, "concurrency_exceeded")


async def test_who_waits_is_served_when_a_place_is_free_and_urgent_ones_first() -> None:
    """A line of four times the places, then a refusal."""
    limit = _places(1, 60.0)
    bed = Bed([limit], [Script(STALL, headers=JSON), *[whole()] * 4])
    running = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    ended: list[str] = []

    async def wait(name: str, priority: bytes) -> None:
        reply = await bed.ask({b"x-intertie-priority": priority})
        assert reply.status == 200
        ended.append(name)

    waiting = [("batch", b"batch"), ("one", b"normal"), ("two", b"normal"), ("now", b"interactive")]
    tasks = [asyncio.create_task(wait(*each)) for each in waiting]
    await asyncio.sleep(0)
    assert (await bed.ask()).json["error"]["code"] == "concurrency_exceeded"
    running.cancel()
    await asyncio.gather(running, *tasks, return_exceptions=True)

    assert ended == ["now", "one", "two", "batch"]
    assert bed.state(limit) == (0, 0)
    assert bed.dataplane.gate._waiting.rooms == {}


async def test_waiting_ends_in_time_and_leaves_no_trace() -> None:
    """Refused after the limit's patience; a client that left before is out of the line."""
    limit = _places(1, 0.01)
    bed = Bed([limit], [Script(STALL, headers=JSON)])
    running = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    gone = asyncio.create_task(bed.ask())
    await asyncio.sleep(0)
    gone.cancel()
    late = await bed.ask()
    await asyncio.gather(gone, return_exceptions=True)

    assert late.json["error"]["code"] == "concurrency_exceeded"
    assert bed.dataplane.gate._waiting.rooms == {}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bed.state(limit) == (0, 0)


async def test_a_priority_that_is_none_is_refused() -> None:
    """Only where there is a line to wait in does it mean anything."""
    bed = Bed([_places(1, 5.0)], [Script(STALL, headers=JSON)])
    running = asyncio.create_task(bed.ask())
    while not bed.transports["up0"].open_now:
        await asyncio.sleep(0)
    reply = await bed.ask({b"x-intertie-priority": b"urgent"})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert reply.status == 400


# -- configuration that changes --------------------------------------------------------------------------------------


async def test_the_newest_limits_hold_for_every_call() -> None:
    """A limit that appears holds from the next call on; one that goes, goes."""
    budget = _budget(30)
    bed = Bed([], [whole()] * 2)
    assert (await bed.ask()).status == 200
    before = bed.current
    bed.current = msgspec.structs.replace(before, limits={("org", "project", "project"): (budget,)})
    assert (await bed.ask()).status == 429
    bed.current = before
    assert (await bed.ask()).status == 200


@pytest.mark.parametrize("percent", [50, 100])
async def test_thresholds_are_logged_and_told_once(percent: int) -> None:
    """To whoever the gateway was given."""
    budget = _budget(COST * 100 // percent * 10, thresholds=(percent,))
    bed = Bed([budget], [whole()] * 12)
    told: list[int] = []
    bed.dataplane.gate.told = lambda reached: told.append(reached.percent)
    for _ in range(12):
        await bed.ask(messages=[{"role": "user", "content": ""}], max_tokens=5)
    bed.dataplane.log.flush()

    # the last tenth of a small budget is never reached: no call fits into it
    assert told == ([percent] if percent == 50 else [])
    assert (b"limit_threshold" in b"".join(bed.log)) == bool(told)
