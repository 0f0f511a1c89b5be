"""One attempt: one send to one target, in the books before its first byte and after its last."""

from __future__ import annotations

from typing import Final

from intertie.core.errors import GatewayError, NodeBusy, StreamBroken, UpstreamError, UpstreamTimeout
from intertie.core.ledger import Progress, State
from intertie.core.terms import Secret, Usage
from intertie.core.wire.openai_usage import estimate_input
from intertie.dataplane.account import close_attempt, opening
from intertie.dataplane.choosing import Chooser
from intertie.dataplane.exchange import Attempt, Exchange, Who
from intertie.dataplane.learning import learn, learned
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.relay import delivered, read_whole, relay_stream
from intertie.dataplane.reply import Reply
from intertie.dataplane.transport.contract import WireReply
from intertie.dataplane.watchdog import Watchdog

WHOLE_FACTOR: Final = 5
"""A whole answer shows nothing until its last token, so it may take this many times `first_output`."""

_SHORTEST_SECRET: Final = 6
_MAX_ERROR_BODY: Final = 64 * 1024


async def ask(x: Exchange, who: Who, reply: Reply, chooser: Chooser, *, hedge: bool = False) -> bytes:
    """Send once, to whom the chooser named. Returns the last bytes to send to the client.

    Closes the attempt's record and tells health however it ends; what the upstream did wrong is raised.
    """
    d = chooser.d
    attempt = _begin(x, who, d, hedge=hedge)
    try:
        d.ledger.open(opening(x, attempt))
        await d.ledger.durable()
        if chooser.crowded_out(attempt.candidate):
            # Calls that were planned together all waited here for the disk; the first of them took its slots.
            raise NodeBusy("The node takes no work now.", detail="its last slot was taken meanwhile")
        last = await _send(x, attempt, reply, d)
        if x.race is not None:
            x.race.win(attempt)
    except UpstreamError as error:
        _redact(error, attempt)
        broken = isinstance(error, StreamBroken)
        attempt.usage = (delivered(attempt.reader) or attempt.usage) if x.committed else None
        _close(x, attempt, State.INTERRUPTED if broken else State.FAILED, d, error)
        d.mark_failure(who, error)
        chooser.failed(who, error)
        raise
    except BaseException:
        d.health.release(attempt.candidate.key, d.monotonic())
        attempt.usage = _after_cancel(x, attempt, d)
        _close(x, attempt, _broken_off(x, attempt), d)
        raise
    _close(x, attempt, State.OK, d)
    d.mark_success(who, attempt.ttft)
    return last


def _begin(x: Exchange, who: Who, d: Dataplane, *, hedge: bool) -> Attempt:
    attempt = Attempt(x.tries + 1, *who, hedge=hedge)
    try:
        attempt.started_at = d.gate.reserve(x, attempt)
    except BaseException:
        d.health.release(who[0].key, d.monotonic())
        raise
    x.tries += 1
    x.served = attempt.candidate
    x.running = attempt
    x.live.append(attempt)
    if x.race is not None:
        x.race.enter(attempt)
    attempt.started = d.monotonic()
    learn(x, attempt, d)
    return attempt


async def _send(x: Exchange, attempt: Attempt, reply: Reply, d: Dataplane) -> bytes:
    assert x.call is not None
    upstream = attempt.candidate.upstream
    adapter = d.adapters[upstream.provider]
    request = adapter.request(x.call, attempt.candidate.target, upstream)
    secret: Secret | None = attempt.credential.secret if attempt.credential else None
    try:
        patience = upstream.timeouts.first_output * (1 if x.call.stream else WHOLE_FACTOR)
        with Watchdog(attempt.started + patience, x.deadline) as watch:
            async with d.transports.of(upstream).open(request, secret, attempt.was_sent) as wire:
                attempt.status = wire.head.status
                if not 200 <= wire.head.status < 300:
                    raise adapter.classify(wire.head, await _error_body(wire), d.wall())
                if not x.call.stream:
                    return await read_whole(x, attempt, wire, adapter, reply, watch)
                attempt.reader = adapter.reader(x.call, wire.head)
                if x.holding is not None and x.holding.bound is not None:
                    attempt.reader = x.holding.capped(attempt.reader, x.call)
                await relay_stream(x, attempt, wire, reply, watch)
                return b""
    except UpstreamTimeout as error:
        # The watchdog cannot know whether output had begun; a stall after it is a broken stream, not a timeout.
        if x.committed:
            raise StreamBroken("The answer broke off: the upstream stalled midway.", detail=str(error)) from None
        raise


async def _error_body(wire: WireReply) -> bytes:
    """The first bytes of an error answer; a body that breaks off still has its status."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size < _MAX_ERROR_BODY and (chunk := await wire.chunk()) is not None:
            pieces.append(chunk)
            size += len(chunk)
    except UpstreamError:
        return b"".join(pieces)
    return b"".join(pieces)


def _redact(error: UpstreamError, attempt: Attempt) -> None:
    """Take out of what the upstream said whatever secret it was sent: patterns cannot know a custom header (T39)."""
    secrets = list(attempt.candidate.upstream.headers.values())
    if attempt.credential is not None:
        secrets.append(attempt.credential.secret.reveal())
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            error.public = error.public.replace(secret, "[removed]")
            error.detail = error.detail.replace(secret, "[removed]")


def _broken_off(x: Exchange, attempt: Attempt) -> State:
    """How an attempt ends that is not to go on, through no fault of its target."""
    if attempt.beaten:
        return State.BEATEN
    if x.gone:
        return State.CANCELLED
    return State.INTERRUPTED if x.committed else State.FAILED


def _after_cancel(x: Exchange, attempt: Attempt, d: Dataplane) -> Usage | None:
    """What a cancelled attempt is charged (S10): what was delivered, or the input if the vendor bills it."""
    assert x.call is not None
    usage = delivered(attempt.reader) or attempt.usage
    if usage is None and attempt.sent and d.adapters[attempt.candidate.upstream.provider].bills_cancelled:
        usage = Usage(input=estimate_input(x.call.fields), estimated=True)
    return usage


def _close(x: Exchange, attempt: Attempt, state: State, d: Dataplane, error: GatewayError | None = None) -> None:
    now = d.monotonic()
    learned(x, attempt, d, now, well=state is State.OK)
    if state is not State.BEATEN:
        x.upstream_seconds += now - attempt.started
    attempt.usage = d.gate.within(x, attempt.usage)
    if state is State.FAILED and attempt.usage is None:
        # Before what it held is others' to take: or a crash while the next try waits would charge it all the same.
        d.ledger.progress(Progress(x.id, attempt.n, 0, failed=True))
    d.gate.close(attempt, close_attempt(x, attempt, state, now, error), now)
    x.live.remove(attempt)
