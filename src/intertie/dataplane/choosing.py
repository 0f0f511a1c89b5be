"""Who is asked next: another credential, another target, or the same target once more (S2)."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from intertie.core.errors import (
    GatewayError,
    Harm,
    NoTarget,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamExhausted,
)
from intertie.core.routing.candidate import Candidate, TargetKey
from intertie.core.terms import Credential, Upstream
from intertie.dataplane.exchange import Exchange, Who
from intertie.dataplane.parts import Dataplane

_OTHER_CREDENTIAL: Final = frozenset((Harm.PARK, Harm.EXHAUSTED, Harm.COOLDOWN))

MOST_ATTEMPTS: Final = 3
"""Sends per request, on its route and on all fallbacks together (S3)."""


class Choice(NamedTuple):
    """Whom to ask after a failure, and whether it is the target that has just failed."""

    who: Who
    same: bool


class Chooser:
    """Decides who of a plan is asked next, without asking.

    Whoever it names is admitted by health, and what the attempt may cost is taken; both are the caller's to give back.
    """

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
        self._last: Who | None = None
        self.errors: list[UpstreamError] = []

    def first(self, now: float) -> Who:
        """Whom to ask first. Raises `NoTarget` or `UpstreamBusy` if nobody can be asked now."""
        chosen = self._from_position(now)
        if chosen is None:
            raise self._outcome()
        return chosen

    def failed(self, who: Who, error: UpstreamError) -> None:
        """Whoever was asked has failed. Of attempts under way together, the others go on."""
        self._last = who
        self.errors.append(error)
        candidate, credential = who
        if error.harm in _OTHER_CREDENTIAL and credential is not None:
            self._refused.setdefault(candidate.upstream.id, set()).add(credential.id)

    def after(self, error: UpstreamError, now: float) -> Choice:
        """Whom to ask after the last one `failed` with `error`. Raises the error the client is to see if nobody is."""
        assert self._last is not None
        candidate, credential = self._last
        if not error.elsewhere or self._x.committed or self.spent:
            raise self._outcome()
        if error.harm in _OTHER_CREDENTIAL and credential is not None:
            other = self.d.credentials.pick(candidate.upstream, now, self._refused[candidate.upstream.id])
            if other is not None and self.d.health.admit(candidate.key, now):
                return Choice((candidate, other), same=False)
        self._position += 1
        chosen = self._from_position(now)
        if chosen is not None:
            return Choice(chosen, same=False)
        if error.again and not self._repeated and self.d.health.admit(candidate.key, now):
            self._repeated = True
            return Choice(self._last, same=True)
        raise self._outcome()

    def beside(self, first: Upstream, now: float) -> Who | None:
        """Somebody at another address than `first` to ask at the same time; he is not asked again after that.

        `None` if there is nobody in good health with room, or no limit has any.
        """
        for place in range(self._position + 1, len(self._candidates)):
            candidate = self._candidates[place]
            if not elsewhere(candidate, first, self.d) or not self._has_room(candidate):
                continue
            try:
                who = self._able(candidate, now)
            except GatewayError:  # no room for two attempts of this call: one goes on
                return None
            if who is not None:
                del self._candidates[place]
                return who
        return None

    @property
    def spent(self) -> bool:
        """The request has had all its attempts, or its route all that it allows."""
        x = self._x
        assert x.route is not None
        return x.tries >= MOST_ATTEMPTS or x.tries - self._begun >= x.route.max_attempts

    def crowded_out(self, candidate: Candidate) -> bool:
        """It is a node that has no room any more since the plan was made, and somebody behind it has."""
        if candidate.room is None or self._has_room(candidate):
            return False
        return any(not one.degraded and self._has_room(one) for one in self._candidates[self._position + 1 :])

    def _has_room(self, candidate: Candidate) -> bool:
        room = None if candidate.room is None else self.d.room(candidate.upstream, candidate.target.model)
        return room is None or (room.open and not room.full)

    def _from_position(self, now: float) -> Who | None:
        while self._position < len(self._candidates):
            candidate = self._candidates[self._position]
            if candidate.key not in self._set_back and self.crowded_out(candidate):
                # As the plan would have it now: behind all that have room, before those in trouble.
                self._set_back.add(candidate.key)
                healthy = sum(1 for one in self._candidates if not one.degraded)
                self._candidates.insert(healthy - 1, self._candidates.pop(self._position))
                continue
            if (who := self._able(candidate, now)) is not None:
                return who
            self._position += 1
        return None

    def _able(self, candidate: Candidate, now: float) -> Who | None:
        """The candidate with a credential, if it can be asked now. Raises what refuses the call."""
        upstream = candidate.upstream
        credential: Credential | None = None
        if upstream.credentials:
            credential = self.d.credentials.pick(upstream, now, self._refused.get(upstream.id, ()))
            if credential is None:
                wait = self.d.credentials.earliest(upstream, now)
                if wait is not None:
                    self._waits.append(wait)
                return None
        if self.d.health.admit(candidate.key, now) and self._claimed(candidate, now):
            return candidate, credential
        return None

    def _claimed(self, candidate: Candidate, now: float) -> bool:
        """Take what an attempt there may cost; false if the target is to be skipped. Raises what refuses the call."""
        full: GatewayError | None = None
        try:
            full = self.d.gate.claim(self._x, candidate, now)
        except GatewayError:
            self.d.health.release(candidate.key, now)
            raise
        if full is not None:
            self.d.health.release(candidate.key, now)
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
        wait = self.d.health.earliest([candidate.key for candidate in self._candidates], self.d.monotonic())
        return NoTarget("No target of this route can answer now.", retry_after=wait)


def elsewhere(candidate: Candidate, first: Upstream, d: Dataplane) -> bool:
    """It is in good health, and at another address than `first`: what slows the one does not slow the other."""
    return not candidate.degraded and _address(candidate.upstream, d) != _address(first, d)


def _address(upstream: Upstream, d: Dataplane) -> str:
    """Host and port; of a node, which has none, its id."""
    base = upstream.base_url or d.adapters[upstream.provider].base_url or ""
    return urlsplit(base).netloc or upstream.id
