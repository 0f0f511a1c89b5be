"""Limits of a member hold over all keys that are theirs, and over nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per, window
from intertie.core.terms import Caller, Operation
from intertie.dataplane.adoption import Opened, adopt
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.pipeline import serve
from tests.support.limited import COST, JSON, Bed, whole
from tests.support.playbook import CALLER, KEY, STALL, RecordedReply, Script, hash_key

ANNA = "anna@example.com"
CAP = 125
"""Micro-units: room for two calls, each of which holds at most about 93 and costs 20, and not for a third."""
OTHER_KEY, STRANGER = "sk-it-other", "sk-it-stranger"


def _limit(measure: Measure, amount: int, per: Per | None = None) -> Limit:
    return Limit("org/" + limit_id(Level.MEMBER, ANNA, measure, per), Level.MEMBER, ANNA, measure, amount, per)


def _bed(limits: list[Limit], *scripts: Any) -> Bed:
    """Anna has a key in each of two projects; a third key is nobody's."""
    bed = Bed(limits, list(scripts), caller=msgspec.structs.replace(CALLER, member=ANNA))
    more = {
        hash_key(OTHER_KEY): Caller("org", "other", "key_2", "dev", member=ANNA),
        hash_key(STRANGER): Caller("org", "project", "key_3", "else"),
    }
    bed.current = msgspec.structs.replace(bed.current, callers={**bed.current.callers, **more})
    return bed


def _with(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


def _exchange(key: str) -> Exchange:
    body = b'{"model":"m","messages":[],"max_tokens":5}'
    x = Exchange(f"req_{key}", Operation.CHAT, _with(key), body)
    x.started_at = 1_800_000_000.0
    return x


async def test_one_budget_holds_over_the_keys_of_two_projects() -> None:
    """The third call does not fit any more, whichever key it comes with; the address is nobody's business."""
    budget = _limit(Measure.MONEY, CAP, Per.TOTAL)
    bed = _bed([budget], *[whole()] * 4)
    assert [(await bed.ask()).status, (await bed.ask(_with(OTHER_KEY))).status] == [200, 200]
    assert bed.state(budget) == (2 * COST, 0)

    refused = await bed.ask(_with(OTHER_KEY))
    assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")
    assert "the member this key belongs to" in refused.json["error"]["message"]
    assert ANNA not in str(refused.json)
    assert (await bed.ask(_with(STRANGER))).status == 200
    assert bed.state(budget) == (2 * COST, 0)


async def test_the_books_say_whose_a_request_was_and_the_log_does_not() -> None:
    """Opening and settlement alike; a key of nobody leaves nothing."""
    bed = _bed([], *[whole()] * 2)
    await bed.ask()
    await bed.ask(_with(STRANGER))
    bed.dataplane.log.flush()
    assert [record.member for record in bed.ledger.settlements] == [ANNA, ""]
    assert [record.member for record in bed.ledger.openings] == [ANNA, ""]
    assert ANNA.encode() not in b"".join(bed.log)


async def test_a_key_that_changes_hands_takes_from_its_new_owner() -> None:
    """With the next request; the same key is known by both."""
    budget = _limit(Measure.REQUESTS, 1, Per.TOTAL)
    bed = _bed([budget], *[whole()] * 2)
    assert (await bed.ask()).status == 200
    assert (await bed.ask()).status == 429
    owners = {**bed.current.callers, hash_key(KEY): CALLER}
    bed.current = msgspec.structs.replace(bed.current, callers=owners)
    assert (await bed.ask()).status == 200


async def test_a_limit_that_comes_while_a_call_of_theirs_runs_counts_it() -> None:
    """And not the one of nobody beside it."""
    bed = _bed([], *[Script(STALL, headers=JSON)] * 2)
    running = [_exchange(KEY), _exchange(STRANGER)]
    calls = [asyncio.create_task(serve(x, RecordedReply(bed.ledger), bed.dataplane)) for x in running]
    while bed.transports["up0"].open_now < 2:
        await asyncio.sleep(0)
    quota = _limit(Measure.REQUESTS, 10, Per.TOTAL)
    opened = Opened(quota, "org", window(Per.TOTAL, "UTC", bed.dataplane.wall()), 3)
    adopt(bed.dataplane.gate, [opened], [], running)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    assert bed.state(quota) == (4, 0)
