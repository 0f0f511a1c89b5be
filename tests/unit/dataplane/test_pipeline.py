"""Whole requests as playbooks: what upstreams do, what the client and the books get."""

from __future__ import annotations

import asyncio

import pytest

from intertie.core.errors import LedgerUnavailable, UpstreamReset, UpstreamUnreachable
from intertie.core.ledger import State
from intertie.core.terms import Operation, Timeouts, Usage
from intertie.dataplane import heartbeat
from intertie.dataplane.pipeline import BrokenReply
from tests.support.playbook import STALL, Playbook, Script

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
GOOD_BODY = (
    b'{"model":"inner","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":4,"completion_tokens":2}}'
)
WORD = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
REFUSED = UpstreamUnreachable("The upstream cannot be reached.")


def whole() -> Script:
    return Script(GOOD_BODY, headers=JSON)


def streamed(*steps: bytes | Exception | str) -> Script:
    return Script(*(steps or (WORD, USAGE, DONE)), headers=EVENTS)


def failing(status: int, body: bytes = b"{}", **headers: str) -> Script:
    return Script(body, status=status, headers={**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}})


async def test_a_whole_answer_is_settled_before_it_is_sent() -> None:
    play = Playbook([whole()])
    reply = await play.run()

    assert (reply.status, reply.body, reply.settled_at_finish) == (200, GOOD_BODY, 1)
    assert (play.settled.state, play.settled.attempts[0].usage) == (State.OK, Usage(input=4, output=2))
    assert play.settled.attempts[0].cost == 4 + 2 * 2
    assert reply.headers["x-intertie-cost"] == "0.000008"
    assert reply.headers["x-intertie-target"] == "name-up0/inner"
    assert reply.headers["x-intertie-attempts"] == "1"


async def test_a_stream_ends_with_its_marker_after_the_books_have_it() -> None:
    play = Playbook([streamed()])
    reply = await play.run(stream=True)

    assert reply.body == WORD + DONE
    assert reply.settled_at_finish == 1
    assert play.settled.attempts[0].usage == Usage(input=4, output=2)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        REFUSED,
        UpstreamReset("reset"),
        failing(500),
        failing(503),
        failing(529),
        failing(429, retry_after="5"),
        failing(402),
        failing(401),
        failing(404),
        failing(302),
        Script(b"<html>sorry</html>", headers={"content-type": "text/html"}),
    ],
    ids=str,
)
async def test_s2_a_failure_before_output_goes_to_the_next_target(fault: Script | Exception, stream: bool) -> None:
    play = Playbook([fault], [streamed() if stream else whole()])
    reply = await play.run(stream=stream)

    assert reply.status == 200
    assert reply.body == (WORD + DONE if stream else GOOD_BODY)
    assert [a.state for a in play.settled.attempts] == [State.FAILED, State.OK]
    assert reply.headers["x-intertie-attempts"] == "2"
    assert len(play.ledger.openings) == 2


async def test_s1_an_error_event_before_output_fails_over() -> None:
    play = Playbook([streamed(b'data: {"error":{"code":"overloaded"}}\n\n')], [streamed()])
    reply = await play.run(stream=True)
    assert reply.body == WORD + DONE


async def test_s1_an_empty_completion_fails_over() -> None:
    play = Playbook([streamed(DONE)], [streamed()])
    assert (await play.run(stream=True)).body == WORD + DONE


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_s2_the_callers_own_mistake_is_final(status: int) -> None:
    play = Playbook([failing(status, b'{"error":{"message":"too long","code":"context_length_exceeded"}}')], [whole()])
    reply = await play.run()

    assert (reply.status, reply.json["error"]["code"]) == (status, "context_length_exceeded")
    assert len(play.settled.attempts) == 1
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "ending",
    [
        (UpstreamReset("reset"),),
        (b'data: {"error":{"message":"x"}}\n\n',),
        (b"data: {broken\n\n", b'data: {"error"'),
        (),
    ],
    ids=["reset", "error event", "garbage", "no marker"],
)
async def test_s1_after_the_commit_point_nothing_else_is_tried_and_no_marker_is_sent(ending: tuple[bytes, ...]) -> None:
    play = Playbook([streamed(WORD, *ending)], [streamed()])
    reply = await play.run(stream=True)

    assert reply.status == 200
    assert reply.body.startswith(WORD + b'data: {"error":{')
    assert b"[DONE]" not in reply.body
    (attempt,) = play.settled.attempts
    assert (attempt.state, attempt.usage.estimated, attempt.usage.output) == (State.INTERRUPTED, True, 1)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (REFUSED, 502, "upstream_unreachable"),
        (failing(500), 502, "upstream_failed"),
        (failing(503), 503, "upstream_unavailable"),
        (failing(401), 502, "upstream_auth"),
        (failing(402), 503, "upstream_quota"),
        (failing(404), 404, "model_not_found"),
        (failing(429, retry_after="7"), 429, "rate_limit_exceeded"),
        (Script(b"<html>", headers={"content-type": "text/html"}), 502, "upstream_invalid"),
    ],
    ids=str,
)
async def test_s2_when_all_fail_the_client_gets_the_error_of_the_table(fault: object, status: int, code: str) -> None:
    play = Playbook([fault, fault, fault])  # type: ignore[list-item]
    reply = await play.run()

    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert len(play.settled.attempts) <= 2
    if status in (429, 503):
        assert int(reply.headers["retry-after"]) >= 1
    assert "secret" not in reply.body.decode()
    assert "up0.test" not in reply.body.decode()


async def test_f40_a_refused_credential_is_parked_and_the_other_one_answers() -> None:
    play = Playbook([failing(401), whole(), whole()], keys=2)
    assert (await play.run()).status == 200
    assert len(set(play.asked)) == 2
    assert [a.error for a in play.settled.attempts] == ["upstream_auth", ""]


async def test_s7_a_stall_before_output_fails_over_and_one_after_it_breaks_the_stream() -> None:
    quick = Timeouts(first_output=0.02, between_output=0.02)
    before = Playbook([streamed(STALL)], [streamed()], timeouts=quick)
    after = Playbook([streamed(WORD, STALL)], [streamed()], timeouts=quick)

    assert (await before.run(stream=True)).body == WORD + DONE
    broken = await after.run(stream=True)
    assert broken.body.startswith(WORD + b'data: {"error":{')
    assert b"[DONE]" not in broken.body


async def test_s7_the_deadline_ends_the_request_whatever_the_route_allows() -> None:
    play = Playbook([streamed(STALL)], [streamed()], deadline=0.02)
    reply = await play.run(stream=True)
    assert (reply.status, reply.json["error"]["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize(("steps", "output"), [((STALL,), 0), ((WORD, STALL), 1)])
async def test_s10_a_client_that_leaves_cancels_the_upstream_and_is_charged(steps: tuple[bytes], output: int) -> None:
    play = Playbook([streamed(*steps)])
    task = asyncio.create_task(play.run(stream=True))
    while not play.transports["up0"].open_now or (output and not play.reply.body):
        await asyncio.sleep(0)
    play.exchange.gone = True
    task.cancel()
    await task

    assert play.transports["up0"].open_now == 0
    assert (play.settled.state, play.settled.status) == (State.CANCELLED, 499)
    (attempt,) = play.settled.attempts
    assert (attempt.usage.estimated, attempt.usage.output) == (True, output)
    assert not play.reply.finished


async def test_s12_a_stream_that_the_gateway_ends_is_told_in_band() -> None:
    play = Playbook([streamed(WORD, STALL)])
    task = asyncio.create_task(play.run(stream=True))
    await play.reply.heard.wait()
    task.cancel()
    await task
    assert b'"code":"server_shutdown"' in play.reply.body
    assert play.settled.state is State.INTERRUPTED


async def test_f41_once_the_retry_budget_is_spent_the_answer_is_immediate() -> None:
    play = Playbook([failing(500)], [whole()])
    spent = play.dataplane.budgets
    spent.begin(("org", "m"), play.dataplane.monotonic())
    while spent.extra(("org", "m"), play.dataplane.monotonic(), cheap=False):
        spent.extra_done(("org", "m"))
    reply = await play.run()

    assert (reply.status, reply.json["error"]["code"]) == (503, "retry_budget_exhausted")
    assert reply.headers["x-should-retry"] == "false"
    assert int(reply.headers["retry-after"]) >= 1
    assert len(play.ledger.openings) == 1


async def test_a_failover_that_cost_no_upstream_any_work_needs_no_budget() -> None:
    play = Playbook([REFUSED], [whole()])
    spent = play.dataplane.budgets
    spent.begin(("org", "m"), play.dataplane.monotonic())
    while spent.extra(("org", "m"), play.dataplane.monotonic(), cheap=False):
        spent.extra_done(("org", "m"))
    assert (await play.run()).status == 200


async def test_an_unknown_model_is_a_404_and_no_attempt() -> None:
    play = Playbook([whole()])
    reply = await play.run(model="nobody")
    assert (reply.status, reply.json["error"]["code"]) == (404, "model_not_found")
    assert not play.ledger.openings
    assert not play.ledger.settlements


async def test_a_missing_key_is_a_401_that_names_the_remedy() -> None:
    play = Playbook([whole()])
    play.exchange.headers = {}
    reply = await play.run()
    assert (reply.status, reply.json["error"]["code"]) == (401, "missing_api_key")
    assert "Authorization" in reply.json["error"]["message"]


async def test_a_caller_may_lower_its_trust_ceiling_and_then_reaches_no_vendor() -> None:
    play = Playbook([whole()])
    play.exchange.headers = {**play.exchange.headers, b"x-intertie-trust": b"own"}
    reply = await play.run()
    assert reply.status == 503
    assert play.ledger.openings == []


async def test_an_unforeseen_error_is_a_500_with_the_request_id_and_settles() -> None:
    play = Playbook([ZeroDivisionError("secret detail")])
    reply = await play.run()
    assert (reply.status, reply.json["error"]["request_id"]) == (500, "req_1")
    assert "secret detail" not in reply.body.decode()
    assert play.settled.state is State.FAILED


async def test_a_large_answer_is_relayed_without_being_held() -> None:
    filler = b'{"data":"' + b"x" * (9 * 1024 * 1024)
    tail = b'","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":9}}'
    play = Playbook([Script(filler, tail, headers=JSON)])
    reply = await play.run()
    assert reply.body == filler + tail
    assert play.settled.attempts[0].usage == Usage(input=4, output=9)


async def test_s14_the_usage_of_a_large_answer_is_found_across_two_reads() -> None:
    filler = b'{"data":"' + b"x" * (9 * 1024 * 1024) + b'","choices":[],"usage":{"prompt_to'
    play = Playbook([Script(filler, b'kens":4,"completion_tokens":9}', b"}", headers=JSON)])
    await play.run()
    assert play.settled.attempts[0].usage == Usage(input=4, output=9)


async def test_f11_a_large_answer_that_breaks_off_is_charged_for_what_came() -> None:
    play = Playbook([Script(b'{"data":"' + b"x" * (9 * 1024 * 1024), UpstreamReset("reset"), headers=JSON)])
    with pytest.raises(BrokenReply):
        await play.run()
    (attempt,) = play.settled.attempts
    assert (attempt.state, attempt.usage.estimated) == (State.INTERRUPTED, True)
    assert attempt.usage.output > 2_000_000


async def test_s10_a_client_that_leaves_between_two_attempts_gives_the_next_target_back() -> None:
    play = Playbook([failing(500)], [whole()])
    released: list[tuple[str, str]] = []
    release = play.dataplane.health.release

    def noted(key: tuple[str, str], now: float) -> None:
        released.append(key)
        release(key, now)

    async def leave(_seconds: float) -> None:
        play.exchange.gone = True
        raise asyncio.CancelledError

    play.dataplane.health.release = noted  # type: ignore[method-assign]
    play.dataplane.sleep = leave
    await play.run()
    assert released == [("up1", "inner")]
    assert (play.settled.state, len(play.settled.attempts)) == (State.CANCELLED, 1)


async def test_the_words_of_an_upstream_never_become_labels_of_metrics() -> None:
    play = Playbook([failing(400, b'{"error":{"message":"no","code":"request_8f3a_is_wrong"}}')])
    reply = await play.run()
    assert reply.json["error"]["code"] == "request_8f3a_is_wrong"
    assert set(play.dataplane.counters.attempts) == {("name-up0", "invalid_request")}
    (tally,) = play.dataplane.counters.tallies.values()
    assert set(tally.failed) == {"invalid_request"}


async def test_s16_an_error_reaches_the_client_also_while_the_disk_fails() -> None:
    play = Playbook([failing(500)])
    durable = play.ledger.durable

    async def failing_disk() -> None:
        if play.ledger.settlements:
            raise LedgerUnavailable("the books cannot be written", retry_after=1)
        await durable()

    play.ledger.durable = failing_disk  # type: ignore[method-assign]
    reply = await play.run()
    assert (reply.status, reply.json["error"]["code"]) == (502, "upstream_failed")


async def test_a_caller_who_wants_embeddings_streamed_harms_no_target() -> None:
    play = Playbook([whole()])
    play.exchange.operation = Operation.EMBEDDING
    reply = await play.run(stream=True, input="x")
    assert (reply.status, reply.json["error"]["param"]) == (400, "stream")
    assert not play.ledger.openings


async def test_s1_a_client_that_waits_for_the_head_gets_a_comment_and_then_another_targets_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Soft commit: the head and a comment go out in the silence, and the failover is still free."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.005)
    monkeypatch.setattr(heartbeat, "KEEP_ALIVE_SECONDS", 0.01)
    play = Playbook([streamed(STALL)], [streamed()], timeouts=Timeouts(first_output=0.1))
    reply = await play.run(stream=True)

    assert reply.status == 200
    assert reply.body.startswith(b": keep-alive\n\n")
    assert reply.body.endswith(WORD + DONE)


async def test_s1_after_a_soft_commit_the_error_is_told_in_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.005)
    monkeypatch.setattr(heartbeat, "KEEP_ALIVE_SECONDS", 0.01)
    play = Playbook([streamed(STALL)], timeouts=Timeouts(first_output=0.1))
    reply = await play.run(stream=True)

    assert reply.status == 200
    assert b'"code":"upstream_timeout"' in reply.body
    assert b"[DONE]" not in reply.body
    assert play.settled.state is State.FAILED
