"""Similar questions on routes that allow it: who is given what, what is said of it, and what is never compared."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.keeping import CachePolicy, CacheScope, Similar
from intertie.core.policy.answers import Selection
from intertie.core.routing.rules import Rule, When, Wish
from intertie.core.terms import Trust
from intertie.dataplane import similar
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.neighbours import Vector, unit
from tests.support.kept import COST, Counter, Visit, asks, idem, streamed, turns, whole
from tests.support.playbook import CALLER, Script

RESET = "How do I reset my password?"
RESET_TOO = "Please tell me how to reset my password"
LIKE = Similar(threshold=0.92, embeddings="local")


class Vectors:
    """The port `Embedder`: the same vector for everything but what `of` says otherwise."""

    def __init__(self, **of: Vector | None) -> None:
        self.of = {name.replace("_", " "): vector for name, vector in of.items()}
        self.asked: list[str] = []
        self.failure = ""
        self.hold: asyncio.Event | None = None

    async def vector(self, x: Exchange, text: str, model: str) -> Vector | None:
        self.asked.append(text)
        assert model == "local"
        if self.hold is not None:
            await self.hold.wait()
        return self.of.get(text, unit([1.0, 0.0]))


def counter(*scripts: Script | Exception, vectors: Vectors | None = None, **policy: Any) -> Counter:
    made = Counter(*scripts, cache=CachePolicy(similar=LIKE, **policy))
    made.answers.embedder = vectors or Vectors()
    return made


async def ask(counter: Counter, text: str, **how: Any) -> Visit:
    return await counter.visit(messages=[{"role": "user", "content": text}], **how)


# -- hits ------------------------------------------------------------------------------------------------------------


async def test_a_similar_question_is_given_the_answer_and_told_what_it_matched() -> None:
    vectors = Vectors()
    vectors.of[RESET_TOO] = unit([0.95, 0.3122])
    made = counter(whole(), vectors=vectors)
    first = await ask(made, RESET)
    made.now += 30
    second = await ask(made, RESET_TOO)

    assert (first.cache, second.cache, made.bought) == ("miss", "similar", 1)
    assert second.reply.json == first.reply.json
    headers = second.reply.headers
    assert headers["x-intertie-cache-similarity"] == "0.950"
    assert headers["x-intertie-cache-match"] == first.x.id
    assert headers["x-intertie-cache-key"] == first.reply.headers["x-intertie-cache-key"]
    assert (headers["age"], headers["x-intertie-saved"]) == ("30", "0.000008")
    assert "x-intertie-cache-similarity" not in first.reply.headers


async def test_the_books_and_counters_know_it_and_what_it_saved() -> None:
    made = counter(whole())
    await ask(made, RESET)
    await ask(made, RESET_TOO)
    given = made.play.ledger.settlements[-1]

    assert (given.cache, given.saved, given.attempts) == ("similar", COST, ())
    (tally,) = made.play.dataplane.counters.tallies.values()
    assert (dict(tally.answers), tally.saved) == ({"miss": 1, "similar": 1}, COST)


@pytest.mark.parametrize("bought_streamed", [False, True])
async def test_either_form_is_given(bought_streamed: bool) -> None:
    made = counter(streamed() if bought_streamed else whole())
    await ask(made, RESET, stream=bought_streamed)
    other = await ask(made, RESET_TOO, stream=not bought_streamed)
    assert (other.cache, made.bought) == ("similar", 1)
    assert b"hi there" in other.reply.body


async def test_equal_calls_wait_for_a_similar_answer_and_are_told_as_well() -> None:
    vectors = Vectors()
    made = counter(whole(), vectors=vectors)
    await ask(made, RESET)
    vectors.hold = asyncio.Event()
    visits = [made.enter(messages=[{"role": "user", "content": RESET_TOO}]) for _ in range(3)]
    exact = made.enter(messages=[{"role": "user", "content": RESET_TOO}], headers=asks("exact"))
    made.play.transports["up0"].scripts.append(whole())
    await turns()
    vectors.hold.set()
    await turns(60)

    assert [visit.cache for visit in visits] == ["similar", "coalesced", "coalesced"]
    assert {visit.reply.headers["x-intertie-cache-match"] for visit in visits} == {"req_1"}
    assert (exact.cache, made.bought) == ("miss", 2)


async def test_an_idempotency_key_gives_the_similar_answer_again_and_says_so() -> None:
    made = counter(whole())
    await ask(made, RESET)
    visits = [await ask(made, RESET_TOO, headers=idem()) for _ in range(2)]
    assert [visit.cache for visit in visits] == ["similar", "hit"]
    assert {visit.reply.headers["x-intertie-cache-similarity"] for visit in visits} == {"1.000"}
    assert visits[1].reply.headers["idempotent-replayed"] == "true"


async def test_what_was_given_is_no_answer_of_its_own() -> None:
    """Else likeness would wander: from one question to the next, away from the one that was answered."""
    made = counter(whole())
    await ask(made, RESET)
    await ask(made, RESET_TOO)
    again = await ask(made, RESET_TOO)
    assert again.cache == "similar"
    assert len(made.answers.neighbours) == 1


# -- misses ----------------------------------------------------------------------------------------------------------


async def test_below_the_threshold_it_is_bought_and_its_vector_is_not_made_twice() -> None:
    vectors = Vectors()
    vectors.of[RESET_TOO] = unit([0.91, 0.4146])
    made = counter(whole(), whole(), vectors=vectors)
    await ask(made, RESET)
    assert (await ask(made, RESET_TOO)).cache == "miss"
    assert vectors.asked == [RESET, RESET_TOO]
    assert len(made.answers.neighbours) == 2


async def test_marks_differ_so_nothing_is_compared() -> None:
    vectors = Vectors()
    made = counter(whole(), whole(), vectors=vectors)
    await ask(made, "Please convert 10 USD to EUR")
    assert (await ask(made, "Please convert 100 USD to EUR")).cache == "miss"


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": RESET_TOO}]},
        {"user": "ann"},
        {"safety_identifier": "ann"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"x_unheard_of": True},
    ],
)
async def test_all_else_must_be_the_same(change: dict[str, Any]) -> None:
    made = counter(whole(), whole())
    await ask(made, RESET)
    fields = {"messages": [{"role": "user", "content": RESET_TOO}], **change}
    assert (await made.visit(**fields)).cache == "miss"
    assert made.bought == 2


async def test_t46_another_organisation_and_where_the_route_says_so_another_project() -> None:
    made = counter(whole(), whole(), whole(), scope=CacheScope.PROJECT)
    made.admit("theirs", replace(CALLER, organisation="other"))
    made.admit("mobile", replace(CALLER, project="mobile"))
    await ask(made, RESET)
    assert (await ask(made, RESET_TOO, key="theirs")).cache == "miss"
    assert (await ask(made, RESET_TOO, key="mobile")).cache == "miss"
    assert (await ask(made, "How can I reset my password?")).cache == "similar"


async def test_t46_stricter_trust_or_rules_and_other_targets() -> None:
    made = counter(whole(), whole(), whole())
    own = replace(made.play.current.upstreams["up0"], trust=Trust.OWN)
    rule = Rule("private", When(tag=("private",)), require=Wish(trust=Trust.OWN))
    made.play.current = replace(made.play.current, revision=5, upstreams={"up0": own}, rules={"org": (rule,)})
    await ask(made, RESET)
    assert (await ask(made, RESET_TOO, headers={"x-intertie-trust": "own"})).cache == "miss"
    assert (await ask(made, RESET_TOO, headers={"x-intertie-tags": "private"})).cache == "miss"
    made.play.current = replace(
        made.play.current, revision=6, upstreams={"up0": replace(own, base_url="http://moved.test/v1")}
    )
    made.play.transports["up0"].scripts.append(whole())
    assert (await ask(made, "How can I reset my password?")).cache == "miss"


@pytest.mark.parametrize(("word", "said"), [("exact", "miss"), ("no-cache", "miss"), ("no-store", "bypass")])
async def test_a_caller_may_want_none_of_it(word: str, said: str) -> None:
    made = counter(whole(), whole())
    await ask(made, RESET)
    assert (await ask(made, RESET_TOO, headers=asks(word))).cache == said
    assert made.bought == 2


async def test_an_answer_bought_anew_is_found_too() -> None:
    made = counter(whole())
    await ask(made, RESET, headers=asks("no-cache"))
    assert (await ask(made, RESET_TOO)).cache == "similar"


async def test_age_counts_for_similar_answers_and_old_ones_are_forgotten() -> None:
    made = counter(whole(), whole(), whole(), ttl=100)
    await ask(made, RESET)
    made.now += 60
    assert (await ask(made, RESET_TOO, headers=asks("max-age=50"))).cache == "miss"
    made.now += 45
    assert (await ask(made, "How can I reset my password?")).cache == "similar"  # to the second
    made.now += 60
    assert (await ask(made, "How do I reset my password, please?")).cache == "miss"
    assert len(made.answers.neighbours) == 1


async def test_clearing_forgets_vectors_with_their_answers() -> None:
    made = counter(whole(), whole())
    await ask(made, RESET)
    assert await made.answers.forget(Selection("org")) == 1
    assert len(made.answers.neighbours) == 0
    assert (await ask(made, RESET_TOO)).cache == "miss"


async def test_what_is_cleared_while_its_vector_is_made_is_not_found() -> None:
    vectors = Vectors()
    made = counter(whole(), vectors=vectors)
    vectors.hold = asyncio.Event()
    made.enter(messages=[{"role": "user", "content": RESET}])
    await turns()
    await made.answers.forget(Selection("org"))
    vectors.hold.set()
    await made.answers.settled()
    assert (vectors.asked, len(made.answers.neighbours)) == ([RESET], 0)


async def test_an_answer_that_the_store_lost_is_a_miss() -> None:
    made = counter(whole(), whole())
    await ask(made, RESET)
    made.shelf.entries.clear()
    assert (await ask(made, RESET_TOO)).cache == "miss"


async def test_a_threshold_that_was_raised_holds_at_once() -> None:
    vectors = Vectors()
    vectors.of[RESET_TOO] = unit([0.95, 0.3122])
    made = counter(whole(), whole(), vectors=vectors)
    await ask(made, RESET)
    made.put_route(CachePolicy(similar=replace(LIKE, threshold=0.96)))
    assert (await ask(made, RESET_TOO)).cache == "miss"


async def test_fewer_words_may_do_where_the_route_says_so() -> None:
    made = counter(whole(), whole())
    longer = "How do I reset my bank password?"
    await ask(made, RESET)
    assert (await ask(made, longer)).cache == "miss"
    made.put_route(CachePolicy(similar=replace(LIKE, words=0.6)))
    assert (await ask(made, "How can I reset my email password?")).cache == "similar"


# -- trouble ---------------------------------------------------------------------------------------------------------


async def test_no_vector_is_a_plain_miss() -> None:
    vectors = Vectors()
    vectors.of[RESET_TOO] = None
    made = counter(whole(), whole(), vectors=vectors)
    await ask(made, RESET)
    assert (await ask(made, RESET_TOO)).cache == "miss"


async def test_a_slow_vector_holds_nobody_up_and_serves_later(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = Vectors()
    made = counter(whole(), whole(), vectors=vectors)
    await ask(made, RESET)
    monkeypatch.setattr(similar, "PATIENCE", 0.0)
    vectors.hold = asyncio.Event()
    visit = made.enter(messages=[{"role": "user", "content": RESET_TOO}])
    await turns(40)
    assert visit.cache == "miss"
    vectors.hold.set()
    await made.answers.settled()
    assert len(made.answers.neighbours) == 2


async def test_a_client_that_leaves_meanwhile_leaves_no_trace() -> None:
    vectors = Vectors()
    made = counter(whole(), vectors=vectors)
    await ask(made, RESET)
    vectors.hold = asyncio.Event()
    visit = made.enter(messages=[{"role": "user", "content": RESET_TOO}])
    await turns()
    visit.leave()
    await turns()
    vectors.hold.set()
    await made.answers.settled()
    assert len(made.answers.flights) == 0
    assert len(made.answers.neighbours) == 1


@pytest.mark.parametrize("policy", [CachePolicy(), None])
async def test_routes_without_it_never_ask_for_a_vector(policy: CachePolicy | None) -> None:
    vectors = Vectors()
    made = Counter(whole(), whole(), cache=policy)
    made.answers.embedder = vectors
    await ask(made, RESET)
    await ask(made, RESET_TOO)
    assert (vectors.asked, made.bought) == ([], 2)


async def test_without_an_embedder_there_is_nothing_similar() -> None:
    made = counter(whole(), whole())
    made.answers.embedder = None
    await ask(made, RESET)
    assert (await ask(made, RESET_TOO)).cache == "miss"


async def test_without_its_route_for_embeddings_nothing_is_compared() -> None:
    made = Counter(whole(), whole(), cache=CachePolicy(similar=replace(LIKE, embeddings="vectors")))
    vectors = made.answers.embedder = Vectors()
    await ask(made, RESET)
    assert (await ask(made, RESET_TOO)).cache == "miss"
    assert vectors.asked == []


async def test_statistics_say_what_there_is_and_what_is_wrong() -> None:
    vectors = Vectors()
    made = counter(whole(), vectors=vectors)
    await ask(made, RESET)
    vectors.failure = "no such file"
    found = made.answers.statistics()
    assert (found.memory_entries, found.similar_entries, found.similar_failure) == (1, 1, "no such file")
    assert found.similar_bytes > 0
