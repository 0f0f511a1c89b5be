"""The smoke checklist: what to ask of a live configuration, and how to read the answers. Deciding only.

What it needs for a moment (routes, an upstream that nobody answers at, an API key) has names of its own, always the
same: a run that was killed is cleaned up by the next one, and books and metrics do not fill with the names of runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from intertie.controlplane.places import members, word
from intertie.core.routing.resolve import ANY, UNLISTED

KEY: Final = "intertie-smoke"
BROKEN: Final = "intertie-smoke-closed"
"""The upstream that nobody answers at."""
PROMPT: Final = "Reply with one short sentence: what is a gateway?"
MAX_TOKENS: Final = 48


class Outcome(StrEnum):
    """How a line of the checklist ended."""

    OK = "ok"
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Line:
    """One line of the checklist. Figures are of one call; `cost` is decimal text, `None` if the price is unknown."""

    check: str
    """route, target, failover, cleanup."""
    subject: str
    outcome: Outcome
    note: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: str | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    attempts: int | None = None


@dataclass(frozen=True)
class Probe:
    """A temporary route: its name, and the targets it is made of."""

    route: str
    subject: str
    targets: tuple[Mapping[str, Any], ...]
    alone: bool = False
    """Failover only: nothing else could take over, so the same target stands behind the failing one."""

    def entry(self) -> dict[str, Any]:
        """The route as the admin API takes it. Tiers make the order certain, whatever the strategy does."""
        targets = [{**target, "tier": tier} for tier, target in enumerate(self.targets)]
        return {"model": self.route, "strategy": "priority", "deadline": 120, "targets": targets}


@dataclass(frozen=True)
class Plan:
    """What a run asks. `skipped` are lines that cannot be tried, each saying why."""

    routes: tuple[tuple[str, str], ...]
    """(route, model to ask it for)."""
    targets: tuple[Probe, ...]
    failovers: tuple[Probe, ...]
    skipped: tuple[Line, ...] = ()

    @property
    def names(self) -> list[str]:
        """Every route and model the temporary key must be allowed to ask for."""
        asked = {name for pair in self.routes for name in pair}
        return sorted(asked | {probe.route for probe in (*self.targets, *self.failovers)})


class _Place(NamedTuple):
    """Somewhere a target may be: what is listed there, why it cannot be tried now, and a node's labels."""

    models: tuple[str, ...]
    off: str
    labels: tuple[str, ...] = ()
    paused: frozenset[str] = frozenset()

    def why_not(self, model: str) -> str:
        """Why this model cannot be tried here now; empty if it can."""
        return self.off or ("an operator paused it" if self.paused & {ANY, model} else "")


def plan(
    routes: Sequence[Mapping[str, Any]],
    upstreams: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]] = (),
) -> Plan:
    """The checklist for these routes, upstreams and nodes, given in the admin API's shapes.

    A label stands for the nodes that carry it. Nodes that take no work now cannot be tried.
    """
    known = _places(upstreams, nodes)
    asked: list[tuple[str, str]] = []
    skipped: list[Line] = []
    singles: dict[tuple[str, str], None] = {}
    chains: list[tuple[str, list[tuple[str, str]]]] = []
    for route in routes:
        if route["model"].startswith(UNLISTED):
            continue
        concrete = _concrete(route, known)
        if not concrete:
            star = "passes any model through, and its upstreams list none: nothing to ask for"
            reason = star if route["model"] == ANY else "no node serves it yet"
            skipped.append(Line("route", route["model"], Outcome.NOT_TRIED, reason))
            continue
        asked.append((route["model"], concrete[0][1] if route["model"] == ANY else route["model"]))
        why = {pair: known[pair[0]].why_not(pair[1]) for pair in concrete}
        live = [pair for pair in concrete if not why[pair]]
        singles |= dict.fromkeys(live)
        skipped += [Line("target", "/".join(pair), Outcome.NOT_TRIED, told) for pair, told in why.items() if told]
        if live:
            chains.append((route["model"], live))
    targets = tuple(Probe(f"{UNLISTED}target-{n}", "/".join(pair), (_target(pair),)) for n, pair in enumerate(singles))
    failovers = tuple(_failover(n, *chain) for n, chain in enumerate(chains))
    return Plan(tuple(asked), targets, failovers, tuple(dict.fromkeys(skipped)))


def broken_upstream(port: int) -> dict[str, Any]:
    """An upstream at a loopback port that nobody listens on: every connection is refused at once."""
    return {
        "name": BROKEN,
        "provider": "openai_compatible",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "trust": "own",
        "timeouts": {"connect": 1},
    }


def chat(model: str, *, stream: bool) -> dict[str, Any]:
    """The one prompt that every target gets, so that answers compare."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": MAX_TOKENS}
    return body | {"stream": True, "stream_options": {"include_usage": True}} if stream else body


def embedding(model: str) -> dict[str, Any]:
    """What a model that does not chat is asked instead."""
    return {"model": model, "input": PROMPT}


def leftovers(routes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The temporary routes among these: ours, or those of a run that was killed."""
    return [str(row["model"]) for row in routes if str(row["model"]).startswith(UNLISTED)]


def verdict(lines: Sequence[Line]) -> bool:
    """True if nothing that was tried failed, and something was tried."""
    outcomes = [line.outcome for line in lines]
    return Outcome.FAILED not in outcomes and Outcome.OK in outcomes


def _places(upstreams: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> dict[str, _Place]:
    found = {}
    for row in upstreams:
        models = tuple(model["name"] for model in row["models"])
        off = "" if row["enabled"] else "its upstream is disabled"
        found[row["name"]] = _Place(models, off, paused=frozenset(row["paused"]))
    for row in nodes:
        models = tuple(model["name"] for model in row["models"])
        serves = row["state"] == "active" and row["serving"] == "serving" and not row["drained"]
        off = "" if serves else f"the node takes no work now: {row['reason'] or row['serving']}"
        found[word({"node": row["name"]})] = _Place(models, off, tuple(row["labels"]))
    return found


def _concrete(route: Mapping[str, Any], known: Mapping[str, _Place]) -> list[tuple[str, str]]:
    """(place, model) of each target; a target of `*` stands for the first model that is listed there."""
    pairs = []
    for target in route["targets"]:
        place, model = word(target), target["model"]
        label = target.get("node_label")
        places = [place] if label is None else [one for one, found in known.items() if label in found.labels]
        for one in places:
            listed = known[one].models if one in known else ()
            if model == ANY and listed:
                pairs.append((one, listed[0]))
            elif model != ANY and one in known and (label is None or model in listed):
                pairs.append((one, model))
    return list(dict.fromkeys(pairs))


def _failover(n: int, route: str, live: list[tuple[str, str]]) -> Probe:
    """The route with its first target replaced by one that fails; with no other target, the same one takes over."""
    behind = live[1:] or live[:1]
    # Its own model name per route: three refused connections would open the circuit, and nothing would be asked.
    closed = {"upstream": BROKEN, "model": f"closed-{n}"}
    targets = (closed, *(_target(pair) for pair in behind[:2]))
    return Probe(f"{UNLISTED}failover-{n}", route, targets, alone=len(live) == 1)


def _target(pair: tuple[str, str]) -> dict[str, Any]:
    return {**members(pair[0]), "model": pair[1]}
