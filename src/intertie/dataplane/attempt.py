"""From a plan to an answer: which target is asked next, and what one attempt does."""

from __future__ import annotations

from typing import Final

from intertie.core.errors import (
    GatewayError,
    Harm,
    NodeBusy,
    NoTarget,
    RetryBudgetSpent,
    StreamBroken,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamExhausted,
    UpstreamTimeout,
)
from intertie.core.routing.plan import Candidate, TargetKey
from intertie.core.routing.retry_budget import backoff
from intertie.core.terms import Credential, Progress, Secret, State, Usage
from intertie.core.wire.openai_usage import estimate_input
from intertie.dataplane.account import close_attempt, opening
from intertie.dataplane.exchange import Attempt, Exchange
from intertie.dataplane.learning import learn, learned
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.relay import delivered, follow, read_whole, relay_stream
from intertie.dataplane.reply import Reply
from intertie.dataplane.transport.contract import WireReply
from intertie.dataplane.watchdog import Watchdog

WHOLE_FACTOR: Final = 5
"""A whole answer shows nothing until its last token, so it may take this many times `first_output`."""

_OTHER_CREDENTIAL: Final = frozenset((Harm.PARK, Harm.EXHAUSTED, Harm.COOLDOWN))
_SHORTEST_SECRET: Final = 6
_MAX_ERROR_BODY: Final = 64 * 1024


class Chooser:
    """Decides who is asked next, without asking: other credential, other target, same target again."""

    def __init__(self, x: Exchange, candidates: tuple[Candidate, ...], d: Dataplane) -> None:
        self._x = x
        self.d = d
        self._candidates = list(candidates)
        self._position = 0
        self._set_back: set[TargetKey] = set()
        self._begun = x.tries
        self._refused: dict[str, set[str]] = {}
        self._repeated = False
        self._waits: list[float] = []
        self._full: list[GatewayError] = []
        self.errors: list[UpstreamError] = []

    def first(self, now: float) -> tuple[Candidate, Credential | None]:
        """Whom to ask first. Raises `NoTarget` or `UpstreamBusy` if nobody can be asked now."""
        chosen = self._from_position(now)
        if chosen is None:
            raise self._outcome()
        return chosen

    def after(self, error: UpstreamError, last: tuple[Candidate, Credential | None], now: float) -> _Choice:
        """Whom to ask after `error`. Raises the error the client is to see if nobody is left."""
        self.errors.append(error)
        candidate, credential = last
        assert self._x.route is not None
        if not error.elsewhere or self._x.committed or self._x.tries - self._begun >= self._x.route.max_attempts:
            raise self._outcome()
        if error.harm in _OTHER_CREDENTIAL and credential is not None:
            refused = self._refused.setdefault(candidate.upstream.id, set())
            refused.add(credential.id)
            other = self.d.credentials.pick(candidate.upstream, now, refused)
            if other is not None and self.d.health.admit(_key(candidate), now):
                return _Choice(candidate, other, same=False)
        self._position += 1
        chosen = self._from_position(now)
        if chosen is not None:
            return _Choice(*chosen, same=False)
        if error.again and not self._repeated and self.d.health.admit(_key(candidate), now):
            self._repeated = True
            return _Choice(candidate, credential, same=True)
        raise self._outcome()

    def crowded_out(self, candidate: Candidate) -> bool:
        """It is a node that has no room any more since the plan was made, and somebody behind it has."""
        if candidate.room is None or self._has_room(candidate):
            return False
        return any(not one.degraded and self._has_room(one) for one in self._candidates[self._position + 1 :])

    def _has_room(self, candidate: Candidate) -> bool:
        room = None if candidate.room is None else self.d.room(candidate.upstream, candidate.target.model)
        return room is None or (room.open and not room.full)

    def _from_position(self, now: float) -> tuple[Candidate, Credential | None] | None:
        while self._position < len(self._candidates):
            candidate = self._candidates[self._position]
            if candidate.key not in self._set_back and self.crowded_out(candidate):
                # As the plan would have it now: behind all that have room, before those in trouble.
                self._set_back.add(candidate.key)
                healthy = sum(1 for one in self._candidates if not one.degraded)
                self._candidates.insert(healthy - 1, self._candidates.pop(self._position))
                continue
            upstream = candidate.upstream
            credential = None
            if upstream.credentials:
                credential = self.d.credentials.pick(upstream, now, self._refused.get(upstream.id, ()))
                if credential is None:
                    wait = self.d.credentials.earliest(upstream, now)
                    if wait is not None:
                        self._waits.append(wait)
            able = credential is not None or not upstream.credentials
            if able and self.d.health.admit(_key(candidate), now) and self._claimed(candidate, now):
                return candidate, credential
            self._position += 1
        return None

    def _claimed(self, candidate: Candidate, now: float) -> bool:
        """Take what an attempt there may cost; false if the target is to be skipped. Raises what refuses the call."""
        full: GatewayError | None = None
        try:
            full = self.d.gate.claim(self._x, candidate)
        except GatewayError:
            self.d.health.release(_key(candidate), now)
            raise
        if full is not None:
            self.d.health.release(_key(candidate), now)
            self._full.append(full)
        return full is None

    def _outcome(self) -> GatewayError:
        """What the client is told when nobody is left: a wait if that helps, else the last error that is not ours."""
        busy = [error.retry_after or 1.0 for error in self.errors if isinstance(error, UpstreamBusy)]
        if busy and len(busy) == len(self.errors):
            last = self.errors[-1]
            last.retry_after = min(busy + self._waits)
            return last
        if self.errors:
            others = [e for e in self.errors if not isinstance(e, UpstreamDenied | UpstreamExhausted)]
            return others[-1] if others else self.errors[-1]
        if self._full:
            return min(self._full, key=lambda error: error.retry_after or 0.0)
        if self._waits:
            return UpstreamBusy("Every credential of this route's upstreams is resting.", retry_after=min(self._waits))
        wait = self.d.health.earliest([_key(candidate) for candidate in self._candidates], self.d.monotonic())
        return NoTarget("No target of this route can answer now.", retry_after=wait)


class _Choice:
    __slots__ = ("same", "who")

    def __init__(self, candidate: Candidate, credential: Credential | None, *, same: bool) -> None:
        self.who = (candidate, credential)
        self.same = same


async def answer(x: Exchange, candidates: tuple[Candidate, ...], reply: Reply, d: Dataplane) -> bytes:
    """Ask until one answers; returns the last bytes to send, which wait for the books. Raises what the client sees."""
    assert x.caller is not None
    assert x.route is not None
    group = (x.caller.organisation, x.route.model)
    chooser = Chooser(x, candidates, d)
    d.budgets.begin(group, d.monotonic())
    # From before the first attempt, so that connecting, waiting for a head and going elsewhere are comforted, too (S1).
    heartbeat = follow(x, reply, lambda: _checkpoint(x, d)) if x.call is not None and x.call.stream else None
    extra = False
    try:
        who = chooser.first(d.monotonic())
        while True:
            try:
                return await _attempt(x, who, reply, chooser)
            except UpstreamError as error:
                d.mark_failure(who, error)
                now = d.monotonic()
                choice = chooser.after(error, who, now)
                if extra:
                    d.budgets.extra_done(group)
                    extra = False
                who = choice.who
                if error.cheap and not choice.same:
                    # No upstream did any work, so going elsewhere amplifies nothing (decision 0007).
                    continue
                if not d.budgets.extra(group, now, error.cheap):  # noqa: S610 (not a Django query)
                    d.health.release(_key(who[0]), now)
                    raise RetryBudgetSpent(
                        "Too many recent requests had to be retried, so this one is not.",
                        detail=str(error),
                        retry_after=5,
                    ) from None
                extra = True
                d.gate.close(x, None)  # nothing is held while nobody is asked
                try:
                    await _rest(x, backoff(x.tries, d.rng, choice.same), d)
                except BaseException:  # the client left: what was claimed is not asked after all
                    d.health.release(_key(who[0]), d.monotonic())
                    raise
    finally:
        if heartbeat is not None:
            heartbeat.stop()
        if extra:
            d.budgets.extra_done(group)
        d.budgets.end(group)


async def _rest(x: Exchange, delay: float, d: Dataplane) -> None:
    """Wait before the next attempt: at most a quarter of the time left, and never past ten seconds (S3)."""
    delay = min(delay, 0.25 * (x.deadline - d.monotonic()), 10.0)
    if delay > 0:
        await d.sleep(delay)


async def _attempt(x: Exchange, who: tuple[Candidate, Credential | None], reply: Reply, chooser: Chooser) -> bytes:
    """Send once. Returns the last bytes to send to the client; closes the attempt's record however it ends."""
    d = chooser.d
    try:
        at = d.gate.reserve(x, who[0])
    except BaseException:
        d.health.release(_key(who[0]), d.monotonic())
        raise
    x.tries += 1
    attempt = Attempt(x.tries, *who)
    x.served = attempt.candidate
    x.running = attempt
    attempt.started = d.monotonic()
    attempt.started_at = at
    learn(x, attempt, d)
    try:
        d.ledger.open(opening(x, attempt))
        await d.ledger.durable()
        if chooser.crowded_out(attempt.candidate):
            # Calls that were planned together all waited here for the disk; the first of them took its slots.
            raise NodeBusy("The node takes no work now.", detail="its last slot was taken meanwhile")
        last = await _send(x, attempt, reply, d)
    except UpstreamError as error:
        _redact(error, attempt)
        broken = isinstance(error, StreamBroken)
        attempt.usage = (delivered(attempt.reader) or attempt.usage) if x.committed else None
        _close(x, attempt, State.INTERRUPTED if broken else State.FAILED, d, error)
        raise
    except BaseException:
        d.health.release(_key(attempt.candidate), d.monotonic())
        attempt.usage = _after_cancel(x, attempt, d)
        ended = State.INTERRUPTED if x.committed else State.FAILED
        _close(x, attempt, State.CANCELLED if x.gone else ended, d)
        raise
    _close(x, attempt, State.OK, d)
    d.mark_success(who, attempt.ttft)
    return last


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


def _checkpoint(x: Exchange, d: Dataplane) -> None:
    """Every two seconds of a stream with output: what a crash may lose, and the end of a target's trial."""
    attempt = x.running
    if attempt is not None and attempt.reader is not None and x.committed:
        d.ledger.progress(Progress(x.id, attempt.n, attempt.reader.output_so_far))
        d.health.answering(_key(attempt.candidate), d.monotonic())


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
    x.upstream_seconds += now - attempt.started
    attempt.usage = d.gate.within(x, attempt.usage)
    if state is State.FAILED and attempt.usage is None:
        # Before what it held is others' to take: or a crash while the next try waits would charge it all the same.
        d.ledger.progress(Progress(x.id, attempt.n, 0, failed=True))
    close_attempt(x, attempt, state, now, error)
    d.gate.close(x, x.attempts[-1])


def _key(candidate: Candidate) -> tuple[str, str]:
    return candidate.upstream.id, candidate.target.model
