"""What the gateway remembers about strangers, in bounded memory: attempts, refusals, and nodes that change places.

Pure counting, without I/O; a restart forgets it. Thread-safe, because doors run on worker threads. Times are whatever
clock the caller uses, in seconds.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

ATTEMPTS: Final = 10
"""Enrolments that one address may try per minute."""
POLLS: Final = 600
"""Questions after a device code per minute and address; several machines may share one."""
WINDOW: Final = 3600.0
"""Seconds in which refusals of one kind from one address are one line of the audit trail, and a sum at the end."""
COPY_WINDOW: Final = 600.0
COPY_SUPERSEDES: Final = 5
"""More changes of place than this within `COPY_WINDOW`, back and forth, mean two machines with one key."""


def block(address: str) -> str:
    """What one stranger holds: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class Attempts:
    """So many per address and minute. Of more than `MOST` addresses, the one that tried least recently is forgotten."""

    MOST: Final = 10_000
    SECONDS: Final = 60.0

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[str, deque[float]] = {}
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return f"<Attempts of {len(self._seen)} addresses>"

    def wait(self, address: str, now: float) -> float:
        """Counts an attempt: 0 if it may go on, else the seconds until the next may (and it is not counted)."""
        with self._turn:
            who = block(address)
            times = self._seen.pop(who, deque(maxlen=self._limit))
            self._seen[who] = times  # at the end again: the dictionary is in the order of the last attempt
            while len(self._seen) > self.MOST:
                del self._seen[next(iter(self._seen))]
            while times and not now - self.SECONDS < times[0] <= now:
                times.popleft()
            if len(times) >= self._limit:
                return max(1.0, times[0] + self.SECONDS - now)
            times.append(now)
            return 0.0

    def forgive(self, address: str) -> None:
        """The last attempt succeeded, so it was not a guess."""
        with self._turn:
            if times := self._seen.get(block(address)):
                times.pop()


class Refused(NamedTuple):
    """Refusals that become one record."""

    organisation: str
    action: str
    subject: str
    """Of the first of them."""
    address: str
    detail: dict[str, Any]
    times: int
    first_at: float


@dataclass
class _Run:
    first_at: float
    subject: str
    detail: dict[str, Any]
    count: int = 0
    told: bool = False


class Refusals:
    """Counts refusals, so that the first of a kind from an address is told at once and the rest as a sum later.

    Knows at most `MOST` kinds and addresses at a time; what is beyond counts for one address called `others`. So at
    most a few records per hour come of it, whatever strangers do.
    """

    MOST: Final = 200

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, str, str], _Run] = {}
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return f"<Refusals of {len(self._runs)} kinds and addresses>"

    def note(
        self, organisation: str, action: str, subject: str, address: str, detail: Mapping[str, Any], now: float
    ) -> None:
        """Counts one. Its kind is the action and the `reason` in `detail`, of which there must be few."""
        with self._turn:
            reason = str(detail.get("reason", ""))
            key = (organisation, action, reason, block(address))
            if key not in self._runs and len(self._runs) >= self.MOST:
                key = (organisation, action, reason, "others")
            run = self._runs.setdefault(key, _Run(now, subject, dict(detail)))
            run.count += 1

    def due(self, now: float) -> list[Refused]:
        """What is to be recorded now; not told again."""
        found = []
        with self._turn:
            for key, run in list(self._runs.items()):
                organisation, action, _, address = key
                over = not run.first_at <= now < run.first_at + WINDOW
                if run.count and (over or not run.told):
                    told = (action, run.subject, address, run.detail, run.count, run.first_at)
                    found.append(Refused(organisation, *told))
                    run.count = 0
                run.told = True
                if over:
                    del self._runs[key]
        return found


class _Place(NamedTuple):
    at: float
    instance: str
    fingerprint: str


class Copies:
    """Notices two machines that use one node's key: they take the node's place from each other, back and forth."""

    def __init__(self) -> None:
        self._places: dict[str, deque[_Place]] = {}
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return f"<Copies over {len(self._places)} nodes>"

    def superseded(self, node: str, before: tuple[str, str], after: tuple[str, str], now: float) -> bool:
        """`after` (instance, fingerprint) takes the place of `before`; true if that means copies.

        One agent that starts again and again is always a new instance on the same machine, and no copy.
        """
        with self._turn:
            places = self._places.setdefault(node, deque(maxlen=64))
            if not places:
                places.append(_Place(now, *before))
            places.append(_Place(now, *after))
            while now - places[0].at > COPY_WINDOW:
                places.popleft()
            supersedes = len(places) - 1
            returns = sum(1 for at in range(1, len(places)) if _returns(list(places)[: at + 1]))
            return supersedes > COPY_SUPERSEDES and returns * 2 > supersedes

    def forget(self, node: str) -> None:
        """The node (id) was enrolled again, or removed."""
        with self._turn:
            self._places.pop(node, None)


def _returns(places: list[_Place]) -> bool:
    """Whether the last place was left before: by its instance, or by its machine."""
    *earlier, last = places
    again = any(place.instance == last.instance for place in earlier)
    machine = earlier[-1].fingerprint != last.fingerprint
    return again or (machine and any(place.fingerprint == last.fingerprint for place in earlier))


@dataclass(frozen=True)
class Guard:
    """All of it, for one gateway."""

    enrolments: Attempts = field(default_factory=lambda: Attempts(ATTEMPTS))
    polls: Attempts = field(default_factory=lambda: Attempts(POLLS))
    refusals: Refusals = field(default_factory=Refusals)
    copies: Copies = field(default_factory=Copies)
    _first: list[float] = field(default_factory=list)

    def begun(self, now: float) -> float:
        """When this was first asked: since then the gateway has been here to see who comes and goes."""
        if not self._first:
            self._first.append(now)
        return self._first[0]
