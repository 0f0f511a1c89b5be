"""What traffic has taught: how fast targets are, how many calls they have, how long answers get, who had what talk.

Learned from attempts as they begin and end, bounded, and forgotten with the process: a start knows nothing and learns
within seconds. All times are seconds of one monotonic clock, passed as `now`.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Final

import msgspec

from intertie.core.routing.candidate import TargetKey

TARGETS: Final = 2048
ROUTES: Final = 1024
CONVERSATIONS: Final = 10_000
SIZES: Final = (1_000, 8_000)
"""Input tokens from which a call is medium, and large."""
SETTLING: Final = 8.0
"""Seconds after which two thirds of a mean come from newer samples."""
LARGEST_STEP: Final = 0.6
"""However old a mean is, one sample moves it by no more than this share: one slip is not a trend."""
FRESH: Final = 60.0
"""Seconds for which a measured first output counts as known."""
REMEMBERED: Final = 600.0
"""Seconds for which an upstream is believed to keep the beginning of a conversation (its prompt cache)."""
USUAL_OUTPUT: Final = 256
"""Output tokens expected on a route that has answered nothing yet."""
_OUTPUTS: Final = 64

RouteKey = tuple[str, str]
"""(organisation, name of the route)."""


class Ticket:
    """One attempt under way, from `Traffic.begin` to `Traffic.end`."""

    __slots__ = ("began", "cell", "first", "key")

    def __init__(self, key: TargetKey, cell: int, began: float) -> None:
        self.key = key
        self.cell = cell
        self.began = began
        self.first: float | None = None
        """Seconds to the first output; written when it is there, so that waiting can be told from streaming."""


class Held(msgspec.Struct, frozen=True):
    """Who answered a conversation last, and how many input tokens that was."""

    key: TargetKey
    tokens: int
    at: float


class _Mean:
    """A mean that newer samples push out: after `SETTLING` seconds by two thirds, however many there were."""

    __slots__ = ("at", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self.at = -math.inf

    def add(self, now: float, sample: float) -> None:
        if self.value is None:
            self.value = sample
        else:
            self.value += min(LARGEST_STEP, 1.0 - math.exp((self.at - now) / SETTLING)) * (sample - self.value)
        self.at = now


class _Cell:
    """Calls of one kind (streamed or whole) and size class."""

    __slots__ = ("begun_at", "first", "per_token")

    def __init__(self) -> None:
        self.begun_at = -math.inf
        self.first = _Mean()
        """Seconds to the first output; of a whole answer, to its end."""
        self.per_token = _Mean()
        """Seconds for each further token of a stream."""


class _Target:
    __slots__ = ("begun_at", "cells", "running")

    def __init__(self) -> None:
        self.begun_at = -math.inf
        self.cells: dict[int, _Cell] = {}
        self.running: dict[Ticket, None] = {}


class Traffic:
    """Not thread-safe: all calls come from the event loop, none waits. Each `begin` is followed by one `end`."""

    def __init__(self) -> None:
        self._targets: dict[TargetKey, _Target] = {}
        self._outputs: dict[RouteKey, deque[int]] = {}
        self._held: dict[bytes, Held] = {}

    def __repr__(self) -> str:
        return f"<Traffic of {len(self._targets)} targets>"

    # -- the life of an attempt --------------------------------------------------------------------------------------

    def begin(self, key: TargetKey, now: float, tokens: int, *, stream: bool) -> Ticket:
        """An attempt of about so many input tokens begins."""
        target = self._targets.get(key)
        if target is None:
            target = self._make(key)
        kind = _cell(tokens, stream)
        cell = target.cells.get(kind)
        if cell is None:
            cell = target.cells[kind] = _Cell()
        target.begun_at = cell.begun_at = now
        ticket = Ticket(key, kind, now)
        target.running[ticket] = None
        return ticket

    def end(self, ticket: Ticket, now: float, output: int | None = None) -> None:
        """It ended; `output` is tokens if it went well, and only then something is learned."""
        target = self._targets.get(ticket.key)
        if target is None or target.running.pop(ticket, _ABSENT) is _ABSENT or output is None:
            return
        cell = target.cells[ticket.cell]
        took = now - ticket.began
        streamed = bool(ticket.cell & _STREAMED)
        cell.first.add(now, took if ticket.first is None or not streamed else ticket.first)
        if ticket.first is not None and streamed and output > 1:
            cell.per_token.add(now, max(0.0, took - ticket.first) / (output - 1))

    def answered(self, route: RouteKey, output: int) -> None:
        """An answer of that many tokens was given on a route."""
        outputs = self._outputs.get(route)
        if outputs is None:
            if len(self._outputs) >= ROUTES:
                del self._outputs[next(iter(self._outputs))]
            outputs = self._outputs[route] = deque(maxlen=_OUTPUTS)
        outputs.append(output)

    def remember(self, conversation: bytes, key: TargetKey, tokens: int, now: float) -> None:
        """A target answered a conversation, with that many input tokens."""
        self._held.pop(conversation, None)
        if len(self._held) >= CONVERSATIONS:
            del self._held[next(iter(self._held))]
        self._held[conversation] = Held(key, tokens, now)

    # -- asked by strategies -----------------------------------------------------------------------------------------

    def in_flight(self, key: TargetKey) -> int:
        """Attempts under way."""
        target = self._targets.get(key)
        return 0 if target is None else len(target.running)

    def idle(self, key: TargetKey, now: float, tokens: int, *, stream: bool) -> float:
        """Seconds since it was last sent a call of this kind and size class; infinite if it never was."""
        target = self._targets.get(key)
        cell = None if target is None else target.cells.get(_cell(tokens, stream))
        return math.inf if cell is None else now - cell.begun_at

    def expected(self, key: TargetKey, now: float, tokens: int, output: int, *, stream: bool) -> float | None:
        """Seconds until a call of this size would be answered whole; `None` if nothing is known of the target.

        Measured in calls of its own kind and size class, else in those nearest to it. Calls that wait for their first
        output longer than is usual with them count at once: a target that hangs is slow before anything of it ends.
        """
        target = self._targets.get(key)
        if target is None:
            return None
        late = _late(target, now, stream=stream)
        for near in _NEAREST[_cell(tokens, stream)]:
            cell = target.cells.get(near)
            if cell is not None and cell.first.value is not None:
                return cell.first.value + late + output * (cell.per_token.value or 0.0)
        return late if late > 0.0 else None

    def first_output(self, key: TargetKey, now: float) -> float | None:
        """Measured seconds to the first output of streams, of the newest size class; `None` if nothing fresh is known.

        Forgotten after a while, so that a ceiling does not shut a target out for ever.
        """
        target = self._targets.get(key)
        if target is None:
            return None
        means = [cell.first for kind, cell in target.cells.items() if kind & _STREAMED]
        newest = max(means, key=lambda mean: mean.at, default=None)
        return newest.value if newest is not None and now - newest.at <= FRESH else None

    def expected_output(self, route: RouteKey, most: int | None) -> int:
        """Output tokens to expect on a route: the median of its newest answers, and no more than the caller allows."""
        outputs = self._outputs.get(route)
        usual = round(median(outputs)) if outputs else USUAL_OUTPUT
        return usual if most is None else min(usual, most)

    def holder(self, conversation: bytes, now: float) -> Held | None:
        """Who had this conversation, if that was not too long ago."""
        held = self._held.get(conversation)
        return held if held is not None and now - held.at <= REMEMBERED else None

    # -- within ------------------------------------------------------------------------------------------------------

    def _make(self, key: TargetKey) -> _Target:
        if len(self._targets) >= TARGETS:
            idle = sorted((one.begun_at, name) for name, one in self._targets.items() if not one.running)
            for _, name in idle[: TARGETS // 4]:
                del self._targets[name]
        target = self._targets[key] = _Target()
        return target


_ABSENT: Final = object()
_STREAMED: Final = 4


def _cell(tokens: int, stream: bool) -> int:  # noqa: FBT001 (one of two things a cell is made of)
    return sum(tokens >= size for size in SIZES) + (_STREAMED if stream else 0)


_NEAREST: Final = {
    kind + size: tuple(
        other + near
        for other in (kind, _STREAMED - kind)
        for near in sorted(range(3), key=lambda n: (abs(n - size), n))
    )
    for kind in (0, _STREAMED)
    for size in range(3)
}
"""Cell -> all cells, the ones to ask first in front: its own kind before the other, near sizes before far ones."""


def _late(target: _Target, now: float, *, stream: bool) -> float:
    """How much longer than usual the oldest attempt without output has waited already.

    A whole answer shows nothing before its end, and some are long: it counts half, and says nothing of streams.
    """
    late, kinds = 0.0, {0, _STREAMED} if not stream else {_STREAMED}
    for ticket in target.running:
        kind = ticket.cell & _STREAMED
        if ticket.first is None and kind in kinds:
            kinds.discard(kind)
            waited = (now - ticket.began) * (1.0 if kind else 0.5)
            late = max(late, waited - (target.cells[ticket.cell].first.value or 0.0))
            if not kinds:
                break
    return late
