"""The alphabet of a scripted answer: a reply is a tuple of these steps, so every fault is data, not code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes, as one segment where the network allows."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Say nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """Write the same bytes `times` times, `every` so many seconds: a steady stream, cheap for thousands at once."""

    body: bytes
    every: float
    times: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Keep the connection open and say nothing more until the peer leaves."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Abort with a TCP reset (zero linger)."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close cleanly."""


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Close only the sending side and keep reading."""


Step = Send | Wait | Pace | Stall | Reset | Close | HalfClose
Script = tuple[Step, ...]
"""A script that ends without `Close`, `Reset` or `Stall` leaves the connection open for the next request."""


def sliced(body: bytes, size: int, every: float = 0.0) -> Script:
    """`body` in segments of `size` bytes, a pause of `every` seconds after each."""
    steps: list[Step] = []
    for start in range(0, len(body), size):
        steps.append(Send(body[start : start + size]))
        if every:
            steps.append(Wait(every))
    return tuple(steps)


def spoken(script: Script) -> bytes:
    """Everything the script's plain `Send` steps write."""
    return b"".join(step.body for step in script if isinstance(step, Send))
