"""A limit that comes into force while two attempts of one request, or a copy, are under way."""

from __future__ import annotations

import asyncio
import json

import pytest

from intertie.core.policy.limits import Level, Measure
from intertie.core.policy.windows import Per, window
from intertie.core.terms import Hedge, Shadow, Target
from intertie.dataplane.adoption import Opened, adopt, share_of
from tests.support.playbook import LATER, Playbook, Script, total

BODY = json.dumps(
    {"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
).encode()
SPAN = window(Per.TOTAL, "UTC", 0.0)
HOLDERS = (
    *((Level.ORGANISATION, "org"), (Level.PROJECT, "project"), (Level.KEY, "key_1"), (Level.ROUTE, "m")),
    *((Level.MODEL, "inner"), (Level.UPSTREAM, "name-up0"), (Level.UPSTREAM, "name-up1")),
)
LIMITS = [
    total(level, holder, measure=measure)
    for level, holder in HOLDERS
    for measure in (Measure.REQUESTS, Measure.TOKENS, Measure.MONEY)
]


def whole(*before: str) -> Script:
    return Script(*before, BODY, headers={"content-type": "application/json"})


def come_into_force(play: Playbook) -> None:
    """As `controlplane.accounts` does it: with all that ended and all that runs."""
    opened = [Opened(limit, "org", SPAN, 0) for limit in LIMITS]
    adopt(play.dataplane.gate, opened, play.ledger.settlements, [play.exchange, *play.shadows.running()])
    play.limit(*LIMITS)


def by_the_books(play: Playbook) -> list[tuple[int, int]]:
    """What each limit should say once all is over: nothing held, and what the entries sum up to."""
    opened = [Opened(limit, "org", SPAN, 0) for limit in LIMITS]
    return [(sum(share_of(one, account) for account in play.ledger.settlements), 0) for one in opened]


@pytest.mark.parametrize("first", [True, False])
async def test_two_attempts_under_way_count_towards_it_each_as_it_ends(first: bool) -> None:
    """The winner for the caller, both for whoever pays."""
    soon, late = whole(LATER, LATER), whole(*[LATER] * 8)
    play = Playbook([soon if first else late], [late if first else soon])
    play.amend(hedge=Hedge(after=0.0, share=1.0))
    task = asyncio.create_task(play.run())
    while len(play.ledger.openings) < 2:
        await asyncio.sleep(0)
    come_into_force(play)
    await task

    standing = [play.standing(limit) for limit in LIMITS]
    assert standing == by_the_books(play)
    told = {limit.id: spent for limit, (spent, _) in zip(LIMITS, standing, strict=True)}
    assert told["org/project:project:money:total"] == 8
    assert told["org/organisation:org:money:total"] == 8 + 9  # the input of the one that was cancelled


@pytest.mark.parametrize("during", ["the call", "the copy"])
async def test_a_copy_under_way_counts_for_the_organisation_and_its_target(during: str) -> None:
    """And for nobody else, whether it began before the limit or after it."""
    play = Playbook([whole(LATER)], [whole(LATER, LATER)])
    (one, _) = play.current.routes["org", "m"].targets
    play.amend(targets=(one,), shadow=Shadow((Target("up1", "inner"),), 1.0))
    task = asyncio.create_task(play.run())
    while not play.ledger.openings:
        await asyncio.sleep(0)
    if during == "the copy":
        await task
        while len(play.ledger.openings) < 2:
            await asyncio.sleep(0)
    come_into_force(play)
    await task
    await play.copied()

    standing = [play.standing(limit) for limit in LIMITS]
    assert standing == by_the_books(play)
    told = {limit.id: spent for limit, (spent, _) in zip(LIMITS, standing, strict=True)}
    assert told["org/project:project:money:total"] == 8
    assert told["org/organisation:org:money:total"] == 16
    assert told["org/organisation:org:requests:total"] == 2
    assert told["org/route:m:requests:total"] == 1
