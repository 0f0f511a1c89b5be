"""Rows to the immutable snapshot that the data plane works from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final, TypeVar, overload

from msgspec.structs import replace

from intertie.controlplane import alerts, implied, limits, route_options, upstreams
from intertie.controlplane.control import Control
from intertie.controlplane.implied import Machine
from intertie.core.terms import (
    NODE,
    Credential,
    Node,
    Price,
    Route,
    Shadow,
    Snapshot,
    StrategyName,
    Target,
    Timeouts,
    Trust,
    Upstream,
)
from intertie.store import alerts as stored_alerts
from intertie.store import keys as stored_keys
from intertie.store import limits as stored_limits
from intertie.store import nodes as stored_nodes
from intertie.store import projects as stored_projects
from intertie.store import revision as stored_revision
from intertie.store import routes as stored_routes
from intertie.store import rules as stored_rules
from intertie.store import upstreams as stored_upstreams
from intertie.store.nodes import ACTIVE, NodeRow
from intertie.store.routes import RouteRow
from intertie.store.upstreams import UpstreamRow

FREE: Final = Price(input=0, output=0, source="node")
"""What a node's model costs unless its operator says otherwise: the machine is paid for."""

D = TypeVar("D")


class Models(Mapping[str, Price | None]):
    """An upstream's listed models and their price.

    `get` also prices a model that is not listed, from the catalogue: a route may send to an upstream that lists none.
    """

    def __init__(self, listed: Mapping[str, Price | None], catalogue: Callable[[str], Price | None]) -> None:
        self._listed = dict(listed)
        self._catalogue = catalogue

    def __getitem__(self, model: str) -> Price | None:
        return self._listed[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)

    @overload
    def get(self, model: str, default: None = None, /) -> Price | None: ...
    @overload
    def get(self, model: str, default: D, /) -> Price | D | None: ...
    def get(self, model: str, default: object = None, /) -> object:
        """The listed price, else the catalogue's, else `default`."""
        if model in self._listed:
            return self._listed[model]
        price = self._catalogue(model)
        return default if price is None else price


def revision(control: Control) -> int:
    """The number of the last change. Cheap: for polling."""
    with control.database.read() as connection:
        return stored_revision.number(connection)


def build(control: Control) -> Snapshot:
    """Everything the data plane needs, from one consistent state of the database.

    Disabled upstreams are in it, marked so, and nodes that are not active (pending, revoked) likewise. Routes have
    their labels expanded, and those that follow from what nodes serve are among them.

    Raises `Misconfigured` if a stored secret does not decrypt.
    """
    with control.database.read() as connection:
        number = stored_revision.number(connection)
        upstream_rows = stored_upstreams.listed(connection)
        route_rows = stored_routes.listed(connection)
        node_rows = stored_nodes.listed(connection, reports=False)
        callers = dict(stored_keys.callers(connection))
        limit_rows = stored_limits.listed(connection)
        alert_rows = stored_alerts.listed(connection)
        outputs = stored_projects.max_outputs(connection)
        rules = stored_rules.by_organisation(connection)
    prices = lru_cache(maxsize=4096)(control.prices)  # bounded: callers may ask a `*` route for any name
    active = [row for row in node_rows if row.state == ACTIVE]
    machines = implied.machines(active, upstream_rows)
    made = {row.id: _upstream(control, row, prices) for row in upstream_rows}
    for id_ in made.keys() - {row.id for row in active}:
        if made[id_].provider == NODE:
            made[id_] = replace(made[id_], enabled=False)
    route_rows += implied.routes(route_rows, upstream_rows, machines, prices)
    routes = {(row.organisation, row.model): _route(row, machines) for row in route_rows}
    for route in routes.values():
        copied = route.shadow.targets if route.shadow is not None else ()
        for target in (*route.targets, *copied):
            made[target.upstream].models.get(target.model)  # priced now rather than in the first request
    return Snapshot(
        revision=number,
        callers=MappingProxyType(callers),
        routes=MappingProxyType(routes),
        upstreams=MappingProxyType(made),
        rules=MappingProxyType(rules),
        limits=MappingProxyType(limits.by_holder(limit_rows)),
        max_output=MappingProxyType(outputs),
        alerts=MappingProxyType({row.organisation: alerts.opened(control, row) for row in alert_rows}),
        nodes=MappingProxyType({(row.organisation, row.name): _node(row) for row in active}),
    )


def _route(row: RouteRow, machines: list[Machine]) -> Route:
    targets = ((target.upstream, target) for target in implied.targets(row, machines))
    shadows = tuple(Target(one.upstream, one.model) for one in row.shadows)
    return Route(
        organisation=row.organisation,
        model=row.model,
        targets=tuple(Target(id_, one.model, one.weight, one.tier) for id_, one in targets if id_ is not None),
        strategy=StrategyName(row.strategy),
        deadline=row.deadline,
        max_attempts=row.max_attempts,
        cache=route_options.cache(row.options),
        sticky=route_options.sticky(row.options),
        fallback=route_options.fallback(row.options),
        hedge=route_options.hedge(row.options),
        shadow=Shadow(shadows, route_options.shadow_share(row.options)) if shadows else None,
    )


def _node(row: NodeRow) -> Node:
    return Node(
        id=row.id,
        organisation=row.organisation,
        name=row.name,
        labels=frozenset(row.labels),
        drained=row.drained,
        slots=row.slots,
        void=0 if row.instance else row.epoch,  # enrolment leaves no instance, the first connection is one
    )


def _upstream(control: Control, row: UpstreamRow, prices: Callable[[str, str], Price | None]) -> Upstream:
    def catalogue(model: str) -> Price | None:
        return FREE if row.provider == NODE else prices(row.provider, model)

    listed = {model.name: upstreams.own_price(model) or catalogue(model.name) for model in row.models}
    return Upstream(
        id=row.id,
        organisation=row.organisation,
        name=row.name,
        provider=row.provider,
        base_url=row.base_url,
        credentials=tuple(
            Credential(credential.id, upstreams.secret(control.vault, row.organisation, credential))
            for credential in row.credentials
        ),
        trust=Trust(row.trust),
        region=row.region or "",
        models=Models(listed, catalogue),
        headers=MappingProxyType(upstreams.headers(control.vault, row)),
        timeouts=Timeouts(row.connect_timeout, row.first_output_timeout, row.between_output_timeout),
        enabled=row.enabled,
        paused=frozenset(row.paused),
    )


class Snapshots:
    """The configuration in force; replaced whole, from whichever thread made the change."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._turn = threading.Lock()
        self.current = build(control)
        self.swapped: Callable[[], object] = lambda: None
        """Called after each swap, in the thread that made it."""
        self.enforce: Callable[[Snapshot, Callable[[], None]], object] = lambda _, put: put()
        """Called with each new snapshot and what puts it in force; what it raises keeps the one that is."""

    def refresh(self) -> None:
        """Build and swap if something changed. Blocks: not for an event loop."""
        with self._turn:
            if revision(self._control) != self.current.revision:
                new = build(self._control)
                self.enforce(new, partial(self._put, new))
                self.swapped()

    def _put(self, new: Snapshot) -> None:
        self.current = new
