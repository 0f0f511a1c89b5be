"""What enrolled machines mean for routes: the targets behind a label, and routes that nobody had to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from intertie.controlplane.outcome import Origin
from intertie.core.routing.resolve import ANY, DIRECT, UNLISTED
from intertie.core.terms import NODE, StrategyName, Trust
from intertie.store.nodes import ACTIVE, NodeRow
from intertie.store.routes import RouteRow, TargetRow
from intertie.store.upstreams import UpstreamRow


class Machine(NamedTuple):
    """An active node, and the models its upstream lists."""

    organisation: str
    id: str
    labels: frozenset[str]
    models: frozenset[str]
    trust: Trust


def machines(nodes: Iterable[NodeRow], upstreams: Iterable[UpstreamRow]) -> list[Machine]:
    """The active ones, by name."""
    listed = {(row.organisation, row.id): row for row in upstreams}
    return [
        Machine(
            organisation=node.organisation,
            id=node.id,
            labels=frozenset(node.labels),
            models=frozenset(model.name for model in upstream.models),
            trust=Trust(upstream.trust),
        )
        for node in sorted(nodes, key=lambda node: (node.organisation, node.name))
        if node.state == ACTIVE and (upstream := listed.get((node.organisation, node.id))) is not None
    ]


def targets(route: RouteRow, machines: Iterable[Machine]) -> list[TargetRow]:
    """The route's targets, each label replaced by the machines that carry it and list the model, in order of name.

    No machine is there twice with the same model: what is written first counts.
    """
    own = [machine for machine in machines if machine.organisation == route.organisation]
    found: dict[tuple[str | None, str], TargetRow] = {}
    for target in route.targets:
        for one in _expanded(target, own):
            found.setdefault((one.upstream, one.model), one)
    return list(found.values())


def routes(
    written: Iterable[RouteRow], upstreams: Iterable[UpstreamRow], machines: Iterable[Machine]
) -> Iterator[RouteRow]:
    """A route for each model that a machine lists and nobody wrote a route for, so it is callable once enrolled.

    All machines that list it are its targets, in one tier. Not for machines of the community, which an operator has to
    ask for; nor for a model that an upstream behind the route `*` lists, which callers reach there already; nor for
    names that mean something else.
    """
    taken = {(row.organisation, row.model) for row in written} | _passed(written, upstreams)
    serving: dict[tuple[str, str], list[str]] = {}
    for machine in machines:
        if machine.trust is not Trust.COMMUNITY:
            for model in machine.models:
                serving.setdefault((machine.organisation, model), []).append(machine.id)
    for (organisation, model), ids in sorted(serving.items()):
        if (organisation, model) not in taken and model != ANY and not model.startswith((DIRECT, UNLISTED)):
            yield RouteRow(
                organisation=organisation,
                model=model,
                strategy=StrategyName.PRIORITY,
                deadline=600.0,
                max_attempts=3,
                origin=Origin.NODE,
                created_at=0.0,
                targets=tuple(TargetRow(id_, model, 1, 0) for id_ in ids),
            )


def _expanded(target: TargetRow, machines: Iterable[Machine]) -> Iterator[TargetRow]:
    if target.node_label is None:
        yield target
        return
    for machine in machines:
        if target.node_label in machine.labels and (target.model == ANY or target.model in machine.models):
            yield TargetRow(machine.id, target.model, target.weight, target.tier)


def _passed(written: Iterable[RouteRow], upstreams: Iterable[UpstreamRow]) -> set[tuple[str, str]]:
    """Models that upstreams behind a `*` route list: an enrolled machine must not draw their callers away."""
    listed: Mapping[tuple[str, str | None], UpstreamRow] = {
        (row.organisation, row.id): row for row in upstreams if row.provider != NODE
    }
    return {
        (route.organisation, model.name)
        for route in written
        if route.model == ANY
        for target in route.targets
        if (upstream := listed.get((route.organisation, target.upstream))) is not None
        for model in upstream.models
    }
