"""T46: what may be similar is settled before anything is compared, so that likeness alone gives nobody anything.

First over the keys: two questions lie in one place only if all but their last text is the same and both may share an
answer. Then over whole requests, with an embedder to which everything is the same.
"""

from __future__ import annotations

import json
import random
from typing import Any

from msgspec.structs import replace

from intertie.core.keeping import CachePolicy, CacheScope, Similar
from intertie.core.policy.answers import placing, similar_key
from intertie.core.terms import Snapshot, Trust
from intertie.core.wire.envelope import peek
from intertie.core.wire.question import PLAIN, question
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.neighbours import Vector, unit
from tests.contract.test_cache_partition import Asked, family, first, meaning, written
from tests.support.kept import BODY, Counter, whole
from tests.support.playbook import CALLER, KEY

FAMILIES = 250
CALLS = 700
TEXTS = ("How do I reset my password?", "How can I reset my password?", "Please tell me how to reset my password")
OTHERS = ("How do I reset my router?", "How do I not reset my password?", "How do I reset 2 passwords?")


def place(asked: Asked, rng: random.Random) -> bytes | None:
    """The place under test."""
    found = question(peek(written(asked.body, rng).encode(), asked.operation, "r"))
    if found is None:
        return None
    where = (placing(asked.route, Snapshot(upstreams={"up": asked.upstream})), "local")
    return similar_key(found, asked.caller, asked.route, salt="s", restriction=asked.restriction, placing=where)


def around(asked: Asked) -> str:
    """All but the last text, worked out in another way than the code under test does."""
    messages = asked.body["messages"]
    frame = {**asked.body, "messages": [*messages[:-1], {**messages[-1], "content": "?"}]}
    persons = [(name, asked.body.get(name)) for name in ("user", "safety_identifier")]
    return meaning(asked._replace(body=frame)) + repr(persons)


def is_question(asked: Asked) -> bool:
    body, messages = asked.body, asked.body["messages"]
    return (
        asked.operation == "chat"
        and set(body) <= PLAIN
        and body.get("n", 1) in (1, None)
        and body.get("n") is not True
        and not isinstance(body.get("n"), float)
        and all(isinstance(one["content"], str) for one in messages)
        and messages[-1]["role"] == "user"
    )


def test_t46_two_questions_meet_exactly_where_all_else_is_the_same() -> None:
    rng = random.Random(46)
    everywhere: dict[bytes, str] = {}
    back: dict[str, bytes] = {}
    members = met = 0
    for _ in range(FAMILIES):
        head = first(rng)
        head = head._replace(body={name: one for name, one in head.body.items() if name in PLAIN})
        head.body["messages"] = [*head.body["messages"], {"role": "user", "content": rng.choice(TEXTS)}]
        for asked in family(head, rng):
            last = asked.body["messages"][-1]
            if isinstance(last["content"], str) and last["content"] in TEXTS:
                asked.body["messages"][-1] = {**last, "content": rng.choice(TEXTS)}
            found = place(asked, rng)
            assert (found is not None) == is_question(asked)
            if found is None:
                continue
            members += 1
            meant = around(asked)
            # One place, one frame; one frame, one place: over all families at once, so this is every pair there is.
            met += found in everywhere
            assert everywhere.setdefault(found, meant) == meant
            assert back.setdefault(meant, found) == found
    assert members * (members - 1) // 2 > 1_000_000
    assert met > FAMILIES


class Same:
    """Everything is like everything."""

    failure = ""

    async def vector(self, x: Exchange, text: str, model: str) -> Vector | None:
        return unit([1.0, 0.0])


async def test_t46_nobody_is_given_what_somebody_else_put_there() -> None:
    """10^5 pairs of calls: an answer that is given was bought under the same rules by someone who may share it."""
    rng = random.Random(7)
    bed = Counter(cache=CachePolicy(scope=CacheScope.PROJECT, similar=Similar(threshold=0.8, words=0.5)))
    bed.answers.embedder = Same()
    callers = {KEY: CALLER}
    changes: tuple[dict[str, Any], ...] = (
        {"organisation": "other"}, {"project": "mobile"}, {"trust": Trust.COMPANY}, {"key_id": "key_9"}
    )  # fmt: skip
    for number, change in enumerate(changes):
        callers[f"sk-{number}"] = replace(CALLER, **change)
        bed.admit(f"sk-{number}", callers[f"sk-{number}"])
    ups = {name: replace(up, trust=Trust.OWN) for name, up in bed.play.current.upstreams.items()}
    bed.play.current = replace(bed.play.current, revision=99, upstreams=ups)
    bought: dict[str, tuple[Any, ...]] = {}
    outcomes: dict[str, int] = {}
    for number in range(CALLS):
        key = rng.choice(list(callers))
        low = rng.random() < 0.3
        fields = rng.choice(
            ({}, {"temperature": 0}, {"temperature": 0.0}, {"seed": 1}, {"user": "ann"}, {"user": "bo"})
        )
        system = rng.choice(("be brief", "be kind", "be brief "))
        text = rng.choice((*TEXTS, *OTHERS))
        caller = callers[key]
        whose = (
            caller.organisation, caller.project, "own" if low else caller.trust.value, system, json.dumps(fields)
        )  # fmt: skip
        name = f"answer-{number}"
        (transport,) = set(bed.play.transports.values())
        transport.scripts = [whole(BODY.replace(b"hi there", name.encode()))]
        visit = await bed.visit(
            key=key,
            headers={"x-intertie-trust": "own"} if low else {},
            messages=[{"role": "system", "content": system}, {"role": "user", "content": text}],
            **fields,
        )
        said = visit.reply.json["choices"][0]["message"]["content"]
        outcomes[visit.cache] = outcomes.get(visit.cache, 0) + 1
        if visit.cache == "miss":
            assert said == name
            bought[said] = (whose, text)
            continue
        other, asked = bought[said]
        if visit.cache == "similar":
            assert other == whose
            assert {asked, text} <= {*TEXTS}
        else:  # equal calls may be for different persons: no model sees who
            assert (other[:-1], asked) == (whose[:-1], text)
    assert CALLS * (CALLS - 1) // 2 > 100_000
    assert outcomes["similar"] > 30
    assert outcomes["miss"] > 200
