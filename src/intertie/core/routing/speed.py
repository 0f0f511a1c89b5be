"""How long a target takes to its first output, and what slowness costs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import Final

HISTORY: Final = 600.0
"""Seconds that samples count."""
ENOUGH: Final = 20
"""Samples below which nothing is said."""
SLOW_RATIO: Final = 4.0
SLOW_SECONDS: Final = 2.0
LEAST_PACE: Final = 1 / 32
"""Even the slowest keeps some traffic, or it could never show that it has recovered."""
_RECENT: Final = 40
_SPACED: Final = 120
_REFRESH: Final = 5.0


class Speed:
    """First-output times of one target: the newest ones for its 90th percentile, evenly spaced ones for its median.

    Spacing (one sample per five seconds) lets a bounded list span ten minutes at any traffic.
    """

    __slots__ = ("_recent", "_refreshed", "_spaced", "median", "p90")

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._spaced: deque[tuple[float, float]] = deque(maxlen=_SPACED)
        self._refreshed = float("-inf")
        self.median: float | None = None
        """Seconds, over ten minutes; `None` until there are enough samples. Current as of the last `refresh`."""
        self.p90: float | None = None
        """Seconds, over the newest samples; `None` until there are enough."""

    def add(self, now: float, seconds: float) -> None:
        """Record that an attempt's first output came after `seconds`."""
        sample = (now, seconds)
        self._recent.append(sample)
        if not self._spaced or now - self._spaced[-1][0] >= HISTORY / _SPACED:
            self._spaced.append(sample)

    def refresh(self, now: float) -> None:
        """Bring `median` and `p90` up to date, at most every five seconds since sorting is not free."""
        if now - self._refreshed < _REFRESH:
            return
        self._refreshed = now
        for samples in (self._recent, self._spaced):
            while samples and now - samples[0][0] > HISTORY:
                samples.popleft()
        if len(self._recent) < ENOUGH:
            self.median = self.p90 = None
            return
        recent = sorted(seconds for _, seconds in self._recent)
        self.p90 = recent[int(0.9 * (len(recent) - 1))]
        long = [seconds for _, seconds in self._spaced]
        self.median = median(long if len(long) >= ENOUGH else recent)


def pace(own: Speed, peers: Iterable[Speed], now: float) -> float:
    """What slowness leaves of a target's weight, within (0, 1].

    Slow means: its 90th percentile is above two seconds and above four times the median. The median is the smaller of
    its own and the middle one of `peers` (targets serving the same model, itself included), so both a target that
    becomes slow and one that always was are found. At four times the weight is halved; beyond that it falls with the
    square of the ratio, which keeps a target ten times slower below a tenth of an even share without ejecting it.
    """
    own.refresh(now)
    if own.p90 is None or own.median is None or own.p90 <= SLOW_SECONDS:
        return 1.0
    medians = []
    for peer in peers:
        peer.refresh(now)
        if peer.median is not None:
            medians.append(peer.median)
    medians.sort()
    usual = min(own.median, medians[(len(medians) - 1) // 2]) if medians else own.median
    ratio = own.p90 / max(usual, 0.001)
    if ratio <= SLOW_RATIO:
        return 1.0
    return max(LEAST_PACE, 0.5 * (SLOW_RATIO / ratio) ** 2)
