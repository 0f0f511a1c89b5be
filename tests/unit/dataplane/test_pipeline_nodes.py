"""Whole requests that meet enrolled machines: own address, headers, books, trust, overflow."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from intertie.core.errors import NodeBusy, UpstreamUnreachable
from intertie.core.ledger import State
from intertie.core.routing.room import Room
from intertie.core.terms import Caller, Trust
from tests.support.playbook import Playbook, RecordedReply, Script

ROOM = Room(open=True, free=2, slots=2)
FULL = Room(open=True, free=0, slots=2)
AWAY = Room(open=False, reason="offline since 12:03")
BODY = b'{"model":"inner","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":4,"completion_tokens":2}}'
EVENTS = (
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
)


def whole() -> Script:
    return Script(BODY, headers={"content-type": "application/json"})


def own(**fields: object) -> Caller:
    return msgspec.structs.replace(Caller("org", "project", "key_1", "dev", trust=Trust.OWN), **fields)


async def direct(play: Playbook, node: str, model: str = "inner", *, stream: bool = False) -> RecordedReply:
    play.exchange.direct = node
    return await play.run(model=model, stream=stream)


async def test_a_node_answers_and_books_and_headers_name_it() -> None:
    """Its models cost nothing, which is known, not unknown."""
    play = Playbook([whole()], rooms={"up0": ROOM})
    reply = await play.run()

    assert (reply.status, reply.body) == (200, BODY)
    assert reply.headers["x-intertie-target"] == "name-up0/inner"
    assert reply.headers["x-intertie-node"] == "name-up0"
    assert reply.headers["x-intertie-cost"] == "0.000000"
    (opening,) = play.ledger.openings
    assert opening.node == "name-up0"
    (attempt,) = play.settled.attempts
    assert (attempt.node, attempt.upstream, attempt.cost) == ("name-up0", "name-up0", 0)
    play.dataplane.log.flush()
    assert json.loads(play.log[0].splitlines()[0])["attempts"][0]["node"] == "name-up0"


async def test_what_is_no_node_has_no_node_in_books_and_headers() -> None:
    """Not even an empty header."""
    play = Playbook([whole()])
    reply = await play.run()

    assert "x-intertie-node" not in reply.headers
    assert play.settled.attempts[0].node == ""


@pytest.mark.parametrize("stream", [False, True])
async def test_one_node_is_called_by_its_own_address(stream: bool) -> None:
    """Whatever routes there are: the model is the node's own name for it, and the books say how it was called."""
    answer = Script(*EVENTS, headers={"content-type": "text/event-stream"}) if stream else whole()
    play = Playbook([], [answer], rooms={"up0": ROOM, "up1": ROOM})
    reply = await direct(play, "name-up1", stream=stream)

    assert reply.status == 200
    assert reply.headers["x-intertie-route"] == "nodes/name-up1"
    assert reply.headers["x-intertie-node"] == "name-up1"
    assert (play.settled.route, play.settled.state) == ("nodes/name-up1", State.OK)
    assert [one.node for one in play.settled.attempts] == ["name-up1"]


@pytest.mark.parametrize(
    ("node", "model"), [("nobody", "inner"), ("name-up0", "unheard-of"), ("name-up1", "inner"), ("name-up0", "m")]
)
async def test_an_unknown_node_and_an_unknown_model_look_alike(node: str, model: str) -> None:
    """Also an upstream that is no node, and a model that only a route knows."""
    play = Playbook([], [], rooms={"up0": ROOM})
    reply = await direct(play, node, model)

    assert (reply.status, reply.json["error"]["code"]) == (404, "model_not_found")
    assert reply.json["error"]["message"] == f"The model '{model}' does not exist or you do not have access to it."
    assert not play.ledger.settlements


async def test_another_organisations_node_does_not_exist() -> None:
    """Same name or not."""
    play = Playbook([], rooms={"up0": ROOM}, caller=Caller("other", "project", "key_2", "dev"))
    reply = await direct(play, "name-up0")

    assert reply.json["error"]["message"] == "The model 'inner' does not exist or you do not have access to it."


async def test_a_key_restricted_to_models_is_so_at_a_nodes_own_address() -> None:
    """By the name of the model asked for."""
    assert (
        await direct(Playbook([], rooms={"up0": ROOM}, caller=own(models=frozenset({"m"}))), "name-up0")
    ).status == 404
    allowed = Playbook([whole()], rooms={"up0": ROOM}, caller=own(models=frozenset({"inner"})))
    assert (await direct(allowed, "name-up0")).status == 200


async def test_a_node_that_is_away_is_named_in_the_error() -> None:
    """With a time to come back, and without what the log alone should know."""
    play = Playbook([], rooms={"up0": AWAY})
    reply = await direct(play, "name-up0")

    assert (reply.status, reply.headers["retry-after"]) == (503, "15")
    assert reply.json["error"]["message"] == "The node name-up0 is offline."
    assert "12:03" not in reply.body.decode()
    assert (play.settled.state, play.settled.attempts) == (State.FAILED, ())


@pytest.mark.parametrize("room", [FULL, AWAY])
async def test_work_overflows_to_the_next_tier(room: Room) -> None:
    """Own machines first, a vendor when they are busy or gone: one attempt, no waiting."""
    play = Playbook([], [whole()], rooms={"up0": room})
    reply = await play.run()

    assert (reply.status, reply.headers["x-intertie-target"]) == (200, "name-up1/inner")
    assert play.settled.attempts[0].node == ""


async def test_a_node_that_refuses_or_breaks_fails_over_like_any_upstream() -> None:
    """A refusal harms nobody's health."""
    for error in (NodeBusy("The node is busy."), UpstreamUnreachable("The link broke.")):
        play = Playbook([error], [whole()], rooms={"up0": ROOM})
        reply = await play.run()

        assert (reply.status, [one.node for one in play.settled.attempts]) == (200, ["name-up0", ""])
        assert play.settled.attempts[0].error == error.code


@pytest.mark.parametrize("room", [FULL, AWAY])
async def test_a_node_that_filled_up_since_the_plan_was_made_is_asked_last(room: Room) -> None:
    """Nobody waits for it while another has room."""
    play = Playbook([UpstreamUnreachable("The link broke.")], [], [whole()], rooms={"up0": ROOM, "up1": ROOM})
    asked = play.transports["up0"].requests
    play.look = lambda: room if asked else ROOM
    reply = await play.run()

    assert (reply.status, [one.upstream for one in play.settled.attempts]) == (200, ["name-up0", "name-up2"])


async def test_the_next_tier_takes_what_a_node_has_no_slot_for_though_all_were_planned_together() -> None:
    """Each waited for the disk before it was sent, and by then the others had the slots."""
    play = Playbook([whole(), whole()], [whole(), whole(), whole()], rooms={"up0": ROOM})
    taken = play.transports["up0"].requests
    play.look = lambda: Room(open=True, free=max(0, 2 - len(taken)), slots=2)
    waiting = asyncio.Event()
    play.ledger.durable = waiting.wait  # type: ignore[method-assign, assignment]
    calls = [asyncio.create_task(play.another()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting.set()
    replies = await asyncio.gather(*calls)

    assert [reply.status for reply in replies] == [200] * 5
    assert (len(taken), len(play.transports["up1"].requests)) == (2, 3)


async def test_a_full_node_is_asked_when_there_is_nothing_else() -> None:
    """It waits for a slot."""
    play = Playbook([whole()], rooms={"up0": FULL})
    assert (await play.run()).status == 200


@pytest.mark.parametrize("room", [ROOM, FULL, AWAY])
async def test_a_call_restricted_to_own_machines_reaches_no_vendor(room: Room) -> None:
    """By the key or by the request's header, whatever the machine does."""
    for restricted in (True, False):
        error = UpstreamUnreachable("The link broke.")
        play = Playbook(
            [error, error, error],
            [whole()],
            rooms={"up0": room},
            caller=own() if restricted else own(trust=Trust.VENDOR),
        )
        if not restricted:
            play.exchange.headers = {**play.exchange.headers, b"x-intertie-trust": b"own"}
        reply = await play.run()

        assert reply.status in (502, 503)
        assert not play.transports["up1"].requests


async def test_a_request_cannot_raise_its_keys_ceiling_and_a_bad_one_is_refused() -> None:
    """400 names the header."""
    play = Playbook([], [whole()], rooms={"up0": AWAY}, caller=own())
    play.exchange.headers = {**play.exchange.headers, b"x-intertie-trust": b"vendor"}
    assert (await play.run()).status == 503
    assert not play.transports["up1"].requests

    play = Playbook([whole()])
    play.exchange.headers = {**play.exchange.headers, b"x-intertie-trust": b"everybody"}
    reply = await play.run()
    assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_request")
    assert "x-intertie-trust" in reply.json["error"]["message"]


async def test_a_node_that_is_revoked_while_requests_come_in_gets_nothing() -> None:
    """The request's own snapshot may still have it."""
    play = Playbook([], rooms={"up0": ROOM})
    play.current = msgspec.structs.replace(play.current, nodes={})
    reply = await play.run()

    assert (reply.status, reply.json["error"]["message"]) == (
        503,
        "The node name-up0 is not taking work at the moment.",
    )


async def test_without_links_in_this_process_every_node_is_offline() -> None:
    """An embedder without nodes, or a stored configuration that names some."""
    play = Playbook([], rooms={"up0": ROOM})
    play.dataplane.links = None
    assert (await play.run()).json["error"]["message"] == "The node name-up0 is offline."
