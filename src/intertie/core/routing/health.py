"""What this process knows about its targets: one circuit for each, made when first used."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

import msgspec

from intertie.core.errors import GatewayError
from intertie.core.routing.candidate import TargetKey
from intertie.core.routing.circuit import PROBE_EVERY, Circuit, CircuitState, Standing
from intertie.core.routing.speed import pace

__all__ = ["CircuitState", "HealthBook", "Standing", "TargetHealth", "TargetKey"]

LIMIT: Final = 2048
"""Circuits remembered. A route that passes any model through lets callers name as many targets as they like."""


class TargetHealth(msgspec.Struct, frozen=True):
    """One target's health, for people and metrics. Times are ages in seconds, so no clock leaks out."""

    upstream: str
    """`Upstream.id`."""
    model: str
    state: CircuitState
    degraded: bool
    """Ejected, yet still asked since nothing better is left."""
    reason: str
    """Why it is not closed."""
    causes: tuple[tuple[float, str], ...]
    """(seconds ago, error code) of the latest failures, oldest first."""
    attempts: int
    """Within 30 s."""
    failures: float
    """Within 30 s; some errors count half."""
    ejections: int
    share: float
    """Part of its normal traffic while it ramps up, 1 in the normal case."""
    retry_in: float | None
    """Seconds until an ejected target is tried again."""
    resting_for: float | None
    """Seconds for which the upstream is believed not to serve this model."""
    ttft_median: float | None
    """Seconds, over ten minutes."""
    ttft_p90: float | None
    """Seconds, over the newest samples."""


class HealthBook:
    """Circuits by target. Not thread-safe: all calls come from the event loop, none waits.

    Each `admit` that says yes is followed by exactly one `success`, `failure` or `release` when the attempt is over.
    """

    def __init__(self, rng: Random, limit: int = LIMIT) -> None:
        self._rng = rng
        self._limit = limit
        self._circuits: dict[TargetKey, Circuit] = {}

    def __repr__(self) -> str:
        troubled = sum(circuit.state is not CircuitState.CLOSED for circuit in self._circuits.values())
        return f"<HealthBook {len(self._circuits)} targets, {troubled} not closed>"

    # -- the life of an attempt --------------------------------------------------------------------------------------

    def admit(self, key: TargetKey, now: float) -> bool:
        """Claim one attempt just before sending it; claims the trial of a half-open target. False: do not send."""
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._make(key, now)
        return circuit.admit(now)

    def answering(self, key: TargetKey, now: float) -> None:
        """Optional: the first output arrived, so a trial need not last as long as its stream."""
        if circuit := self._circuits.get(key):
            circuit.answering(now)

    def success(self, key: TargetKey, now: float, first_output_s: float | None) -> None:
        """The attempt went well.

        `first_output_s` is seconds to the first output; `None` where it means nothing, as in answers not streamed.
        """
        if circuit := self._circuits.get(key):
            circuit.success(now, first_output_s)

    def failure(self, key: TargetKey, error: GatewayError, now: float) -> None:
        """The attempt failed; `error.harm` decides what that does here. Harm to a credential does nothing here."""
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._make(key, now)
        circuit.failure(now, error)

    def release(self, key: TargetKey, now: float) -> None:
        """The attempt ended without a verdict: the client left, or it was never sent after all."""
        if circuit := self._circuits.get(key):
            circuit.release(now)

    # -- asked by plans ----------------------------------------------------------------------------------------------

    def standing(self, key: TargetKey, now: float) -> Standing:
        """What a plan may do with a target; one never seen is ready."""
        circuit = self._circuits.get(key)
        return Standing.READY if circuit is None else circuit.standing(now)

    def reason(self, key: TargetKey) -> str:
        """Why a target is not in full use, for people."""
        circuit = self._circuits.get(key)
        if circuit is None or circuit.state is CircuitState.CLOSED:
            return "said that it does not serve this model" if circuit is not None else ""
        return f"{circuit.state.replace('_', '-')}: {circuit.reason}"

    def share(self, key: TargetKey, now: float) -> float:
        """Which part of its normal traffic a target gets, within [0.1, 1]."""
        circuit = self._circuits.get(key)
        return 1.0 if circuit is None else circuit.share(now)

    def pace(self, key: TargetKey, peers: Iterable[TargetKey], now: float) -> float:
        """What slowness leaves of a target's weight, compared with its past and with `peers` serving the same model."""
        circuit = self._circuits.get(key)
        if circuit is None:
            return 1.0
        speeds = (self._circuits[peer].speed for peer in peers if peer in self._circuits)
        return pace(circuit.speed, speeds, now)

    def spare(self, out: Iterable[TargetKey], count: int, now: float) -> list[TargetKey]:
        """Keep `count` of the ejected targets in use as a last resort: those that still answer first, best first."""
        ranked = sorted((not c.alive(now), c.until, key) for key in out if (c := self._circuits.get(key)))
        kept = [key for _, _, key in ranked[:count]]
        for key in kept:
            self._circuits[key].spare(now)
        return kept

    def probe(self, out: Iterable[TargetKey], now: float) -> TargetKey | None:
        """All of a group is ejected and answers nothing: the target whose turn it is, once per second for the group."""
        circuits = [(circuit.probed_at, key) for key in out if (circuit := self._circuits.get(key))]
        if not circuits or now - max(circuits)[0] < PROBE_EVERY:
            return None
        key = min(circuits)[1]
        self._circuits[key].spare(now)
        return key

    def alive(self, key: TargetKey, now: float) -> bool:
        """True if an ejected target still answers some attempts."""
        circuit = self._circuits.get(key)
        return circuit is not None and circuit.alive(now)

    def earliest(self, keys: Iterable[TargetKey], now: float) -> float:
        """Seconds until one of these targets may be tried again, for Retry-After; at least one."""
        waits = [circuit.wait(now) for key in keys if (circuit := self._circuits.get(key))]
        return min(waits, default=PROBE_EVERY)

    def rested(self, keys: Iterable[TargetKey]) -> TargetKey:
        """Of targets said not to serve their model, the one that said so longest ago. `keys` is not empty."""
        return min(keys, key=lambda key: self._circuits[key].rest_until if key in self._circuits else 0.0)

    # -- shown to people ---------------------------------------------------------------------------------------------

    def view(self, now: float) -> list[TargetHealth]:
        """All remembered targets, by upstream and model."""
        return [_health(key, self._circuits[key], now) for key in sorted(self._circuits)]

    # -- within ------------------------------------------------------------------------------------------------------

    def _make(self, key: TargetKey, now: float) -> Circuit:
        if len(self._circuits) >= self._limit:
            self._evict()
        circuit = self._circuits[key] = Circuit(self._rng)
        circuit.seen_at = now
        return circuit

    def _evict(self) -> None:
        """Forget the quarter used longest ago, closed ones first."""
        loose = sorted(
            self._circuits.items(), key=lambda entry: (entry[1].state is not CircuitState.CLOSED, entry[1].seen_at)
        )
        for key, _ in loose[: max(1, self._limit // 4)]:
            del self._circuits[key]


def _health(key: TargetKey, circuit: Circuit, now: float) -> TargetHealth:
    attempts, failures = circuit.recent(now)
    circuit.speed.refresh(now)
    return TargetHealth(
        upstream=key[0],
        model=key[1],
        state=circuit.state,
        degraded=circuit.spared(now),
        reason=circuit.reason,
        causes=tuple((max(0.0, now - at), code) for at, code in circuit.causes),
        attempts=attempts,
        failures=failures,
        ejections=circuit.ejections,
        share=circuit.share(now),
        retry_in=max(0.0, circuit.until - now) if circuit.state is CircuitState.OPEN else None,
        resting_for=circuit.rest_until - now if circuit.rest_until > now else None,
        ttft_median=circuit.speed.median,
        ttft_p90=circuit.speed.p90,
    )
