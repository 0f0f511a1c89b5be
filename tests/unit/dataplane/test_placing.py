"""Rejected calls go on to a route's fallback, and nowhere else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from intertie.core.errors import UpstreamUnreachable
from intertie.core.ledger import State
from intertie.core.routing.reach import facts_of
from intertie.core.routing.replay import Past, Place, Tried, replay
from intertie.core.routing.rules import Rule, TargetFacts, When, Wish
from intertie.core.terms import Caller, Route, Target, Trust
from tests.support.playbook import CALLER, Playbook, Script

JSON = {"content-type": "application/json"}
BODY = b'{"model":"inner","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":4,"completion_tokens":2}}'
EVENTS = {"content-type": "text/event-stream"}
STREAM = (
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


def rejected(code: str, message: str = "too long") -> Script:
    return Script(
        b'{"error":{"message":"%b","code":"%b"}}' % (message.encode(), code.encode()), status=400, headers=JSON
    )


def good() -> Script:
    return Script(BODY, headers=JSON)


def falling(
    *upstreams: list[Script | Exception], models: tuple[str, ...] = ("large",), rules: tuple[Rule, ...] = ()
) -> Playbook:
    """Route `m` has upstream 0; the routes `large` and `larger` have upstreams 1 and 2."""
    play = Playbook(*upstreams)
    fallback = dict.fromkeys(("context_length_exceeded", "content_filter"), models)
    routes = {("org", "m"): Route("org", "m", (Target("up0", "inner"),), fallback=fallback)}
    for number, name in enumerate(("large", "larger"), start=1):
        routes["org", name] = Route("org", name, (Target(f"up{number}", "inner"),))
    play.current = replace(play.current, routes=routes, rules={"org": rules} if rules else {})
    return play


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", ["context_length_exceeded", "content_policy_violation", "content_filter"])
async def test_a_rejection_goes_to_the_fallback_and_is_booked_with_both_attempts(code: str, stream: bool) -> None:
    """The books name the route that was asked for; headers name who answered."""
    play = falling([rejected(code)], [Script(STREAM, headers=EVENTS) if stream else good()])
    reply = await play.run(stream=stream)
    assert (reply.status, reply.headers["x-intertie-target"]) == (200, "name-up1/inner")
    assert (reply.headers["x-intertie-route"], play.settled.route) == ("m", "m")
    assert [attempt.state for attempt in play.settled.attempts] == [State.FAILED, State.OK]


async def test_another_mistake_of_the_caller_stays_final() -> None:
    """Only what another model could take."""
    play = falling([rejected("invalid_value")], [good()])
    assert (await play.run()).json["error"]["code"] == "invalid_value"
    assert len(play.settled.attempts) == 1


async def test_if_nobody_takes_it_the_client_gets_the_first_rejection() -> None:
    """What was asked for was too long; that the larger one is down is not the client's affair."""
    down = UpstreamUnreachable("x")
    play = falling(
        [rejected("context_length_exceeded", "first")], [rejected("context_length_exceeded")], [down, down],
        models=("large", "nothing", "larger"),
    )  # fmt: skip
    reply = await play.run()
    assert (reply.status, reply.json["error"]["message"]) == (400, "first")
    assert reply.headers["x-should-retry"] == "false"


async def test_the_second_fallback_is_tried_after_the_first() -> None:
    """In the order written."""
    refused = rejected("context_length_exceeded")
    play = falling([refused], [rejected("context_length_exceeded")], [good()], models=("large", "larger"))
    assert (await play.run()).headers["x-intertie-target"] == "name-up2/inner"


@pytest.mark.parametrize("own", [1, 3])
async def test_S3_a_request_is_sent_three_times_at_most_fallbacks_included(own: int) -> None:
    """Of a route that allows one send alone, the fallbacks still have two."""
    refused, down = "context_length_exceeded", UpstreamUnreachable("x")
    play = falling([rejected(refused, "first")], [down] * 3, [down] * 3, models=("large", "larger", "large"))
    one = play.current.routes["org", "m"]
    routes = {**play.current.routes, ("org", "m"): replace(one, max_attempts=own)}
    play.current = replace(play.current, routes=routes)
    reply = await play.run()
    assert (reply.status, reply.json["error"]["message"]) == (400, "first")
    assert reply.headers["x-intertie-attempts"] == "3"
    assert play.settled.attempts[0].upstream == "name-up0"


async def test_a_fallback_is_no_way_around_a_keys_models() -> None:
    """This key may use `m` and nothing else."""
    play = falling([rejected("context_length_exceeded")], [good()])
    callers = {hashed: replace(CALLER, models=frozenset({"m"})) for hashed in play.current.callers}
    play.current = replace(play.current, callers=callers)
    assert (await play.run()).status == 400


@pytest.mark.parametrize("model", ["m", "large"])
async def test_rules_for_either_model_hold_for_the_fallback(model: str) -> None:
    """Whether they speak of what was asked for or of what is to answer."""
    rule = Rule("stay", When(model=(model,)), forbid=Wish(upstream=("name-up1",)))
    play = falling([rejected("context_length_exceeded")], [good()], rules=(rule,))
    reply = await play.run()
    assert reply.status == 400
    assert [one.allowed for one in play.settled.plan if one.upstream == "name-up1"] in ([False], [])


async def test_the_callers_ceiling_holds_for_the_fallback() -> None:
    """A vendor is no fallback for a call that must stay."""
    play = falling([rejected("context_length_exceeded")], [good()])
    rows = dict(play.current.upstreams)
    rows["up0"] = replace(rows["up0"], trust=Trust.OWN)
    callers: dict[bytes, Caller] = {h: replace(CALLER, trust=Trust.OWN) for h in play.current.callers}
    play.current = replace(play.current, upstreams=rows, callers=callers)
    assert (await play.run()).status == 400


async def test_a_sticky_route_remembers_who_answered() -> None:
    """The next turn finds its holder."""
    play = Playbook([good()], [good()])
    one = replace(play.current.routes["org", "m"], sticky=True)
    play.current = replace(play.current, routes={("org", "m"): one})
    await play.run()
    docket = play.exchange.docket
    assert docket is not None
    assert docket.conversation is not None
    held = play.dataplane.traffic.holder(docket.conversation, play.dataplane.monotonic())
    assert held is not None
    assert (held.key, held.tokens) == (("up0", "inner"), 4)


@pytest.mark.parametrize("failing", [False, True])
async def test_what_is_written_down_of_a_fallback_replays_to_who_answered(failing: bool) -> None:
    """Under the rules that spoke of either model then: preferences of both, and who they keep out."""
    rules = (
        Rule("second", When(model=("large",)), prefer=Wish(upstream=("name-up2", "name-up3"))),
        Rule("last", When(model=("m",)), prefer=Wish(upstream=("name-up3",))),
        Rule("never", When(model=("large",)), forbid=Wish(upstream=("name-up4",))),
    )
    down: list[Script | Exception] = [UpstreamUnreachable("x")] * 2 if failing else []
    play = falling([rejected("content_filter")], [good()], [good()], [*down, good()], [good()], rules=rules)
    targets = tuple(Target(f"up{n}", "inner") for n in range(1, 5))
    play.current = replace(
        play.current, routes={**play.current.routes, ("org", "large"): Route("org", "large", targets)}
    )
    reply = await play.run()
    assert reply.headers["x-intertie-target"] == ("name-up2/inner" if failing else "name-up3/inner")

    account, ups = play.settled, {one.name: one for one in play.current.upstreams.values()}
    assert account.facts is not None
    attempts = tuple(Tried(a.upstream, a.model, a.state, a.usage, a.cost, a.duration_ms) for a in account.attempts)
    past = Past("r", "m", account.facts, account.plan, attempts)

    def of(place: Place, latency: float | None) -> TargetFacts | None:
        return facts_of(ups[place[0]], place[1], play.current, latency)

    assert replay(past, rules, of).place == (account.attempts[-1].upstream, "inner")
    assert replay(past, rules[2:], of).place == ("name-up1", "inner")
