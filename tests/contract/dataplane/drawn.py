"""What histories are made of: callers, targets, calls and limits, chosen by a tape of bytes."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from intertie.core.policy.limits import AtCap, Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per
from intertie.core.routing.candidate import Candidate
from intertie.core.terms import Call, Caller, Operation, Price, Target, Upstream
from intertie.core.wire.envelope import peek

ORGANISATIONS: Final = ("one", "two")
CALLERS: Final = tuple(
    Caller(organisation, project, key, key)
    for organisation in ORGANISATIONS
    for project, key in (("p", "k1"), ("p", "k2"), ("q", "k3"))
)
_PRICES: Final = (
    ("dear", "m", Price(1_000_000, 3_000_000, cached_input=500_000, cache_write=1_250_000)),
    ("cheap", "m", Price(333_333, 700_001)),
    ("own", "w", Price(0, 0)),
    ("mystery", "m", None),
)
CANDIDATES: Final = {
    organisation: tuple(
        Candidate(
            Target(f"{organisation}-{name}", model),
            Upstream(f"{organisation}-{name}", organisation, name, "openai_compatible", "", models={model: price}),
        )
        for name, model, price in _PRICES
    )
    for organisation in ORGANISATIONS
}
_HOLDERS: Final = (
    (Level.PROJECT, "p"),
    (Level.PROJECT, "p"),
    (Level.PROJECT, "q"),
    (Level.KEY, "k1"),
    (Level.KEY, "k2"),
    (Level.ROUTE, "r1"),
    (Level.MODEL, "m"),
    (Level.UPSTREAM, "dear"),
    (Level.UPSTREAM, "cheap"),
)
_ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
_PERIODS: Final = (None, Per.MINUTE, Per.HOUR, Per.HOUR, Per.DAY, Per.DAY, Per.WEEK, Per.MONTH, Per.TOTAL)
STARTS: Final = (
    1_743_292_800.0,  # the day on which Berlin's clocks go forward
    1_761_433_200.0,  # the day on which they go back begins
    1_772_323_199.0,  # the last second of February
    1_767_225_590.0,  # the last seconds of a year, in UTC
    1_790_000_000.5,
)
JUMPS: Final = (-259_200.0, -7200.0, -61.0, -1.0, 1.0, 61.0, 7200.0, 259_200.0, 2_700_000.0)
OUTPUT: Final = 20


def _calls() -> tuple[Call, ...]:
    found = []
    for letters in (0, 40, 300):
        for bounds in ({}, {"max_tokens": 0}, {"max_tokens": 30}, {"max_completion_tokens": 200}, {"n": 3}):
            body = {"model": "m", "messages": [{"role": "user", "content": "é" * letters}], **bounds}
            found.append(peek(json.dumps(body, ensure_ascii=False).encode(), Operation.CHAT, "r"))
    return tuple(found)


CALLS: Final = _calls()


class Tape:
    """Bytes that decide; where they end, the first choice is taken."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def over(self) -> bool:
        """Nothing is left to decide."""
        return self._at >= len(self._raw)

    def below(self, count: int) -> int:
        """A number from 0 on, below `count` (at most 256)."""
        if self.over:
            return 0
        self._at += 1
        return self._raw[self._at - 1] * count // 256


class Change(NamedTuple):
    """A limit that is new or gone, and whose it is."""

    limit: Limit
    organisation: str


def any_limit(tape: Tape) -> Change:
    """Any limit."""
    organisation = ORGANISATIONS[tape.below(5) // 4]
    places = ((Level.ORGANISATION, organisation), *_HOLDERS)
    level, holder = places[tape.below(len(places))]
    per = _PERIODS[tape.below(len(_PERIODS))]
    measures = [Measure.REQUESTS, Measure.TOKENS, Measure.MONEY if per is not None else Measure.CONCURRENCY]
    measure = measures[(tape.below(4) + 1) // 2 if per is not None else tape.below(3)]
    id_ = f"{organisation}/{limit_id(level, holder, measure, per)}"
    at_cap = (AtCap.REFUSE, AtCap.CHEAPER)[tape.below(2)]
    made = Limit(id_, level, holder, measure, amount(tape, measure, per), per, zone(tape), at_cap)
    return Change(made, organisation)


def amount(tape: Tape, measure: Measure, per: Per | None) -> int:
    """One that a few calls reach."""
    share = 1 + tape.below(12)
    if measure is Measure.CONCURRENCY:
        return (share + 3) // 4
    if measure is Measure.REQUESTS:
        return (share + 1) // 2 if per is not None else share * 3
    return share * (150 if measure is Measure.TOKENS else 200)


def zone(tape: Tape) -> str:
    """A time zone."""
    return _ZONES[tape.below(len(_ZONES))]
