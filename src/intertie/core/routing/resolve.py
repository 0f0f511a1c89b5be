"""From the model a client asks for to a route of its own organisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from intertie.core.errors import UnknownModel
from intertie.core.terms import NODE, Call, Caller, Route, Snapshot, Target, Upstream

ANY: Final = "*"
"""As a route's name: any model. As such a route's target model: the model asked for."""
UNLISTED: Final = "intertie-smoke/"
"""Routes whose name begins so are for keys that name them and for nobody else: the smoke checklist makes some for a
moment, and other callers must not meet them."""
DIRECT: Final = "nodes/"
"""How the route of a call to one node is called in books, headers and metrics, with the node's name behind it. No other
route may begin so."""
_SHOWN: Final = 100


def resolve(call: Call, caller: Caller, snapshot: Snapshot) -> Route:
    """The route that answers `call.model`: the one of that name, else the organisation's `*` with concrete models.

    A `*` target serves the model if its upstream lists it or, unless it is a node, lists nothing. The name stays `*` in
    a route resolved that way, which keeps books and metrics bounded. Targets of other organisations are dropped, should
    a snapshot hold any.

    Raises `UnknownModel`, with the same text whether the route does not exist or the key may not use it.
    """
    asked = call.model
    organisation = caller.organisation
    if asked != ANY:
        route = snapshot.routes.get((organisation, asked))
        if route is not None:
            if _may_use(asked, caller) and route.organisation == organisation:
                return _own(route, snapshot)
        elif _may_pass(asked, caller):
            route = snapshot.routes.get((organisation, ANY))
            if route is not None and route.organisation == organisation:
                targets = _concrete(route, asked, snapshot)
                if targets:
                    return replace(route, targets=targets)
    raise _unknown(asked)


def resolve_direct(call: Call, caller: Caller, snapshot: Snapshot, node: str) -> Route:
    """A route to the node of that name alone, for a model it lists. Its name in the books is `nodes/<name>`.

    Raises `UnknownModel` with the text of an unknown model, whether the node does not exist, belongs to somebody else,
    does not list the model, or the key may not use it.
    """
    found = _node(caller, snapshot, node)
    if found is None or call.model not in found.models or not _may_ask(call.model, caller):
        raise _unknown(call.model)
    return Route(found.organisation, DIRECT + found.name, (Target(found.id, call.model),))


def visible_direct(caller: Caller, snapshot: Snapshot, node: str) -> list[str]:
    """Models this key may ask the node of that name for, sorted; empty also if there is no such node."""
    found = _node(caller, snapshot, node)
    if found is None or not found.enabled or not found.trust.within(caller.trust):
        return []
    return sorted(model for model in found.models if _may_ask(model, caller))


def visible(caller: Caller, snapshot: Snapshot) -> list[str]:
    """Model ids this key may use, sorted: its routes, and for `*` the models its upstreams list.

    Left out is what no target within the caller's organisation and trust ceiling serves.
    """
    names: set[str] = set()
    for (organisation, name), route in snapshot.routes.items():
        if organisation != caller.organisation or route.organisation != organisation:
            continue
        reachable = [
            (target, upstream)
            for target, upstream in _with_upstream(route.targets, organisation, snapshot)
            if upstream.enabled and upstream.trust.within(caller.trust)
        ]
        if name != ANY:
            if reachable and _may_use(name, caller):
                names.add(name)
            continue
        for target, upstream in reachable:
            if target.model == ANY:
                # A route of its own comes before the passed-through model of the same name.
                passed = (model for model in upstream.models if (organisation, model) not in snapshot.routes)
                names.update(model for model in passed if _may_pass(model, caller))
    return sorted(names)


def _node(caller: Caller, snapshot: Snapshot, name: str) -> Upstream | None:
    """The upstream of the caller's own node of that name."""
    node = snapshot.nodes.get((caller.organisation, name))
    upstream = snapshot.upstreams.get(node.id) if node is not None else None
    if upstream is None or upstream.provider != NODE or upstream.organisation != caller.organisation:
        return None
    return upstream


def _unknown(asked: str) -> UnknownModel:
    shown = asked if len(asked) <= _SHOWN else asked[:_SHOWN] + "…"
    return UnknownModel(f"The model '{shown}' does not exist or you do not have access to it.", param="model")


def _may_ask(model: str, caller: Caller) -> bool:
    """May this key ask a node for `model`, whatever routes there are?"""
    return caller.models is None or model in caller.models


def _may_use(name: str, caller: Caller) -> bool:
    """May this key reach the route of this very name?"""
    return name in caller.models if caller.models is not None else not name.startswith(UNLISTED)


def _may_pass(model: str, caller: Caller) -> bool:
    """May this key reach `model` through the `*` route? By the model's name, or by a grant of `*` itself."""
    return caller.models is None or model in caller.models or ANY in caller.models


def _own(route: Route, snapshot: Snapshot) -> Route:
    targets = tuple(target for target, _ in _with_upstream(route.targets, route.organisation, snapshot))
    return route if len(targets) == len(route.targets) else replace(route, targets=targets)


def _concrete(route: Route, asked: str, snapshot: Snapshot) -> tuple[Target, ...]:
    """The targets of a `*` route that serve `asked`. One with a model of its own answers for any name."""
    return tuple(
        Target(target.upstream, asked, target.weight, target.tier) if target.model == ANY else target
        for target, upstream in _with_upstream(route.targets, route.organisation, snapshot)
        if target.model != ANY or asked in upstream.models or not (upstream.models or upstream.provider == NODE)
    )


def _with_upstream(
    targets: Iterable[Target], organisation: str, snapshot: Snapshot
) -> Iterable[tuple[Target, Upstream]]:
    for target in targets:
        upstream = snapshot.upstreams.get(target.upstream)
        if upstream is not None and upstream.organisation == organisation:
            yield target, upstream
