"""Vectors by a route of the gateway itself: a booked call under the rules of the request that it is made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.keeping import CachePolicy, Similar
from intertie.core.ledger import State
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.windows import Per
from intertie.core.routing.rules import Rule, When, Wish
from intertie.core.terms import Operation, Price, Route, Target, Trust
from intertie.dataplane.embeddings import UNDER_WAY, Embeddings
from tests.support.kept import JSON, Counter, Visit, failing, whole
from tests.support.playbook import CALLER, Script, ScriptedTransport

ONE, OTHER = "How do I reset my password?", "Please tell me how to reset my password"


def vectors(*numbers: float) -> Script:
    """An upstream's answer to a call for embeddings."""
    row = {"object": "embedding", "index": 0, "embedding": list(numbers)}
    body = {"object": "list", "data": [row], "model": "inner-e", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    return Script(json.dumps(body).encode(), headers=JSON)


def nowhere() -> tuple[Path, Path]:
    raise FileNotFoundError("it is not here")


class Bed(Counter):
    """A route that asks another route, with an upstream of its own, for vectors."""

    def __init__(self, *answers: Script | Exception, embeddings: list[Script | Exception]) -> None:
        super().__init__(*answers, cache=CachePolicy(similar=Similar(embeddings="vectors")))
        current = self.play.current
        up = replace(
            current.upstreams["up0"], id="up-e", name="embedder", models={"inner-e": Price(input=1_000_000, output=0)}
        )
        routes = {**current.routes, ("org", "vectors"): Route("org", "vectors", (Target("up-e", "inner-e"),))}
        self.play.current = replace(current, revision=9, routes=routes, upstreams={**current.upstreams, "up-e": up})
        self.asked = self.play.transports["up-e"] = ScriptedTransport(embeddings)
        self.said: list[str] = []
        self.embeddings = Embeddings(self.play.dataplane, nowhere, self.said.append)
        self.answers.embedder = self.embeddings

    def change(self, **what: Any) -> None:
        """Another configuration is in force."""
        self.play.current = replace(self.play.current, revision=self.play.current.revision + 1, **what)

    async def ask(self, text: str, **how: Any) -> Visit:
        return await self.visit(messages=[{"role": "user", "content": text}], **how)


async def test_both_questions_are_embedded_by_the_route_and_booked_to_their_caller() -> None:
    bed = Bed(whole(), embeddings=[vectors(1, 2), vectors(1, 2.1)])
    first = await bed.ask(ONE)
    second = await bed.ask(OTHER)

    assert (first.cache, second.cache) == ("miss", "similar")
    assert second.reply.headers["x-intertie-cache-similarity"] == "1.000"
    sent = [json.loads(request.body) for request, _ in bed.asked.requests]
    assert [(body["model"], body["input"]) for body in sent] == [("inner-e", ONE), ("inner-e", OTHER)]
    booked = [one for one in bed.play.ledger.settlements if one.operation is Operation.EMBEDDING]
    assert [(one.request_id, one.route, one.key_id, one.state) for one in booked] == [
        (f"{first.x.id}-e", "vectors", CALLER.key_id, State.OK),
        (f"{second.x.id}-e", "vectors", CALLER.key_id, State.OK),
    ]
    assert booked[0].attempts[0].cost == 5
    assert bed.embeddings.running() == set()


async def test_nothing_is_embedded_before_it_is_known_that_something_is_alike() -> None:
    bed = Bed(whole(), whole(), embeddings=[vectors(1, 2), vectors(1, 2)])
    await bed.ask(ONE)
    await bed.ask("How do I bake bread?")
    assert [one.operation for one in bed.play.ledger.settlements] == [
        Operation.CHAT, Operation.EMBEDDING, Operation.CHAT, Operation.EMBEDDING
    ]  # fmt: skip


async def test_a_key_that_may_not_ask_for_the_route_is_served_all_the_same() -> None:
    bed = Bed(whole(), embeddings=[vectors(1, 2), vectors(1, 2)])
    bed.admit("narrow", replace(CALLER, models=frozenset({"m"})))
    await bed.ask(ONE, key="narrow")
    assert (await bed.ask(OTHER, key="narrow")).cache == "similar"


async def test_t46_a_call_under_a_lower_ceiling_sends_its_text_to_nobody_above_it() -> None:
    bed = Bed(whole(), whole(), embeddings=[])
    ups = bed.play.current.upstreams
    bed.change(upstreams={**ups, "up0": replace(ups["up0"], trust=Trust.OWN)})
    low = {"x-intertie-trust": "own"}
    assert [(await bed.ask(text, headers=low)).cache for text in (ONE, OTHER)] == ["miss", "miss"]
    assert bed.asked.requests == []
    assert {one.operation for one in bed.play.ledger.settlements} == {Operation.CHAT}


@pytest.mark.parametrize("when", [When(tag=("private",)), When(model=("m",)), When(operation=(Operation.CHAT,))])
async def test_t46_the_rules_of_the_call_hold_for_its_text(when: When) -> None:
    """Rules that ask for what the call is (its model, its operation) would not see the errand."""
    bed = Bed(whole(), whole(), embeddings=[])
    ups = bed.play.current.upstreams
    rule = Rule("private", when, require=Wish(trust=Trust.OWN))
    bed.change(upstreams={**ups, "up0": replace(ups["up0"], trust=Trust.OWN)}, rules={"org": (rule,)})
    tagged = {"x-intertie-tags": "private"}
    assert [(await bed.ask(text, headers=tagged)).cache for text in (ONE, OTHER)] == ["miss", "miss"]
    assert bed.asked.requests == []


async def test_rules_for_the_route_of_embeddings_hold_as_well() -> None:
    bed = Bed(whole(), whole(), embeddings=[])
    rule = Rule("none", When(model=("vectors",)), forbid=Wish(upstream=("embedder",)))
    bed.change(rules={"org": (rule,)})
    assert [(await bed.ask(text)).cache for text in (ONE, OTHER)] == ["miss", "miss"]
    assert bed.asked.requests == []


async def test_a_budget_that_has_no_room_for_a_vector_is_not_passed() -> None:
    bed = Bed(whole(), whole(), embeddings=[])
    limit = Limit("b", Level.ROUTE, "vectors", Measure.MONEY, 0, per=Per.DAY)
    bed.change(limits={("org", "route", "vectors"): (limit,)})
    assert [(await bed.ask(text)).cache for text in (ONE, OTHER)] == ["miss", "miss"]
    assert bed.asked.requests == []


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (failing(400), "the route vectors failed: "),
        (Script(b'{"data":[{"embedding":"x"}]}', headers=JSON), "the route vectors failed: upstream_invalid"),
        (
            Script(b'{"data":[{"embedding":[true]}]}', headers=JSON),
            "the route vectors answers with something else than",
        ),
        (vectors(), "the route vectors answers with something else than vectors"),
        (vectors(0, 0), "the route vectors answers with something else than vectors"),
    ],
)
async def test_a_failing_route_is_a_plain_miss_and_said(script: Script, why: str) -> None:
    bed = Bed(whole(), whole(), embeddings=[script, vectors(1, 2)])
    first = await bed.ask(ONE)
    assert (first.cache, first.reply.status) == ("miss", 200)
    assert bed.answers.statistics().similar_failure.startswith(why)
    await bed.ask(OTHER)
    assert bed.answers.statistics().similar_failure == ""


async def test_headers_that_a_caller_says_of_its_request_stay_with_it() -> None:
    bed = Bed(whole(), embeddings=[vectors(1, 2)])
    headers = {"idempotency-key": "k", "x-intertie-cache-control": "max-age=5", "x-intertie-deadline-ms": "600000"}
    await bed.ask(ONE, headers=headers)
    assert len(bed.play.ledger.settlements) == 2
    assert len(bed.answers.neighbours) == 1


async def test_too_many_at_a_time_get_none() -> None:
    bed = Bed(whole(), embeddings=[])
    bed.embeddings._under_way = UNDER_WAY
    await bed.ask(ONE)
    assert bed.asked.requests == []
