"""Which of an upstream's credentials signs the next attempt (S2: 401 parks one, 402 exhausts one, 429 cools one)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Final

import msgspec

from intertie.core.errors import GatewayError, Harm
from intertie.core.terms import Credential, Upstream

LONGEST_COOLDOWN: Final = 300.0
FIRST_COOLDOWN: Final = 5.0
LONGEST_GUESS: Final = 60.0
"""Without a hint: rate limits count per minute, so waiting longer than one gains nothing."""
FIRST_EXHAUSTION: Final = 300.0
LONGEST_EXHAUSTION: Final = 3600.0
"""Without a hint. Short against a quota's window on purpose: people top accounts up within minutes, and finding out
that nobody did costs one cheap failover."""
LONGEST_RESET: Final = 86_400.0
LIMIT: Final = 4096
"""Upstreams remembered."""


class CredentialState(StrEnum):
    """Why a credential is or was set aside."""

    USABLE = "usable"
    COOLING = "cooling"
    EXHAUSTED = "exhausted"
    PARKED = "parked"


class CredentialHealth(msgspec.Struct, frozen=True):
    """One credential that is or was lately set aside. Never holds the secret."""

    upstream: str
    """`Upstream.id`."""
    credential: str
    """`Credential.id`."""
    state: CredentialState
    code: str
    """The error that set it aside."""
    since: float
    """Seconds ago."""
    retry_in: float | None
    """Seconds until it is used again; `None` if parked (an operator must act) or usable."""


Alert = Callable[[Upstream, Credential, GatewayError], None]


class _Aside:
    """What is remembered of one credential that failed."""

    __slots__ = ("code", "credential", "since", "state", "strikes", "until")

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.state = CredentialState.USABLE
        self.code = ""
        self.since = 0.0
        self.until = 0.0
        self.strikes = 0

    def usable(self, now: float) -> bool:
        return self.state is not CredentialState.PARKED and now >= self.until


class CredentialBook:
    """Round robin over the credentials that may be used now. A credential that never failed takes no memory here.

    A secret replaced under the same id starts afresh. Not thread-safe: all calls come from the event loop.
    """

    def __init__(self, alerts: Alert | None = None, limit: int = LIMIT) -> None:
        self.alerts = alerts
        """Called once each time a credential is parked."""
        self._limit = limit
        self._aside: dict[str, dict[str, _Aside]] = {}
        self._turns: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<CredentialBook {sum(map(len, self._aside.values()))} set aside>"

    def pick(self, upstream: Upstream, now: float, exclude: Collection[str] = ()) -> Credential | None:
        """The next usable credential whose id is not in `exclude`; `None` if there is none now."""
        credentials = upstream.credentials
        count = len(credentials)
        aside = self._aside.get(upstream.id)
        if count == 1:
            only = credentials[0]
            return only if only.id not in exclude and (aside is None or self._usable(aside, only, now)) else None
        turn = self._turns.get(upstream.id, 0)
        for step in range(count):
            place = (turn + step) % count
            credential = credentials[place]
            if credential.id not in exclude and (aside is None or self._usable(aside, credential, now)):
                if len(self._turns) >= self._limit:
                    self._turns.clear()
                self._turns[upstream.id] = place + 1
                return credential
        return None

    def success(self, upstream: Upstream, credential: Credential, now: float) -> None:
        """It works: waits begin small again. A straggler from before it was set aside changes nothing."""
        aside = self._aside.get(upstream.id)
        if aside is None:
            return
        entry = aside.get(credential.id)
        if entry is not None and entry.usable(now):
            del aside[credential.id]
            if not aside:
                del self._aside[upstream.id]

    def failure(self, upstream: Upstream, credential: Credential, error: GatewayError, now: float) -> None:
        """Set it aside if the error harms credentials; others are ignored.

        PARK: until `clear`, and the alert is called. EXHAUSTED: for `retry_after` up to a day, else 5 minutes doubling
        to an hour. COOLDOWN: for `retry_after` within 0 to 300 s, else 5 s doubling to a minute.
        """
        if error.harm not in {Harm.PARK, Harm.EXHAUSTED, Harm.COOLDOWN}:
            return
        entry = self._entry(upstream, credential)
        if entry.state is CredentialState.PARKED:
            return
        if error.harm is Harm.PARK:
            entry.state, entry.code, entry.since = CredentialState.PARKED, error.code, now
            if self.alerts is not None:
                self.alerts(upstream, credential, error)
            return
        if now >= entry.until:
            # Attempts that were in flight together fail together: they are one strike.
            entry.strikes += 1
            entry.since = now
        if error.harm is Harm.EXHAUSTED:
            wait = _wait(error.retry_after, LONGEST_RESET, _grown(FIRST_EXHAUSTION, entry.strikes, LONGEST_EXHAUSTION))
            state = CredentialState.EXHAUSTED
        else:
            wait = _wait(error.retry_after, LONGEST_COOLDOWN, _grown(FIRST_COOLDOWN, entry.strikes, LONGEST_GUESS))
            state = CredentialState.COOLING
        if now + wait >= entry.until:
            entry.until, entry.state, entry.code = now + wait, state, error.code

    def clear(self, upstream_id: str) -> None:
        """Use all credentials of this upstream again: an operator says so."""
        self._aside.pop(upstream_id, None)

    def earliest(self, upstream: Upstream, now: float) -> float | None:
        """Seconds until a credential is usable, 0 if one is; `None` if time does not help (all parked, or none)."""
        aside = self._aside.get(upstream.id, {})
        waits = [
            0.0 if entry is None else max(0.0, entry.until - now)
            for entry in (self._current(aside, credential) for credential in upstream.credentials)
            if entry is None or entry.state is not CredentialState.PARKED
        ]
        return min(waits, default=None)

    def view(self, now: float) -> list[CredentialHealth]:
        """Credentials that are set aside or were since their last success, by upstream and id."""
        return [
            CredentialHealth(
                upstream=upstream,
                credential=name,
                state=CredentialState.USABLE if entry.usable(now) else entry.state,
                code=entry.code,
                since=max(0.0, now - entry.since),
                retry_in=None if entry.usable(now) or entry.state is CredentialState.PARKED else entry.until - now,
            )
            for upstream, aside in sorted(self._aside.items())
            for name, entry in sorted(aside.items())
        ]

    def _usable(self, aside: dict[str, _Aside], credential: Credential, now: float) -> bool:
        entry = self._current(aside, credential)
        return entry is None or entry.usable(now)

    def _current(self, aside: dict[str, _Aside], credential: Credential) -> _Aside | None:
        """The entry of this very secret; one of an earlier secret under the same id is void."""
        entry = aside.get(credential.id)
        return entry if entry is not None and entry.credential == credential else None

    def _entry(self, upstream: Upstream, credential: Credential) -> _Aside:
        aside = self._aside.get(upstream.id)
        if aside is None:
            if len(self._aside) >= self._limit:
                del self._aside[next(iter(self._aside))]
            aside = self._aside[upstream.id] = {}
        known = {one.id for one in upstream.credentials}
        for name in [name for name in aside if name not in known]:
            del aside[name]
        entry = self._current(aside, credential)
        if entry is None:
            entry = aside[credential.id] = _Aside(credential)
        return entry


def _wait(asked: float | None, longest: float, otherwise: float) -> float:
    if asked is None:
        return otherwise
    # Written so that a negative number and not-a-number both end as zero.
    return min(asked, longest) if asked > 0 else 0.0


def _grown(first: float, strikes: int, longest: float) -> float:
    return min(longest, first * 2.0 ** min(strikes - 1, 30))
