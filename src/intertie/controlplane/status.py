"""The state of the gateway at one moment, for the status page, the admin API and the command line alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from intertie import __version__
from intertie.controlplane import nodes, presence, usage
from intertie.controlplane.control import Control
from intertie.controlplane.nodes import NodeView
from intertie.controlplane.presence import NodeStatus
from intertie.core.routing.circuit import CircuitState
from intertie.core.routing.credentials import CredentialHealth, CredentialState
from intertie.core.routing.health import TargetHealth
from intertie.core.routing.resolve import ANY
from intertie.core.terms import NODE, Route, Snapshot, Target, Upstream
from intertie.core.wire.link import Serving
from intertie.dataplane.transport.link import Presence

_STATES: Final = {
    CircuitState.OPEN: "ejected",
    CircuitState.HALF_OPEN: "on trial",
}
_OUT: Final = frozenset({"ejected", "resting", "paused", "disabled", "no credential", "away"})
_DAY: Final = 86_400


class HealthView(msgspec.Struct, frozen=True):
    """What the data plane knows at one moment; made on the event loop, then free to be read anywhere."""

    targets: tuple[TargetHealth, ...] = ()
    credentials: tuple[CredentialHealth, ...] = ()
    nodes: tuple[Presence, ...] = ()
    """Nodes connected to this process."""
    alerts: tuple[str, ...] = ()
    """Further sentences for an operator, such as a spool that grows."""


class TargetStatus(msgspec.Struct, frozen=True):
    """One target of a route. Ages and waits are seconds."""

    upstream: str
    model: str
    tier: int
    weight: int
    trust: str
    state: str
    """ready, on trial, ejected, resting, paused, disabled, no credential, away (a node that takes no work now)."""
    reason: str = ""
    retry_in: float | None = None
    last_error: str = ""
    last_error_ago: float | None = None
    ttft_median: float | None = None
    priced: bool = False


class RouteStatus(msgspec.Struct, frozen=True):
    """One route: `state` is ok, degraded (some targets are out) or down (all are)."""

    model: str
    strategy: str
    state: str
    targets: tuple[TargetStatus, ...]


class CredentialStatus(msgspec.Struct, frozen=True):
    """One credential, by its id only."""

    id: str
    state: str = str(CredentialState.USABLE)
    code: str = ""
    retry_in: float | None = None


class UpstreamStatus(msgspec.Struct, frozen=True):
    """One upstream."""

    name: str
    provider: str
    trust: str
    enabled: bool
    paused: tuple[str, ...]
    """Models that get no calls until an operator resumes them; `*` is all."""
    models: int
    credentials: tuple[CredentialStatus, ...]


class Totals(msgspec.Struct, frozen=True):
    """The books since midnight UTC. `cost_micros` is what is known of the cost."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    unknown_cost_requests: int = 0


class Stored(msgspec.Struct, frozen=True):
    """What of the status is in the database. `at` is wall-clock time."""

    at: float = 0.0
    today: Totals = Totals()
    nodes: tuple[NodeView, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """Everything the status page shows."""

    version: str
    revision: int
    ready: bool
    reasons: tuple[str, ...]
    alerts: tuple[str, ...]
    routes: tuple[RouteStatus, ...]
    upstreams: tuple[UpstreamStatus, ...]
    """Without nodes."""
    keys: int
    today: Totals
    nodes: tuple[NodeStatus, ...] = ()
    """Without those that left or were revoked."""


def stored(control: Control, organisation: str) -> Stored:
    """What the database knows. Blocks: not for an event loop."""
    now = control.clock()
    return Stored(now, _today(control, organisation, now), tuple(nodes.list_(control, organisation)))


def _today(control: Control, organisation: str, now: float) -> Totals:
    """What the books hold since midnight UTC; the last fraction of a second may still be on its way."""
    rows = usage.by(control, organisation, "project", now - now % _DAY, None)
    return Totals(
        requests=sum(row.requests for row in rows),
        errors=sum(row.errors for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        cost_micros=sum(row.cost_micros or 0 for row in rows),
        unknown_cost_requests=sum(row.unknown_cost_requests for row in rows),
    )


def read(organisation: str, snapshot: Snapshot, health: HealthView, reasons: tuple[str, ...], stored: Stored) -> Status:
    """The organisation's part of snapshot, health and database, joined.

    Nothing of other organisations, no secret, no address.
    """
    mine = {key: upstream for key, upstream in snapshot.upstreams.items() if upstream.organisation == organisation}
    credentials = {(one.upstream, one.credential): one for one in health.credentials if one.upstream in mine}
    targets = {(one.upstream, one.model): one for one in health.targets if one.upstream in mine}
    upstreams = tuple(
        _upstream(upstream, credentials)
        for upstream in sorted(mine.values(), key=lambda upstream: upstream.name)
        if upstream.provider != NODE
    )
    everybody = presence.read(stored.nodes, health.nodes, stored.at)
    machines = tuple(one for one in everybody if one.state not in presence.GONE)
    away = {one.id: one for one in machines if one.state != Serving.SERVING}
    unusable = {
        one.name for one in upstreams if one.credentials and all(found.state != "usable" for found in one.credentials)
    }
    routes = tuple(
        _route(route, mine, targets, unusable, away)
        for (owner, _), route in sorted(snapshot.routes.items())
        if owner == organisation
    )
    return Status(
        version=__version__,
        revision=snapshot.revision,
        ready=not reasons,
        reasons=reasons,
        alerts=(*health.alerts, *_alerts(upstreams), *_waiting(machines)),
        routes=routes,
        upstreams=upstreams,
        keys=sum(caller.organisation == organisation for caller in snapshot.callers.values()),
        today=stored.today,
        nodes=machines,
    )


def _upstream(upstream: Upstream, health: Mapping[tuple[str, str], CredentialHealth]) -> UpstreamStatus:
    credentials = []
    for credential in upstream.credentials:
        found = health.get((upstream.id, credential.id))
        if found is None or found.state is CredentialState.USABLE:
            credentials.append(CredentialStatus(credential.id))
        else:
            credentials.append(CredentialStatus(credential.id, str(found.state), found.code, found.retry_in))
    return UpstreamStatus(
        name=upstream.name,
        provider=upstream.provider,
        trust=str(upstream.trust),
        enabled=upstream.enabled,
        paused=tuple(sorted(upstream.paused)),
        models=len(upstream.models),
        credentials=tuple(credentials),
    )


def _route(
    route: Route,
    upstreams: Mapping[str, Upstream],
    health: Mapping[tuple[str, str], TargetHealth],
    unusable: set[str],
    away: Mapping[str, NodeStatus],
) -> RouteStatus:
    targets = tuple(
        _target(target, upstreams[target.upstream], health, unusable, away.get(target.upstream))
        for target in route.targets
        if target.upstream in upstreams
    )
    out = sum(target.state in _OUT for target in targets)
    state = "down" if out == len(targets) else "degraded" if out else "ok"
    return RouteStatus(route.model, str(route.strategy), state, targets)


def _target(
    target: Target,
    upstream: Upstream,
    health: Mapping[tuple[str, str], TargetHealth],
    unusable: set[str],
    away: NodeStatus | None,
) -> TargetStatus:
    found = health.get((upstream.id, target.model))
    state, reason, retry_in = "ready", "", None
    if away is not None:
        state, reason = "away", f"{away.state}: {away.reason}" if away.reason else away.state
    elif not upstream.enabled:
        state, reason = "disabled", "the upstream is disabled"
    elif not upstream.paused.isdisjoint((ANY, target.model)):
        state, reason = "paused", f"until: intertie upstreams resume {upstream.name}"
    elif upstream.name in unusable:
        state, reason = "no credential", "every credential of the upstream is set aside"
    elif found is not None:
        state, reason = _STATES.get(found.state, "ready"), found.reason
        retry_in = found.retry_in
        if found.resting_for is not None:
            state, reason, retry_in = "resting", "the upstream says it does not serve this model", found.resting_for
    ago, error = found.causes[-1] if found is not None and found.causes else (None, "")
    return TargetStatus(
        upstream=upstream.name,
        model=target.model,
        tier=target.tier,
        weight=target.weight,
        trust=str(upstream.trust),
        state=state,
        reason=reason,
        retry_in=retry_in,
        last_error=error,
        last_error_ago=ago,
        ttft_median=found.ttft_median if found is not None else None,
        priced=upstream.models.get(target.model) is not None,
    )


def _waiting(machines: tuple[NodeStatus, ...]) -> list[str]:
    return [f"Node {one.name}: {one.reason}." for one in machines if one.state in {"pending", "duplicate"}]


def _alerts(upstreams: tuple[UpstreamStatus, ...]) -> list[str]:
    told = []
    for upstream in upstreams:
        for credential in upstream.credentials:
            if credential.state == "parked":
                told.append(
                    f"{upstream.name} refused credential {credential.id} ({credential.code}). "
                    f"Replace it, or if it works again: intertie upstreams clear {upstream.name}"
                )
            elif credential.state == "exhausted":
                told.append(f"{upstream.name} says the quota or the money of credential {credential.id} is used up.")
    return told
