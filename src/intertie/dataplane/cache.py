"""The cache step of a request: an answer that was kept, one that an equal call is waiting for, or a bought one.

A request that buys an answer others may get *leads*: from then on it owes its followers a landing, which `keep` or
`let_go` give, whatever happens to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from msgspec.structs import replace

from intertie.core.errors import AnswerLost, KeyInUse, KeyReused
from intertie.core.ledger import State
from intertie.core.policy.answers import (
    CONTROL,
    IDEMPOTENCY_KEY,
    Control,
    Form,
    Kept,
    Space,
    body_digest,
    cache_key,
    control,
    idempotency_key,
    may_give,
)
from intertie.core.routing.resolve import ANY
from intertie.core.terms import NODE, Call, Route
from intertie.core.wire import unfold
from intertie.core.wire.canonical import Ambiguous
from intertie.core.wire.sse import KEEP_ALIVE, event
from intertie.dataplane import similar
from intertie.dataplane.answers import Answers
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.flights import Flight, Lead, Recording, Turn
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.relay import follow
from intertie.dataplane.reply import Reply, stream_head

P = ParamSpec("P")
T = TypeVar("T")

Buy = Callable[[Reply], Awaitable[bytes]]

MAX_KEPT: Final = 1024 * 1024
"""Bytes of the largest answer that the cache keeps."""

MAX_REPLAYED: Final = 8 * 1024 * 1024
"""Bytes of the largest answer that an idempotency key keeps."""

DAY: Final = 86_400.0
"""Seconds for which an idempotency key gives its answer again."""

_PIECE: Final = 64 * 1024
"""Bytes that go out between two looks at whether the client keeps up."""

_LARGE: Final = 64 * 1024
"""Bytes from which on an answer is taken apart in a thread."""


def concerns(x: Exchange) -> bool:
    """True if this step has anything to do for a request that has a route."""
    assert x.route is not None
    return x.route.cache is not None or IDEMPOTENCY_KEY in x.headers or CONTROL in x.headers


async def answered(x: Exchange, reply: Reply, d: Dataplane, buy: Buy) -> bytes:
    """The last bytes to send, as `attempt.answer` gives them, from wherever the answer comes."""
    answers = d.answers
    asked = control(x.headers.get(CONTROL))
    if answers is None:
        return await buy(reply)
    presented = x.headers.get(IDEMPOTENCY_KEY)
    if presented is not None:
        kept = await _of_this_key(x, reply, d, answers, presented)
        if kept is not None and (last := await _give(x, reply, kept, d)) is not None:
            return last
    if (kept := await _of_equal_calls(x, reply, d, answers, asked)) is not None:
        if (last := await _give(x, reply, kept, d)) is not None:
            return last
        x.cache = "miss"
    if not x.leads:
        return await buy(reply)
    limit = MAX_REPLAYED if x.leads[0].space is Space.IDEMPOTENCY else MAX_KEPT
    recorder = Recorder(reply, Recording(limit))
    for lead in x.leads:
        lead.recording = recorder.recording
    last = await buy(recorder)
    recorder.recording.add(last)
    return last


async def keep(x: Exchange, d: Dataplane) -> None:
    """The answer is booked and about to end: what followers and later calls may have of it is theirs from here on.

    An idempotency key's answer is on the disk before the client has the end of it.
    """
    answers = d.answers
    assert answers is not None
    for lead in x.leads:
        if lead.over:
            continue
        lead.over = True
        task = answers.background(_land(x, lead, answers, d))
        if lead.space is Space.IDEMPOTENCY:
            await asyncio.shield(task)


def let_go(x: Exchange, d: Dataplane) -> None:
    """The request is over. Where it leads still, the next one takes its place."""
    for lead in x.leads:
        if not lead.over and d.answers is not None:
            lead.over = True
            if lead.flight is not None:
                d.answers.flights.land(lead.key, lead.flight, None, failed=x.state is not State.CANCELLED)


# -- who has the answer ----------------------------------------------------------------------------------------------


async def _of_this_key(x: Exchange, reply: Reply, d: Dataplane, answers: Answers, presented: bytes) -> Kept | None:
    """The answer that this idempotency key has had or is getting; `None`: this request gets it for the key."""
    assert x.caller is not None
    assert x.call is not None
    key = idempotency_key(presented, x.caller, (x.operation, x.direct or ""), answers.salt)
    digest = body_digest(_as_it_came(x))
    flight = answers.flights.under_way(key)
    given = "hit"
    if flight is None:
        flight = answers.flights.lead(key, patient=True)
        lead = _lead(x, answers, key, flight, Space.IDEMPOTENCY)
        kept = await answers.store.get(key, Space.IDEMPOTENCY)
        if kept is None or d.wall() >= kept.expires_at:
            flight.digest = digest
            return None
        lead.over = True
        answers.flights.land(key, flight, kept)
    else:
        if flight.digest and flight.digest != digest:
            raise _reused()
        if answers.flights.full(flight):
            raise KeyInUse("Too many requests wait for this Idempotency-Key's answer.", retry_after=5)
        x.cache = given = "coalesced"
        outcome = await _wait(x, reply, d, key, flight)
        x.cache = ""
        if outcome is Turn.LEAD:
            flight.digest = digest
            _lead(x, answers, key, flight, Space.IDEMPOTENCY)
            return None
        if outcome is Turn.ALONE:
            raise KeyInUse("The request with this Idempotency-Key failed; send it again.", retry_after=1)
        kept = outcome
    if kept.digest != digest:
        raise _reused()
    if kept.form is Form.LOST:
        raise AnswerLost("This Idempotency-Key was answered, and the answer was too large to keep. Use a new key.")
    x.cache = given
    return kept


async def _of_equal_calls(x: Exchange, reply: Reply, d: Dataplane, answers: Answers, asked: Control) -> Kept | None:
    """The answer that an equal call has had or is getting; `None`: this request buys, and leads if it may."""
    assert x.route is not None
    policy = x.route.cache
    if policy is None:
        return None
    key = _key(x, answers) if asked.write else None
    x.cache = "bypass" if key is None else "miss"
    if key is None:
        return None
    x.cache_key = key.hex()
    flight = answers.flights.under_way(key)
    if not asked.read:
        _lead(x, answers, key, None if flight is not None else answers.flights.lead(key), Space.CACHE)
        return None
    kept = answers.store.remembered(key)
    if kept is not None and may_give(kept, policy, asked, d.wall()):
        x.cache = "hit"
        return kept
    if flight is None:
        flight = answers.flights.lead(key)
        lead = _lead(x, answers, key, flight, Space.CACHE)
        kept = await answers.store.get(key)
        given = "hit"
        if kept is None or not may_give(kept, policy, asked, d.wall()):
            kept, given = await similar.found(x, lead, asked, d), "similar"
        if kept is None:
            return None
        lead.over = True
        answers.flights.land(key, flight, kept)
        x.cache = given
        return kept
    outcome: Kept | Turn = Turn.ALONE
    if not answers.flights.full(flight):
        x.cache = "coalesced"
        outcome = await _wait(x, reply, d, key, flight)
    if isinstance(outcome, Kept) and may_give(outcome, policy, asked, d.wall()):
        return outcome
    x.cache = "miss"
    _lead(x, answers, key, flight if outcome is Turn.LEAD else None, Space.CACHE)
    return None


def _key(x: Exchange, answers: Answers) -> bytes | None:
    """What equal calls have in common; `None` for a call that nothing equals, or that is to be filed at the vendor."""
    assert x.call is not None
    assert x.caller is not None
    assert x.route is not None
    if x.call.lasting:
        return None
    placing = answers.placing(x.route, x.snapshot)
    try:
        return cache_key(x.call, x.caller, x.route, salt=answers.salt, restriction=x.restriction, placing=placing)
    except Ambiguous:
        return None


def _as_it_came(x: Exchange) -> Call:
    """The call without a bound that is not its client's: that one may be another when the client tries again."""
    assert x.call is not None
    return x.call if x.holding is None or x.holding.asked is None else x.holding.asked


def _lead(x: Exchange, answers: Answers, key: bytes, flight: Flight | None, space: Space) -> Lead:
    lead = Lead(key, flight, space, answers.store.clearings)
    x.leads = (*x.leads, lead)
    return lead


async def _wait(x: Exchange, reply: Reply, d: Dataplane, key: bytes, flight: Flight) -> Kept | Turn:
    """Follow, with the comments that any silent stream gets."""
    assert d.answers is not None
    heartbeat = follow(x, reply, _no_checkpoint) if x.call is not None and x.call.stream else None
    try:
        return await d.answers.flights.follow(key, flight, x.deadline - d.monotonic())
    except BaseException:
        assert x.route is not None
        x.cache = "miss" if x.route.cache is not None else ""  # it ends without an answer
        raise
    finally:
        if heartbeat is not None:
            heartbeat.stop()


def _no_checkpoint() -> None:
    """A follower has nothing that a crash could lose."""


def _reused() -> KeyReused:
    return KeyReused("This Idempotency-Key came with another body before. Use a new key for a new request.")


# -- giving and keeping ----------------------------------------------------------------------------------------------


class Recorder:
    """A client's answer that is kept on its way out. Comments are the gateway's own and no part of it."""

    __slots__ = ("_reply", "recording")

    def __init__(self, reply: Reply, recording: Recording) -> None:
        self._reply = reply
        self.recording = recording

    def __repr__(self) -> str:
        return f"<Recorder {self.recording!r}>"

    @property
    def started(self) -> bool:
        """The head has gone out."""
        return self._reply.started

    @started.setter
    def started(self, value: bool) -> None:
        self._reply.started = value

    async def start(self, status: int, head: bytes, length: int | None) -> None:
        """See `Reply`; so for the rest."""
        await self._reply.start(status, head, length)

    async def write(self, body: bytes) -> None:
        """Send part of the body."""
        if body != KEEP_ALIVE:
            self.recording.add(body)
        await self._reply.write(body)

    def put(self, body: bytes) -> bool:
        """Send part of the body without waiting."""
        self.recording.add(body)
        return self._reply.put(body)

    async def drained(self) -> None:
        """Return once the client has caught up."""
        await self._reply.drained()

    async def finish(self, body: bytes = b"") -> None:
        """Send the last part of the body."""
        await self._reply.finish(body)


async def _give(x: Exchange, reply: Reply, kept: Kept, d: Dataplane) -> bytes | None:
    """Give a kept answer in the form that is asked for; `None` if it cannot be brought into that form."""
    assert x.call is not None
    try:
        body, usage = await _off_loop(len(kept.body), _formed, kept, x.call.stream)
    except ValueError:
        return None
    x.replayed = kept
    x.ttft = d.monotonic() - x.started
    if not x.call.stream:
        return body
    x.committed = True
    if not reply.started:
        await reply.start(200, stream_head(x), None)
    for at in range(0, len(body), _PIECE):
        await reply.write(body[at : at + _PIECE])
    if usage and x.call.wants_usage:
        await reply.write(event(usage))
    return b""


def _formed(kept: Kept, stream: bool) -> tuple[bytes, bytes]:  # noqa: FBT001 (called through a thread)
    """Body and usage event in the form asked for. Raises `ValueError`."""
    if stream:
        return (kept.body, kept.usage) if kept.form is Form.EVENTS else unfold.unfold(kept.body)
    return (kept.body if kept.form is Form.WHOLE else unfold.whole(kept.body, kept.usage)), b""


async def _land(x: Exchange, lead: Lead, answers: Answers, d: Dataplane) -> None:
    kept = None
    try:
        kept = await _kept(x, lead, d.wall())
    finally:
        if lead.flight is not None:
            answers.flights.land(lead.key, lead.flight, kept, failed=True)
    # Nothing waits between landing and storing: whoever comes now finds the one or the other.
    if kept is not None and lead.clearings == answers.store.clearings:
        await answers.store.put(lead.key, kept)
        similar.remember(x, lead, d)


async def _kept(x: Exchange, lead: Lead, now: float) -> Kept | None:
    """The answer of a request that ended well, as its lead keeps it; `None` if it is not to be given again."""
    assert x.call is not None
    assert x.route is not None
    for_key = lead.space is Space.IDEMPOTENCY
    digest = body_digest(_as_it_came(x)) if for_key else b""
    expires_at = now + (DAY if for_key or x.route.cache is None else x.route.cache.ttl)
    recording = lead.recording
    if recording is None:
        assert x.replayed is not None
        return replace(x.replayed, space=lead.space, digest=digest, made_at=now, expires_at=expires_at)
    form, body, usage = (Form.EVENTS if x.call.stream else Form.WHOLE), b"".join(recording.pieces), b""
    lost = recording.lost or (recording.size > MAX_KEPT and not for_key)
    expected = unfold.expected(x.call.fields, x.operation)
    if lost:
        form, body, complete = Form.LOST, b"", False
    elif x.call.stream:
        sifted = await _off_loop(len(body), unfold.sift, body, expected)
        complete, body, usage = sifted.complete, sifted.events, sifted.usage
        if not usage and x.running is not None and x.running.reader is not None:
            usage = x.running.reader.unasked
    else:
        complete = await _off_loop(len(body), unfold.is_complete, body, x.operation, expected)
    assert x.served is not None
    upstream = x.served.upstream
    if not for_key and not (complete and _is_own(x.route, upstream.id, x.served.target.model)):
        return None
    return Kept(
        space=lead.space,
        form=form,
        body=body,
        usage=usage,
        organisation=x.route.organisation,
        route=x.route.model,
        upstream=upstream.name,
        model=x.served.target.model,
        node=upstream.provider == NODE,
        cost=next(one.cost for one in reversed(x.attempts) if one.state is State.OK),
        made_at=now,
        expires_at=expires_at,
        digest=digest,
        request=x.id,
    )


def _is_own(route: Route, upstream: str, model: str) -> bool:
    """True if the route itself names this target. What a fallback says depends on more than the key of a call."""
    return any(target.upstream == upstream and target.model in (ANY, model) for target in route.targets)


async def _off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work`, in a thread if there is much of it: a large answer must not hold everybody else up."""
    if size < _LARGE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
