"""The path of one request: authenticate, peek, resolve, admit, plan, attempt, relay, settle."""

from __future__ import annotations

import asyncio

from intertie.core.errors import BadCall, Bug, ClientGone, GatewayError
from intertie.core.ledger import State
from intertie.core.routing.resolve import resolve, resolve_direct
from intertie.core.wire.envelope import peek
from intertie.core.wire.openai_errors import error_event, error_object
from intertie.core.wire.sse import DONE_EVENT
from intertie.dataplane.account import settlement
from intertie.dataplane.authenticate import authenticate
from intertie.dataplane.cache import answered, concerns, keep, let_go
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.facts import survey
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.placing import placed
from intertie.dataplane.reply import Reply, error_head, whole_head
from intertie.dataplane.shedding import unfinished


async def serve(x: Exchange, reply: Reply, d: Dataplane) -> None:
    """Answer one request, whatever happens: exactly one settlement, one count, one log line."""
    d.counters.in_flight += 1
    try:
        last = await _answer(x, reply, d)
        x.state, x.status = State.OK, 200
        _settle(x, d)
        await d.ledger.durable()
        if x.leads:
            await keep(x, d)
        if x.call is not None and x.call.stream:
            await reply.finish(DONE_EVENT)
        else:
            if not reply.started:
                await reply.start(200, whole_head(x, d.monotonic(), priced=True), len(last))
            await reply.finish(last)
    except GatewayError as error:
        await _refuse(x, error, reply, d)
    except asyncio.CancelledError:
        await _cancelled(x, reply, d)
    except Exception as error:  # noqa: BLE001 (the border where anything unforeseen becomes a 500 with a request id)
        d.log.event("bug", request_id=x.id, error=f"{type(error).__name__}: {error}"[:500], where=_where(error))
        await _refuse(x, Bug("The gateway failed on this request; its log has the request id."), reply, d)
    finally:
        if x.leads:
            let_go(x, d)
        d.gate.release(x)
        d.counters.in_flight -= 1
        now = d.monotonic()
        d.counters.finished(x, now)
        d.log.finished(x, now)
        if x.route is not None and x.route.shadow is not None:
            d.mirror(x)


async def _answer(x: Exchange, reply: Reply, d: Dataplane) -> bytes:
    """Everything up to the last bytes, which wait until the books have the request."""
    if x.route is None:
        _begin(x, d)
    x.deadline = x.started + _deadline(x)
    if (turn := d.gate.admit(x)) is not None:
        await turn
    if concerns(x):
        return await answered(x, reply, d, lambda recorder: placed(x, recorder, d))
    return await placed(x, reply, d)


def _begin(x: Exchange, d: Dataplane) -> None:
    """Who calls, what for, and on which route. An errand comes with all of that."""
    x.snapshot = d.snapshots.current
    x.caller = authenticate(x.headers, x.snapshot, d.hash_key, d.wall())
    d.shedder.admit()
    x.call = peek(x.body, x.operation, x.id)
    x.body = b""
    if x.direct is None:
        x.route = resolve(x.call, x.caller, x.snapshot)
    else:
        x.route = resolve_direct(x.call, x.caller, x.snapshot, x.direct)
    survey(x, d)


def _deadline(x: Exchange) -> float:
    """Seconds this request may take: the route's, or less if the caller says so."""
    assert x.route is not None
    asked = x.headers.get(b"x-intertie-deadline-ms")
    if asked is None:
        return x.route.deadline
    if not asked.isdigit() or not 0 < len(asked) <= 9 or int(asked) == 0:
        raise BadCall("'x-intertie-deadline-ms' must be a whole number of milliseconds.")
    return min(x.route.deadline, int(asked) / 1000)


def _settle(x: Exchange, d: Dataplane) -> None:
    """Write the final account, once. Only an answer waits for the disk: an error must not fail on its way out."""
    if x.settled:
        return
    x.account = settlement(x, d.monotonic())
    if x.account is not None:
        d.ledger.settle(x.account)
    x.settled = True
    d.gate.booked(x)


async def _refuse(x: Exchange, error: GatewayError, reply: Reply, d: Dataplane) -> None:
    """Tell the client what went wrong: as an answer, or in-band without a terminal marker once a stream has begun."""
    x.error = error
    x.state = State.INTERRUPTED if x.committed else State.FAILED
    x.status = error.status
    _settle(x, d)
    if not reply.started:
        body = error_object(error, x.id, x.tries)
        await reply.start(error.status, error_head(x, error), len(body))
        await reply.finish(body)
    elif x.call is not None and x.call.stream:
        await reply.finish(error_event(error, x.id, x.tries))
    else:
        raise BrokenReply(error)


async def _cancelled(x: Exchange, reply: Reply, d: Dataplane) -> None:
    """The client left, or the gateway is stopping. Neither is a reason to go unaccounted."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    if not x.gone:
        await _refuse(x, unfinished(x.stopped), reply, d)
        return
    x.error = ClientGone("The client closed the connection.")
    x.state, x.status = State.CANCELLED, 499
    _settle(x, d)


class BrokenReply(Exception):
    """A whole answer broke off after its head went out: the door must drop the connection, so the client notices."""


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace is not None else ""
