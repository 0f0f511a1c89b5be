"""What relates the entries of a document: names used twice, references to nothing, secrets used twice.

Works on the raw mapping and steps over whatever is malformed, so that these problems are reported together with those
of single fields.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from intertie.controlplane.places import word
from intertie.core.providers import load
from intertie.core.terms import NODE


class Problem(NamedTuple):
    """One thing wrong: where (`upstreams[0].base_url`), what, and what to do."""

    path: str
    message: str
    hint: str = ""


def problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything wrong between the entries of a document."""
    yield from _twice(raw, "upstreams", "", "name")
    yield from _twice(raw, "routes", "", "model")
    yield from _twice(raw, "projects", "", "name")
    yield from _twice(raw, "members", "", "email")
    yield from _rules_twice(raw)
    yield from _twice(raw, "models", "", "name")
    for path, project in _items(raw, "projects", ""):
        yield from _twice(project, "keys", path, "name")
    for path, upstream in _items(raw, "upstreams", ""):
        yield from upstream_problems(upstream, f"{path}.")
    yield from _keys_used_twice(raw)
    yield from _references(raw)


def upstream_problems(upstream: Mapping[str, Any], path: str = "") -> Iterator[Problem]:
    """Everything wrong between the fields of one upstream; `path` ends in a dot or is empty."""
    adapter = load().get(provider) if isinstance(provider := upstream.get("provider"), str) else None
    if adapter is not None and adapter.base_url is None and upstream.get("base_url") is None and provider != NODE:
        yield Problem(f"{path}base_url", "is required", f"{adapter.kind} has no address of its own")
    yield from _twice(upstream, "models", path.removesuffix("."), "name")
    seen: dict[str, str] = {}
    for at, credential in _items(upstream, "credentials", path.removesuffix(".")):
        source = next((f"{kind} {credential[kind]}" for kind in ("env", "file") if credential.get(kind)), None)
        if source is not None and (first := seen.setdefault(source, at)) != at:
            yield Problem(at, f"is the same secret as {first}", "remove one")


def nearest(name: object, known: Iterator[str] | list[str] | Mapping[str, Any]) -> str:
    """A hint naming the closest of the `known` names, or nothing."""
    alike = 0.9 if "@" in str(name) else 0.6  # addresses of one house have most of their letters in common
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=alike)
    return f"did you mean {found[0]}?" if found else ""


def _references(raw: Mapping[str, Any]) -> Iterator[Problem]:
    names = [str(upstream.get("name")) for _, upstream in _items(raw, "upstreams", "")]
    for path, route in _items(raw, "routes", ""):
        for at, target in _items(route, "targets", path):
            model = target.get("model")
            if route.get("model") == "*" and model is not None and model != "*":
                yield Problem(f"{at}.model", "a target of the route * passes the model asked for", "leave `model` out")
        yield from _targets(route, _items(route, "targets", path), names, "use `weight` to send it more")
        if isinstance(shadow := route.get("shadow"), dict):
            yield from _targets(route, _items(shadow, "targets", f"{path}.shadow"), names, "one copy is enough")


def _targets(
    route: Mapping[str, Any], targets: Iterator[tuple[str, Mapping[str, Any]]], names: list[str], if_twice: str
) -> Iterator[Problem]:
    """What holds for targets and shadow targets alike."""
    seen: dict[tuple[str, str], str] = {}
    for at, target in targets:
        upstream, node, model = target.get("upstream"), target.get("node"), target.get("model")
        if isinstance(upstream, str) and upstream not in names:
            hint = nearest(upstream, names) or f"declare it under `upstreams`; a machine is {{node: {upstream}}}"
            yield Problem(f"{at}.upstream", f"no upstream is named {upstream!r}", hint)
        if isinstance(node, str) and node in names:
            yield Problem(f"{at}.node", f"{node} is an upstream, not a node", f"write {{upstream: {node}}}")
        if route.get("model") != "*" and model == "*":
            yield Problem(f"{at}.model", "only the route * passes any model", "name the upstream's model")
        if place := word(target):
            first = seen.setdefault((place, str(model or route.get("model"))), at)
            if first != at:
                yield Problem(at, f"is the same target as {first}", if_twice)


def _rules_twice(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """A rule without a name is called by its place, which must not be what another one is called."""
    rules = raw.get("rules")
    seen: dict[str, str] = {}
    for place, rule in enumerate(rules if isinstance(rules, list) else [], start=1):
        at, name = f"rules[{place - 1}]", rule.get("name") if isinstance(rule, dict) else None
        called = name if isinstance(name, str) else f"rule-{place}"
        if (first := seen.setdefault(called, at)) != at:
            yield Problem(f"{at}.name", f"{called!r} is already the name of {first}", "names must differ")


def _keys_used_twice(raw: Mapping[str, Any]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for path, project in _items(raw, "projects", ""):
        for at, key in _items(project, "keys", path):
            value = key.get("value")
            if not isinstance(value, dict):
                continue
            source = next((f"{kind} {value[kind]}" for kind in ("env", "file") if value.get(kind)), None)
            if source is not None and (first := seen.setdefault(source, at)) != at:
                yield Problem(f"{at}.value", f"is the same secret as {first}.value", "give each key its own")


def _twice(parent: Mapping[str, Any], section: str, path: str, field: str) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for at, item in _items(parent, section, path):
        name = item.get(field)
        if isinstance(name, str) and (first := seen.setdefault(_same(field, name), at)) != at:
            yield Problem(f"{at}.{field}", f"{name!r} is already the {field} of {first}", "names must differ")


def _same(field: str, name: str) -> str:
    """What two names have in common that mean the same."""
    return name.lower() if field == "email" else name


def _items(parent: Mapping[str, Any], section: str, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and content of each well-formed item of a list; a bare string counts as an item with that name."""
    found = parent.get(section)
    for index, item in enumerate(found if isinstance(found, list) else []):
        at = f"{path}.{section}[{index}]" if path else f"{section}[{index}]"
        if isinstance(item, dict):
            yield at, item
        elif isinstance(item, str):
            yield at, {"name": item}
