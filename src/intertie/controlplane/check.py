"""What is allowed but probably not meant: warnings about a document that parses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from intertie.controlplane.addresses import is_public
from intertie.controlplane.config import Document, Problem
from intertie.controlplane.consistency import nearest
from intertie.controlplane.embedder import REMEDY, missing
from intertie.controlplane.entries import PriceEntry, RouteEntry, ShadowTargetEntry, TargetEntry, UpstreamEntry
from intertie.core.keeping import LOCAL
from intertie.core.terms import Price, Trust

_FAR: int = 20
"""A price this many times the catalogue's, or this small a part of it, is taken for a slip of the decimal point."""


def check(document: Document, prices: Callable[[str, str], Price | None]) -> list[Problem]:
    """Warnings about a parsed document, resolved or not. `prices(provider, model)` is the catalogue."""
    upstreams = {upstream.name: upstream for upstream in document.upstreams}
    found = [*_upstreams(document), *_prices(document, prices), *_keys(document), *_embeddings(document)]
    for index, route in enumerate(document.routes):
        found += _route(f"routes[{index}]", route, upstreams, prices)
    return found


def _upstreams(document: Document) -> Iterator[Problem]:
    used = {target.upstream for route in document.routes for target in route.targets}
    used |= {target.upstream for route in document.routes for target in _shadows(route)}
    for index, upstream in enumerate(document.upstreams):
        path = f"upstreams[{index}]"
        address = upstream.base_url or ""
        if upstream.name not in used:
            yield Problem(path, f"no route sends to {upstream.name}", "name it as a target, or remove it")
        if address.startswith("http://") and is_public(address) and upstream.credentials:
            yield Problem(f"{path}.base_url", "sends credentials unencrypted over the network", "use https://")
        if address.count("/") == 2:
            yield Problem(f"{path}.base_url", "has no path", "most OpenAI-compatible addresses end in /v1")
        if is_public(address) and upstream.trust is Trust.OWN:
            yield Problem(f"{path}.trust", f"{upstream.name} is called `own` but its address is public", "is it yours?")


def _prices(document: Document, prices: Callable[[str, str], Price | None]) -> Iterator[Problem]:
    for index, upstream in enumerate(document.upstreams):
        for at, model in enumerate(upstream.models):
            known = prices(upstream.provider, model.name)
            if model.price is not None and known is not None and _far(model.price, known):
                yield Problem(
                    f"upstreams[{index}].models[{at}].price",
                    f"is far from the catalogue's ({known.input / 1e6:g} in, {known.output / 1e6:g} out)",
                    "is it per million tokens, in whole units?",
                )


def _far(own: PriceEntry, known: Price) -> bool:
    pairs = ((own.input, known.input), (own.output, known.output))
    return any(mine and theirs and not theirs / _FAR <= mine <= theirs * _FAR for mine, theirs in pairs)


def _route(
    path: str, route: RouteEntry, upstreams: dict[str, UpstreamEntry], prices: Callable[[str, str], Price | None]
) -> Iterator[Problem]:
    similar = route.cache.similar if route.cache is not None else None
    if similar is not None and similar.embeddings == LOCAL and (absent := missing()):
        lacking = f"needs the local embedding model, and this machine lacks {', '.join(absent)}"
        yield Problem(f"{path}.cache.similar", lacking, f"where the gateway runs, {REMEDY}")
    alone = len(route.targets) == 1 and route.targets[0].node_label is None
    if alone:
        yield Problem(path, f"{route.model} has one target, so nothing takes over when it fails", "add a second")
    if alone and route.hedge is not None:
        yield Problem(f"{path}.hedge", "there is no second target to ask", "add one at another address")
    places: dict[str, TargetEntry | ShadowTargetEntry] = {}
    places |= {f"{path}.targets[{at}]": target for at, target in enumerate(route.targets)}
    places |= {f"{path}.shadow.targets[{at}]": target for at, target in enumerate(_shadows(route))}
    for where, target in places.items():
        if target.upstream is None:
            continue  # a node: what it serves, it tells the gateway
        upstream = upstreams[target.upstream]
        model = target.model or route.model
        listed = {entry.name: entry.price for entry in upstream.models}
        if not upstream.enabled:
            yield Problem(where, f"{upstream.name} is not enabled", "it gets no calls until it is")
        if model == "*":
            continue
        if listed and model not in listed:
            near = nearest(model, listed)
            yield Problem(
                where, f"{upstream.name} does not list the model {model}", near or "list it under its `models`"
            )
        if listed.get(model) is None and prices(upstream.provider, model) is None:
            yield Problem(where, f"the price of {model} on {upstream.name} is unknown", "give it a `price`")


def _embeddings(document: Document) -> Iterator[Problem]:
    routes = [route.model for route in document.routes]
    for index, route in enumerate(document.routes):
        similar = route.cache.similar if route.cache is not None else None
        if similar is not None and similar.embeddings not in (LOCAL, *routes) and "*" not in routes:
            hint = nearest(similar.embeddings, routes) or "right if a node serves this model"
            where = f"routes[{index}].cache.similar.embeddings"
            yield Problem(where, f"there is no route {similar.embeddings}", hint)


def _shadows(route: RouteEntry) -> list[ShadowTargetEntry]:
    return route.shadow.targets if route.shadow is not None else []


def _keys(document: Document) -> Iterator[Problem]:
    routes = {route.model for route in document.routes}
    members = {member.email for member in document.members}
    keys = [
        (f"projects[{index}].keys[{at}]", key)
        for index, project in enumerate(document.projects)
        for at, key in enumerate(project.keys)
    ]
    if not keys:
        yield Problem("projects", "no API key is declared", "make one with: intertie keys create NAME")
    for path, key in keys:
        if key.member is not None and key.member not in members:
            near = nearest(key.member, sorted(members)) or "right if a command added them"
            yield Problem(f"{path}.member", f"{key.member} is not among `members`", near)
        if not routes or key.models == []:
            yield Problem(path, f"the key {key.name} can use no route", "declare routes, or list them under `models`")
        for model in key.models or []:
            if model not in routes and "*" not in routes:
                hint = nearest(model, list(routes)) or "right if a node serves this model"
                yield Problem(f"{path}.models", f"there is no route {model}", hint)
