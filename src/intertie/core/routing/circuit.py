"""One target's circuit: what its recent attempts say about asking it again.

    closed     -> open        3 connection failures or 5 failures in a row, or half of at least 10 attempts in 30 s
    open       -> half_open   its time is over, or a probe succeeded
    half_open  -> closed      2 successes, one trial at a time; traffic then ramps from 10 to 100 % over 30 s
    half_open  -> open        a trial failed; the time doubles

All times are seconds of one monotonic clock, passed as `now`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, StrEnum, auto
from random import Random
from typing import Final

from intertie.core.errors import GatewayError, Harm
from intertie.core.routing.speed import Speed
from intertie.core.routing.window import Window

CONNECT_RUN: Final = 3
FAILURE_RUN: Final = 5
SHARE_SPAN: Final = 30.0
SHARE_ATTEMPTS: Final = 10
SHARE_LIMIT: Final = 0.5
EJECTION: Final = 15.0
LONGEST_EJECTION: Final = 300.0
FORGIVEN_AFTER: Final = 60.0
"""Each minute closed takes one ejection back."""
CLOSING_SUCCESSES: Final = 2
RAMP: Final = 30.0
RAMP_START: Final = 0.1
MODEL_REST: Final = 60.0
PROBE_EVERY: Final = 1.0
TRIAL_LIMIT: Final = 120.0
"""A trial without an outcome for this long no longer blocks the next one."""
THROTTLE_SPAN: Final = 120.0
THROTTLE_ATTEMPTS: Final = 10
THROTTLE_CAP: Final = 0.9
SPARED_FOR: Final = 60.0
ALIVE_RUN: Final = 20
ALIVE_SECONDS: Final = 5.0

_NEVER: Final = float("-inf")
_WEIGHT: Final = {Harm.CONNECT: 1.0, Harm.SERVER: 1.0, Harm.HALF: 0.5}


class CircuitState(StrEnum):
    """What is done with a target at present."""

    CLOSED = "closed"
    """In use."""
    OPEN = "open"
    """Ejected."""
    HALF_OPEN = "half_open"
    """On trial."""


class Standing(Enum):
    """What a plan may do with a target now."""

    READY = auto()
    TRIAL = auto()
    """Half-open, or due to be, and nobody is trying it yet."""
    OUT = auto()
    """Ejected, or its trial is in flight."""
    RESTING = auto()
    """It said that it does not serve the model."""


class Circuit:
    """The state machine of the table above, and the adaptive throttle of one target."""

    __slots__ = (
        "_connect_run",
        "_rng",
        "_sent",
        "_sent_at",
        "_spared_at",
        "_succeeded_at",
        "_successes",
        "_trial_at",
        "_trial_harm",
        "_window",
        "causes",
        "closed_at",
        "ejections",
        "probed_at",
        "reason",
        "rest_until",
        "run",
        "seen_at",
        "speed",
        "state",
        "until",
    )  # fmt: skip

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.state = CircuitState.CLOSED
        self.reason = ""
        """Why it is not closed, for people."""
        self.until = 0.0
        """End of the ejection."""
        self.ejections = 0
        """Consecutive ones; a failed trial doubles it."""
        self.closed_at = _NEVER
        """When it last came back: the ramp's start."""
        self.rest_until = _NEVER
        """Until when the model is believed not to be served."""
        self.probed_at = _NEVER
        """When it was last asked on trial, or ejected: probes keep their distance from both."""
        self.run = 0.0
        """Weighted failures since the last success."""
        self.causes: deque[tuple[float, str]] = deque(maxlen=5)
        """(when, error code) of the latest failures."""
        self.seen_at = _NEVER
        self.speed = Speed()
        self._connect_run = 0
        self._successes = 0
        self._succeeded_at = _NEVER
        self._trial_at: float | None = None
        self._trial_harm = 0.0
        self._spared_at = _NEVER
        self._window = Window(SHARE_SPAN, 10)
        self._sent = Window(THROTTLE_SPAN, 12)
        self._sent_at = _NEVER

    # -- asked by plans ----------------------------------------------------------------------------------------------

    def standing(self, now: float) -> Standing:
        """What a plan may do with it. Changes nothing."""
        state = self.state
        if now < self.rest_until:
            return Standing.RESTING
        if state is CircuitState.CLOSED:
            return Standing.READY
        if state is CircuitState.OPEN and now < self.until:
            return Standing.OUT
        return Standing.TRIAL if self._trial_free(now) else Standing.OUT

    def share(self, now: float) -> float:
        """Which part of its normal traffic it gets, within [0.1, 1]: it ramps up after coming back."""
        return min(1.0, RAMP_START + (1.0 - RAMP_START) * max(0.0, now - self.closed_at) / RAMP)

    def alive(self, now: float) -> bool:
        """True if an ejected target still answers some attempts: worth asking when nothing better is left."""
        return self.run < ALIVE_RUN and now - self._succeeded_at < ALIVE_SECONDS

    def wait(self, now: float) -> float:
        """Seconds until it may be tried again, at least one probe interval."""
        return max(PROBE_EVERY, (self.until if self.state is CircuitState.OPEN else now) - now)

    def spare(self, now: float) -> None:
        """A plan has nothing better: for a while `admit` lets it through although it is ejected, see there."""
        self._spared_at = now

    def spared(self, now: float) -> bool:
        """True if it is ejected but still in use as the last resort."""
        return self.state in {CircuitState.OPEN, CircuitState.HALF_OPEN} and now - self._spared_at <= SPARED_FOR

    # -- the life of an attempt --------------------------------------------------------------------------------------

    def admit(self, now: float) -> bool:
        """Decide on sending one attempt, and count it.

        Closed: yes, unless throttled. Half-open: only the trial. Ejected but spared: throttled as if closed while it
        answers anything at all, else one probe per second.
        """
        self.seen_at = now
        if self.state is CircuitState.CLOSED:
            return self._send(now)
        if self.state is CircuitState.OPEN and now >= self.until:
            self._half_open()
        if self.state is CircuitState.HALF_OPEN and self._trial_free(now):
            return self._try(now)
        if not self.spared(now):
            return False
        if self.alive(now):
            return self._try(now) if self._trial_free(now) else self._send(now)
        return now - self.probed_at >= PROBE_EVERY and self._try(now)

    def answering(self, now: float) -> None:
        """First output arrived: a trial has proved its point and need not wait for the end of a long stream."""
        if self._trial_at is not None:
            self._trial_succeeded(now)

    def success(self, now: float, first_output: float | None) -> None:
        """The attempt went well; `first_output` is seconds from sending to the first output."""
        self._window.add(now, 1, 0.0)
        self.run = 0.0
        self._connect_run = 0
        self._succeeded_at = now
        self.rest_until = _NEVER
        if first_output is not None:
            self.speed.add(now, first_output)
        if self._trial_at is not None:
            self._trial_succeeded(now)

    def failure(self, now: float, error: GatewayError) -> None:
        """The attempt went wrong. What is not the target's fault (`Harm`) counts as if nothing had been sent."""
        weight = _WEIGHT.get(error.harm)
        if weight is None:
            self._trial_at = None
            if error.harm is Harm.MODEL:
                self.rest_until = now + MODEL_REST
            return
        self._window.add(now, 1, weight)
        self._sent.add(now, 0, weight)
        self.run += weight
        self._connect_run = self._connect_run + 1 if error.harm is Harm.CONNECT else 0
        self.causes.append((now, error.code))
        if self.state is CircuitState.CLOSED:
            if reason := self._verdict():
                minutes = int((now - self.closed_at) / FORGIVEN_AFTER) if self.ejections else 0
                self._open(now, max(0, self.ejections - minutes) + 1, reason)
        elif self._trial_at is not None:
            # Without a trial in flight this is a straggler from before the ejection. A failed probe changes nothing:
            # it was sent before the time was over.
            self._trial_at = None
            self._trial_harm += weight
            if self.state is CircuitState.HALF_OPEN and self._trial_harm >= 1.0:
                self._open(now, 2 * self.ejections, f"trial failed: {error.code}")

    def release(self, now: float) -> None:
        """The attempt ended without saying anything about the target (the client left)."""
        self.seen_at = now
        self._trial_at = None

    def close(self, now: float) -> None:
        """Back into use, ramping up; old failures are forgotten, the number of ejections is not."""
        self.state = CircuitState.CLOSED
        self.reason = ""
        self.closed_at = now
        self.run = 0.0
        self._connect_run = 0
        self._trial_at = None
        self._window.clear()
        self._sent.clear()

    # -- figures -----------------------------------------------------------------------------------------------------

    def recent(self, now: float) -> tuple[int, float]:
        """Attempts and weighted failures of the last 30 s."""
        self._window.roll(now)
        return self._window.attempts, self._window.failures

    # -- within ------------------------------------------------------------------------------------------------------

    def _trial_free(self, now: float) -> bool:
        return self._trial_at is None or now - self._trial_at >= TRIAL_LIMIT

    def _try(self, now: float) -> bool:
        self._trial_at = self.probed_at = self._sent_at = now
        self._sent.add(now, 1, 0.0)
        return True

    def _send(self, now: float) -> bool:
        """Count the attempt unless the throttle drops it.

        S3's (R - 2A) / (R + 1) with A = R - failures: attempts still in flight are presumed accepted, or a burst to a
        model that needs seconds to its first token would throttle itself. One per second always passes.
        """
        sent = self._sent
        sent.roll(now)
        excess = 2.0 * sent.failures - sent.attempts
        throttled = excess > 0 and sent.attempts >= THROTTLE_ATTEMPTS and now - self._sent_at < PROBE_EVERY
        if throttled and self._rng.random() < min(THROTTLE_CAP, excess / (sent.attempts + 1)):
            return False
        sent.add(now, 1, 0.0)
        self._sent_at = now
        return True

    def _verdict(self) -> str:
        """Why the circuit must open, or nothing."""
        attempts, failures = self._window.attempts, self._window.failures
        if self._connect_run >= CONNECT_RUN:
            return f"{self._connect_run} connection failures in a row"
        if self.run >= FAILURE_RUN:
            return f"{self.run:g} failures in a row"
        if attempts >= SHARE_ATTEMPTS and failures >= SHARE_LIMIT * attempts:
            return f"{failures:g} of {attempts} attempts failed within {SHARE_SPAN:g} s"
        return ""

    def _open(self, now: float, ejections: int, reason: str) -> None:
        self.state = CircuitState.OPEN
        self.reason = reason
        self.ejections = min(ejections, int(LONGEST_EJECTION / EJECTION))
        self.until = now + min(EJECTION * self.ejections, LONGEST_EJECTION) * self._rng.uniform(0.8, 1.2)
        self._trial_at = None
        self.probed_at = now

    def _half_open(self) -> None:
        self.state = CircuitState.HALF_OPEN
        self._successes = 0
        self._trial_harm = 0.0

    def _trial_succeeded(self, now: float) -> None:
        if self.state is CircuitState.OPEN:
            self._half_open()
        self._trial_at = None
        self._trial_harm = 0.0
        self._successes += 1
        if self._successes >= CLOSING_SUCCESSES:
            self.close(now)
